// The stages of a funnel but for what becomes of the last.
#include <algorithm>

#include "crowd.hpp"
#include "funnel_run.hpp"

namespace mrl {

using walk_rule::kLeastPool, walk_rule::kMostPool;

namespace {

// The margin is measured from this answer, or from the last one where more are wanted.
constexpr std::size_t kWatched = 10;
// A walk reads some twenty new lines a hop, and needs as many times more hops as fewer rows are
// allowed; a list is read at thrice the speed, as its next lines are known.
constexpr double kLinesPerHop = 20.0, kListSpeed = 3.0;
constexpr std::size_t kFetched = 32 << 10;  // bytes: the first-level cache holds half as much again

}  // namespace

void FunnelRun::first_stage() {
    candidates_.clear();
    if (plan_.last() == 0) return list_allowed();
    std::size_t rows_read = 0;
    for (wider_ = 1;; wider_ *= crowd::kWider) {
        const std::size_t keep = wider_ * stages()[0].keep;
        candidates_.clear();
        rows_read += shortlist(keep);
        const crowd::Next next =
            crowd::next(candidates_, {keep, stages().back().keep, wider_, allowed_, rows_},
                        [&](float worst) { return resolution(0, worst); });
        if (next == crowd::Next::wider) continue;
        if (next == crowd::Next::scan) rows_read += scan_crowd();
        break;
    }
    count(0, rows_read, candidates_.size());
}

std::size_t FunnelRun::shortlist(std::size_t keep) {
    left_out_ = kInfinity;
    if (plan_.walks && keep < allowed_ && !few_allowed()) return walk(keep);
    const Selection* selection = request_.selection;
    if (selection != nullptr && selection->is_listed()) return scan_selection(*selection, keep);
    return scan_all(keep);
}

float FunnelRun::resolution(std::size_t number, float score) const {
    if (plan_.codes(number).by_slot()) {
        const crowd::Width width{wider_, stages()[0].keep, stages().back().keep};
        return crowd::line_resolution(query_.lengths, score, width, store_.dims(), store_.lines);
    }
    if (!plan_.is_of_rows(number)) return 0;
    return crowd::kRowResolution * store_.rows.noise(query_.row, candidates_.front().row);
}

void FunnelRun::list_allowed() {
    const Selection* selection = request_.selection;
    if (selection == nullptr || !selection->is_listed()) {
        for (std::uint32_t row = 0; row < rows_; ++row) {
            if (!filtered_ || filter_.allows_row(row)) candidates_.push_back({0.0f, row});
        }
        return;
    }
    const auto take = [&](const std::vector<std::uint32_t>& rows) {
        for (const std::uint32_t row : rows) {
            if (filter_.allows_row(row)) candidates_.push_back({0.0f, row});
        }
    };
    take(selection->then->list);
    take(selection->unlisted());
}

bool FunnelRun::few_allowed() const {
    const double walked = kLinesPerHop * static_cast<double>(plan_.plan->effort) *
                          static_cast<double>(rows_) / static_cast<double>(allowed_ + 1);
    return request_.selection != nullptr && static_cast<double>(allowed_) < kListSpeed * walked;
}

std::size_t FunnelRun::walk(std::size_t keep) {
    left_out_ = -kInfinity;
    const double share = static_cast<double>(allowed_) / static_cast<double>(rows_);
    const auto stretched = [share](std::size_t n) {
        return static_cast<std::size_t>(static_cast<double>(n) / share);
    };
    const std::size_t effort = plan_.plan->effort;
    const float margin =
        crowd::margin_of(effort, wider_, plan_.plan->margin, store_.lines.spread());
    WalkOptions options{
        .hops = stretched(wider_ * effort),
        .pool = std::min(kMostPool,
                         stretched(std::max({wider_ * effort, kLeastPool, keep + keep / 2}))),
        .k = std::max(kWatched, stages().back().keep),
        .margin = margin * query_unit(query_.lengths, store_.lines),
        .refine = store_.dims() >= walk_rule::kRefinedDims};
    if (filter_.hidden != Keys::kNone) {
        options.hidden = store_.slot_of(filter_.hidden);
        const auto detour = request_.hidden->detours.find(options.hidden);
        if (detour != request_.hidden->detours.end()) options.detour = &detour->second;
    }
    walk_graph(kernels_, {store_.links, store_.entries, store_.lines}, query_.line, options,
               filter(), scratch_.walk);

    const StageCodes& lines = plan_.codes(0);
    const std::size_t widened = lines.widening() * keep;
    Pool& pool = scratch_.walk.pool;
    if (!filtered_ && !options.refine) kernels_.pool_cut(&pool, widened);
    for (std::size_t i = 0; i < pool.size; ++i) {
        if (!filtered_ || filter_.allows_slot(pool.id[i])) {
            candidates_.push_back({pool.key[i], pool.id[i]});
        }
    }
    if (waiting_ != 0) scan_waiting(options.refine, options.refine ? keep : widened);
    if (!options.refine) {
        if (candidates_.size() > widened + widened / 4) cut(widened);
        score(lines);
    }
    cut(keep);
    to_rows();
    return scratch_.walk.scored;
}

void FunnelRun::scan_waiting(bool by_both_planes, std::size_t keep) {
    scan(kernels_, LineStage(store_.lines, by_both_planes), query_,
         {store_.waiting.data(), waiting_}, keep, filter(), candidates_);
}

std::size_t FunnelRun::scan_selection(const Selection& selection, std::size_t keep) {
    const bool by_slot = plan_.codes(0).by_slot();
    const auto& list = by_slot ? selection.then->slots : selection.then->list;
    std::vector<std::uint32_t> others = selection.unlisted();
    if (by_slot) {
        for (std::uint32_t& row : others) row = store_.slot_of(row);
    }
    // Where nothing was deleted and no number changed hands since, all of the list is still
    // what was selected.
    const bool untouched = store_.epoch == selection.epoch && store_.dead == 0 &&
                           selection.turned.size() == 0 && filter_.hidden == Keys::kNone;
    scan_codes({list.data(), list.size()}, {others.data(), others.size()}, keep,
               untouched ? nullptr : &filter_);
    return list.size() + others.size();
}

std::size_t FunnelRun::scan_crowd() {
    wider_ = crowd::kWidest;
    candidates_.clear();
    const std::size_t read = scan_all(rows_);
    crowd::keep_unresolved(candidates_, stages().back().keep,
                           [&](float kth) { return resolution(0, kth); });
    leave_out(plan_.codes(0));
    return read;
}

std::size_t FunnelRun::scan_all(std::size_t keep) {
    const std::size_t rows = rows_;  // a scan that gives way looks again
    scan_codes({nullptr, rows}, {nullptr, 0}, keep, filter());
    return rows;
}

void FunnelRun::scan_codes(Scanned scanned, Scanned others, std::size_t keep,
                           const RowFilter* filter) {
    const StageCodes& codes = plan_.codes(0);
    const std::size_t widened = keep >= scanned.n + others.n
                                    ? keep
                                    : codes.widening() * keep;  // where all stay, all are scored
    codes.prepare(query_);
    const Look then = looked();
    scan(kernels_, codes, query_, scanned, widened, filter, candidates_, &turn_);
    if (others.n != 0) scan(kernels_, codes, query_, others, widened, filter, candidates_, &turn_);
    if (turn_.given() != then.given) catch_up(codes, then);
    if (codes.widening() > 1) {
        cut(widened);
        score(codes);
    }
    cut(keep);
    if (candidates_.size() >= keep && keep < allowed_) leave_out(codes);
    if (codes.by_slot()) to_rows();
}

void FunnelRun::leave_out(const StageCodes& codes) {
    if (!codes.is_of_rows()) {
        left_out_ = -kInfinity;
        return;
    }
    float worst = -kInfinity;
    for (const Candidate& candidate : candidates_) worst = std::max(worst, candidate.score);
    left_out_ = std::min(left_out_, worst);
}

void FunnelRun::later_stage(std::size_t number) {
    const StageCodes& codes = plan_.codes(number);
    const std::size_t rows_in = candidates_.size(), keep = wider_ * stages()[number].keep;
    codes.prepare(query_);
    if (plan_.is_of_rows(number)) fetch_ahead(keep);
    if (codes.by_slot()) {
        for (Candidate& candidate : candidates_) candidate.row = store_.slot_of(candidate.row);
    }
    score(codes);
    if (codes.by_slot()) to_rows();
    if (rows_in > keep) {
        keep_best(kernels_, candidates_, keep, stages().back().keep,
                  [&](float kth) { return resolution(number, kth); });
        if (candidates_.size() < rows_in) leave_out(codes);
    }
    count(number, rows_in, candidates_.size());
}

void FunnelRun::fetch_ahead(std::size_t keep) {
    const std::size_t n = candidates_.size();
    if (n == 0 || n > kRanked || !store_.rows.keeps_vectors()) return;
    for (const Candidate& candidate : candidates_) store_.rows.fetch_code(candidate.row);
    std::uint16_t ranks[kRanked];
    rank_candidates(kernels_, candidates_.data(), n, ranks);
    const std::size_t likely = std::min(keep * 3 / 4, kFetched / (store_.dims() * sizeof(float)));
    for (std::size_t i = 0; i < n; ++i) {
        if (ranks[i] < likely) store_.rows.fetch_vector(candidates_[i].row);
    }
}

void FunnelRun::score(const StageCodes& codes) {
    const std::size_t n = candidates_.size();
    scratch_.ids.resize(n);
    scratch_.scores.resize(n);
    for (std::size_t i = 0; i < n; ++i) scratch_.ids[i] = candidates_[i].row;
    codes.score_at(kernels_, query_, scratch_.ids.data(), n, scratch_.scores.data());
    for (std::size_t i = 0; i < n; ++i) candidates_[i].score = scratch_.scores[i];
}
}  // namespace mrl
