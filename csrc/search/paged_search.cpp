#include "paged_search.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../kernels/dispatch.hpp"
#include "crowd.hpp"
#include "plan.hpp"

namespace mrl {

namespace {

constexpr std::size_t kMostPool = 8192;

// What a damaged page says may be no number, and what is sorted must be.
float sortable(float score) { return score == score ? score : kInfinity; }

float length_of(const float* z) {
    float square = 0;
    for (std::size_t c = 0; c < kLineCoordinates; ++c) square += z[c] * z[c];
    return std::sqrt(square);
}

}  // namespace

void PagedSearch::prepare(const Source& source, const MrlPageHost& host, const float* query,
                          const PagedOptions& options) {
    source_ = &source;
    meta_ = &source.meta;
    host_ = host;
    options_ = options;
    kernels_ = &kernels();
    copied_ = must_copy_ = gathers_ = false;
    candidates_.clear();
    hits_.clear();
    hops_ = next_ = 0;
    wider_ = 1;
    source.rows.prepare(query, row_query_);
    float coordinates[kLineCoordinates];
    source.projection.project(row_query_, coordinates);
    source.lines.prepare(coordinates, line_query_);
    unit_ = source.rows.metric() == Metric::cosine ? 1.0f : length_of(coordinates) / meta_->unit;
    margin_ = margin_of_effort(options.effort) * unit_;
    refine_ = source.rows.dims() >= kRefinedDims;
}

void PagedSearch::begin(const Source& source, const MrlPageHost& host, const float* query,
                        const PagedOptions& options) {
    prepare(source, host, query, options);
    begin_walk();
}

void PagedSearch::begin_walk() {
    pool_keep_ = std::min(
        kMostPool, std::max({options_.effort, std::size_t{32}, options_.keep + options_.keep / 2}));
    walk_.prepare(meta_->linked, pool_keep_, source_->entries.size());
    enter(*kernels_, source_->entries, line_query_, walk_);
    // Links may lead to slots that wait already; they are looked at for themselves.
    for (std::uint32_t i = 0; i < meta_->reused; ++i) {
        const std::uint32_t slot = meta_->reused_slots[i];
        if (slot < meta_->linked && walk_.first_visit(slot)) walk_.met(&slot, 1);
    }
    state_ = State::pop;
}

void PagedSearch::begin_gather(const Source& source, const MrlPageHost& host, const float* query) {
    begin(source, host, query, {kGatherHops, kGathered, 1});
    pool_keep_ = kGatherPool;
    margin_ = kInfinity;
    gathers_ = true;
}

void PagedSearch::begin_scan(const Source& source, const MrlPageHost& host, const float* query,
                             const PagedOptions& options, bool codes) {
    prepare(source, host, query, options);
    codes_ = codes;
    worst_ = kInfinity;
    walk_.scored = 0;
    next_scan();
}

void PagedSearch::begin_score(const Source& source, const MrlPageHost& host, const float* query,
                              const std::uint32_t* slots, std::size_t n) {
    prepare(source, host, query, {1, n, n});
    walk_.scored = n;
    for (std::size_t i = 0; i < n; ++i) candidates_.push_back({0.0f, slots[i]});
    next_rows();
}

Step PagedSearch::step() {
    while (state_ != State::done) {
        if (state_ == State::pop) {
            pop();
            continue;
        }
        if (!answered()) return Step::pages;
        switch (state_) {
            case State::links:
                use_links();
                break;
            case State::lines:
            case State::tail:
                use_lines();
                break;
            case State::both:
                use_both();
                break;
            case State::rows:
                use_rows();
                break;
            default:
                use_scan();
                break;
        }
    }
    return Step::done;
}

// Asking and reading

void PagedSearch::ask(int section, std::uint32_t n, std::uint32_t bytes) {
    request_ = {section, n, pages_, offsets_, bytes, nullptr};
}

void PagedSearch::ask_items(int section, const std::uint32_t* slots, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        pages_[i] = slots[i] / MRL_ITEMS;
        offsets_[i] = MRL_PAGE_HEAD + slots[i] % MRL_ITEMS * MRL_ITEM_BYTES;
    }
    ask(section, n, MRL_ITEM_BYTES);
}

bool PagedSearch::answered() {
    if (copied_) return true;
    if (host_.find != nullptr && !must_copy_) {
        request_.copies = nullptr;
        return host_.find(host_.self, request_.section, pages_, request_.n, frames_) == 0;
    }
    copies_.resize(std::size_t{request_.n} * request_.bytes);
    request_.copies = copies_.data();
    return false;
}

// Whether what was read may be used; if not, the same request is out again, for copies.
bool PagedSearch::still_true() {
    if (copied_) {
        copied_ = must_copy_ = false;
        return true;
    }
    must_copy_ = !host_.unmoved(host_.self, request_.section, pages_, request_.n, frames_);
    return !must_copy_;
}

const std::uint8_t* PagedSearch::at(std::uint32_t i) const {
    if (copied_) return copies_.data() + std::size_t{i} * request_.bytes;
    return host_.base + std::size_t{frames_[i] - 1} * MRL_PAGE_BYTES + offsets_[i];
}

// Scores of the lines that were asked for. The kernels find a line by its number from a base: that
// of the copies or of all frames.
void PagedSearch::score_lines(std::uint32_t n, bool both, float* scores) {
    alignas(64) std::uint32_t ids[kBatch];
    const std::uint8_t* base = copied_ ? copies_.data() : host_.base;
    for (std::uint32_t i = 0; i < n; ++i) {
        ids[i] = copied_
                     ? i * (MRL_ITEM_BYTES / kLineBytes)
                     : (frames_[i] - 1) * (MRL_PAGE_BYTES / kLineBytes) + offsets_[i] / kLineBytes;
        __builtin_prefetch(base + std::size_t{ids[i]} * kLineBytes);
    }
    if (both) {
        kernels_->score_both(&line_query_, base, base + kLineBytes, ids, n, scores);
    } else {
        kernels_->score_high(&line_query_, base, ids, n, scores);
    }
}

// Shortlist

void PagedSearch::end_walk() {
    Pool& pool = walk_.pool;
    if (!refine_) kernels_->pool_cut(&pool, kHighKeep * options_.keep);
    if (gathers_) {
        for (std::size_t i = 0; i < pool.size; ++i) walk_.popped.push_back(pool.id[i]);
        std::sort(walk_.popped.begin(), walk_.popped.end());
        walk_.popped.erase(std::unique(walk_.popped.begin(), walk_.popped.end()),
                           walk_.popped.end());
        for (const std::uint32_t slot : walk_.popped) hits_.push_back({slot, 0.0f, 0.0f, 0.0f});
        state_ = State::done;
        return;
    }
    for (std::size_t i = 0; i < pool.size; ++i) candidates_.push_back({pool.key[i], pool.id[i]});
    next_ = 0;
    if (refine_) {
        end_shortlist();
    } else {
        next_both();
    }
}

void PagedSearch::next_both() {
    n_met_ =
        std::min<std::uint32_t>(kBatch, static_cast<std::uint32_t>(candidates_.size()) - next_);
    if (n_met_ == 0) {
        end_shortlist();
        return;
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) met_[i] = candidates_[next_ + i].row;
    ask_items(MRL_LINES, met_, n_met_);
    state_ = State::both;
}

void PagedSearch::use_both() {
    alignas(64) float scores[kBatch];
    score_lines(n_met_, true, scores);
    if (!still_true()) return;
    for (std::uint32_t i = 0; i < n_met_; ++i) candidates_[next_ + i].score = sortable(scores[i]);
    next_ += n_met_;
    next_both();
}

void PagedSearch::end_shortlist() {
    const bool full = candidates_.size() >= options_.keep;
    cut_candidates(options_.keep);
    next_ = 0;
    const std::size_t wider = crowd::kWider * options_.keep;
    if (full && wider_ < crowd::kWidest &&
        wider < std::min<std::size_t>(kMostPool, meta_->linked) &&
        crowd::is_crowded(candidates_, crowd::line_resolution(unit_, source_->rows.dims()))) {
        wider_ *= crowd::kWider;
        options_.keep = wider;
        options_.effort *= crowd::kWider;
        hops_ = 0;
        candidates_.clear();
        begin_walk();
    } else {
        next_rows();
    }
}

void PagedSearch::next_rows() {
    n_met_ =
        std::min<std::uint32_t>(kRowBatch, static_cast<std::uint32_t>(candidates_.size()) - next_);
    if (n_met_ == 0) {
        finish();
        return;
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        met_[i] = candidates_[next_ + i].row;
        pages_[i] = met_[i] / meta_->rows_per_page;
        offsets_[i] = 0;
    }
    ask(MRL_ROWS, n_met_, MRL_PAGE_BYTES);
    state_ = State::rows;
}

void PagedSearch::use_rows() {
    PagedHit hits[kRowBatch];
    const std::uint32_t stride = meta_->code_stride;
    const auto code = [&](std::uint32_t i) {
        return at(i) + MRL_PAGE_HEAD + std::size_t{met_[i] % meta_->rows_per_page} * stride;
    };
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        for (std::uint32_t b = 0; b < stride; b += kLineBytes) __builtin_prefetch(code(i) + b);
        __builtin_prefetch(at(i) + mrl_tail_at(meta_, met_[i] % meta_->rows_per_page));
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        std::int32_t product;
        kernels_->inner_product_int8(row_query_.code.data(),
                                     reinterpret_cast<const std::int8_t*>(code(i)), 1, stride,
                                     meta_->dims, &product);
        MrlTail tail;
        std::memcpy(&tail, at(i) + mrl_tail_at(meta_, met_[i] % meta_->rows_per_page), sizeof tail);
        const float base = source_->rows.metric() == Metric::l2 ? 0.5f * tail.square : 0.0f;
        hits[i] = {met_[i],
                   sortable(base - row_query_.scale * tail.scale * static_cast<float>(product)),
                   tail.scale, tail.square};
    }
    if (!still_true()) return;
    hits_.insert(hits_.end(), hits, hits + n_met_);
    next_ += n_met_;
    next_rows();
}

// All slots, one after another

void PagedSearch::next_scan() {
    const std::uint32_t pages = (meta_->slots + MRL_ITEMS - 1) / MRL_ITEMS;
    std::uint32_t n = 0;
    for (; n < kScanPages && next_ + n < pages; ++n) {
        pages_[n] = next_ + n;
        offsets_[n] = 0;
    }
    if (n == 0) {
        cut_candidates(options_.keep);
        next_ = 0;
        if (codes_) {
            next_rows();
        } else {
            end_without_rows();
        }
        return;
    }
    ask(MRL_LINES, n, MRL_PAGE_BYTES);
    state_ = State::scan;
}

void PagedSearch::use_scan() {
    alignas(64) std::uint32_t ids[kScanPages * MRL_ITEMS];
    alignas(64) float scores[kScanPages * MRL_ITEMS];
    const std::uint32_t first = next_ * MRL_ITEMS,
                        n = std::min(request_.n * MRL_ITEMS, meta_->slots - first);
    const std::uint8_t* base = copied_ ? copies_.data() : host_.base;
    for (std::uint32_t i = 0; i < n; ++i) {
        const std::uint32_t page = copied_ ? i / MRL_ITEMS : frames_[i / MRL_ITEMS] - 1;
        ids[i] = static_cast<std::uint32_t>(page * (MRL_PAGE_BYTES / kLineBytes) +
                                            (MRL_PAGE_HEAD + i % MRL_ITEMS * MRL_ITEM_BYTES) /
                                                kLineBytes);
    }
    kernels_->score_both(&line_query_, base, base + kLineBytes, ids, n, scores);
    if (!still_true()) return;
    walk_.scored += n;
    for (std::uint32_t i = 0; i < n; ++i) {
        const float score = sortable(scores[i]);
        if (score <= worst_) candidates_.push_back({score, first + i});
    }
    if (candidates_.size() >= 2 * options_.keep + kBatch) {
        cut_candidates(options_.keep);
        worst_ = std::max_element(candidates_.begin(), candidates_.end())->score;
    }
    next_ += request_.n;
    next_scan();
}

void PagedSearch::cut_candidates(std::size_t keep) {
    if (candidates_.size() <= keep) return;
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(keep),
                     candidates_.end());
    candidates_.resize(keep);
}

void PagedSearch::end_without_rows() {
    for (const auto& [score, slot] : candidates_) hits_.push_back({slot, score, 0.0f, 0.0f});
    finish();
}

void PagedSearch::finish() {
    std::sort(hits_.begin(), hits_.end(), [](const PagedHit& a, const PagedHit& b) {
        return a.score != b.score ? a.score < b.score : a.slot < b.slot;
    });
    state_ = State::done;
}

}  // namespace mrl
