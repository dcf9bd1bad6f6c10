// Everything of one query happens in one thread; a batch is shared out by queries.
#include "funnel.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"
#include "scan.hpp"
#include "tiles.hpp"

namespace mrl {
namespace {

// Of a batch, scanned for together: their codes stay in the second-level cache.
constexpr std::size_t kTileQueries = 1024;
constexpr std::size_t kTileWorth = 8;  // queries; fewer are scanned one by one
constexpr std::size_t kMostPool = 8192;
constexpr std::size_t kLeastPool = 32;
// The margin is measured from this answer, or from the last one where more are wanted.
constexpr std::size_t kWatched = 10;
// Lines hold little of long vectors, and two bits of it lead astray: from so many dims on survivors
// are scored by both planes before they enter the pool.
constexpr std::size_t kRefinedDims = 640;
// A selection of less than this share of the rows is read as a list.
constexpr std::size_t kListShare = 4;
// A walk reads some twenty new lines a hop, and needs as many times more hops as fewer rows are
// allowed; a list is read at thrice the speed, as its next lines are known.
constexpr double kLinesPerHop = 20.0, kListSpeed = 3.0;
constexpr std::size_t kMeasured = 1024;  // rows measured before a writer may have its turn
// More than a stage keeps, where all rows are looked at because a stage's shortlist came out short.
constexpr std::size_t kSpare = 50;
constexpr std::size_t kFetched = 32 << 10;  // bytes: the first-level cache holds half as much again

std::uint64_t now() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now().time_since_epoch())
                                          .count());
}

// One thread's run over some queries.
class Funnel {
  public:
    Funnel(const Store& store, const CheckedPlan& plan, const SearchRequest& request,
           Scratch& scratch, FairLock& lock)
        : turn_(lock),
          store_(store),
          plan_(plan),
          request_(request),
          scratch_(scratch),
          query_(scratch.query),
          candidates_(scratch.candidates),
          filter_(store.filter(request.selection)),
          began_(now()) {}

    static bool is_filtered(const Store& store, const SearchRequest& request) {
        return request.selection != nullptr || request.hidden != nullptr ||
               store.live < store.rows.size();
    }

    void run(std::size_t number, const float* query, const TakeHits& take) {
        began_ = now();
        turn_.give_way();
        look();
        if (request_.hidden != nullptr) filter_.hidden = request_.hidden->rows[number];
        plan_.prepare(query, query_);
        first_stage();
        finish_query(number, take);
    }

    // The first stage of some queries at once.
    void run_tiles(std::size_t first, std::size_t n, const float* queries, const TakeHits& take) {
        const std::size_t dims = store_.dims();
        std::vector<TileQuery> prepared(n);
        for (std::size_t q = 0; q < n; ++q) {
            plan_.prepare(queries + q * dims, query_);
            plan_.codes(0).prepare(query_);
            prepared[q] = {query_.code, query_.scale};
        }
        const Look scanned = look();
        auto kept = scan_tiles(kernels_, *plan_.tiled, prepared, stages()[0].keep, filter(), turn_);
        for (std::size_t q = 0; q < n; ++q) {
            turn_.give_way();
            candidates_ = std::move(kept[q]);
            plan_.prepare(queries + q * dims, query_);
            if (turn_.given() != scanned.given) {
                plan_.codes(0).prepare(query_);
                catch_up(plan_.codes(0), scanned);
                cut(stages()[0].keep);
            }
            count(0, store_.rows.size(), candidates_.size());
            finish_query(first + q, take);
        }
    }

    StageCounts counts{};

  private:
    const std::vector<Stage>& stages() const { return plan_.stages(); }
    const RowFilter* filter() const { return filtered_ ? &filter_ : nullptr; }

    // What there is when a scan begins.
    struct Look {
        std::size_t given;
        std::size_t rows;
        std::uint64_t epoch;
    };

    Look look() {
        filtered_ = is_filtered(store_, request_);
        allowed_ = request_.selection == nullptr
                       ? store_.live
                       : std::min(store_.live, request_.selection->list.size());
        return {turn_.given(), store_.rows.size(), store_.epoch};
    }

    // The rows that came since, in numbers or in slots.
    const std::vector<std::uint32_t>& rows_since(const Look& then, bool by_slot) {
        std::vector<std::uint32_t>& rows = scratch_.ids;
        rows.clear();
        for (std::size_t row = 0; row < then.rows && store_.epoch != then.epoch; ++row) {
            if (store_.born[row] > then.epoch) rows.push_back(static_cast<std::uint32_t>(row));
        }
        for (std::size_t row = then.rows; row < store_.rows.size(); ++row) {
            rows.push_back(static_cast<std::uint32_t>(row));
        }
        if (by_slot) {
            for (std::uint32_t& row : rows) row = store_.slot_of(row);
        }
        return rows;
    }
    bool is_gone(std::uint32_t row, const Look& then) const {
        return store_.born[row] > then.epoch || !filter_.allows_row(row);
    }

    // Makes the candidates of a scan that gave way those of a scan of the rows as they are now:
    // what a row was is what it is, until it is deleted.
    void catch_up(const StageCodes& codes, const Look& then) {
        look();
        std::erase_if(candidates_, [&](const Candidate& candidate) {
            return is_gone(codes.by_slot() ? store_.row_of(candidate.row) : candidate.row, then);
        });
        if (request_.selection != nullptr) return;  // which has none of those that came
        const auto& rows = rows_since(then, codes.by_slot());
        scan(kernels_, codes, query_, {rows.data(), rows.size()}, candidates_.size() + rows.size(),
             filter(), candidates_);  // all stay
    }

    void count(std::size_t stage, std::size_t rows_in, std::size_t rows_out) {
        const std::uint64_t time = now();
        counts[stage].rows_in += rows_in;
        counts[stage].rows_out += rows_out;
        counts[stage].nanoseconds += time - began_;
        began_ = time;
    }

    void first_stage() {
        const std::size_t keep = stages()[0].keep;
        candidates_.clear();
        if (plan_.last() == 0) return list_allowed();
        const Selection* selection = request_.selection;
        std::size_t rows_read;
        if (plan_.walks && keep < allowed_ && !few_allowed()) {
            rows_read = walk(keep);
        } else if (selection != nullptr &&
                   selection->list.size() < store_.rows.size() / kListShare) {
            rows_read = scan_selection(*selection, keep);
        } else {
            rows_read = scan_all(keep);
        }
        count(0, rows_read, candidates_.size());
    }

    // The only stage: it ends the search by itself, with true distances.
    void list_allowed() {
        if (request_.selection == nullptr) {
            for (std::uint32_t row = 0; row < store_.rows.size(); ++row) {
                if (!filtered_ || filter_.allows_row(row)) candidates_.push_back({0.0f, row});
            }
            return;
        }
        for (const std::uint32_t row : request_.selection->list) {
            if (filter_.allows_row(row)) candidates_.push_back({0.0f, row});
        }
    }

    bool few_allowed() const {
        const double walked = kLinesPerHop * static_cast<double>(plan_.plan->effort) *
                              static_cast<double>(store_.rows.size()) /
                              static_cast<double>(allowed_ + 1);
        return request_.selection != nullptr && static_cast<double>(allowed_) < kListSpeed * walked;
    }

    std::size_t walk(std::size_t keep) {
        const double share =
            static_cast<double>(allowed_) / static_cast<double>(store_.rows.size());
        const auto stretched = [share](std::size_t n) {
            return static_cast<std::size_t>(static_cast<double>(n) / share);
        };
        const std::size_t effort = plan_.plan->effort;
        const float margin = plan_.plan->margin < 0 ? margin_of_effort(effort) : plan_.plan->margin;
        const float unit =
            store_.metric() == Metric::cosine ? 1.0f : query_.length / store_.lines.unit();
        WalkOptions options{
            .hops = stretched(effort),
            .pool = std::min(kMostPool, stretched(std::max({effort, kLeastPool, keep + keep / 2}))),
            .k = std::max(kWatched, stages().back().keep),
            .margin = margin * unit,
            .refine = store_.dims() >= kRefinedDims};
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
        if (!store_.waiting.empty()) scan_waiting(options.refine, options.refine ? keep : widened);
        if (!options.refine) {
            if (candidates_.size() > widened + widened / 4) cut(widened);
            score(lines);
        }
        cut(keep);
        to_rows();
        return scratch_.walk.scored;
    }

    // The slots that no link leads to yet, beside what a walk met: by what it was scored by.
    void scan_waiting(bool by_both_planes, std::size_t keep) {
        scan(kernels_, LineStage(store_.lines, by_both_planes), query_,
             {store_.waiting.data(), store_.waiting.size()}, keep, filter(), candidates_);
    }

    std::size_t scan_selection(const Selection& selection, std::size_t keep) {
        const StageCodes& codes = plan_.codes(0);
        const auto& list = codes.by_slot() ? selection.slots : selection.list;
        // Where nothing was deleted and no number changed hands since, all of the list is still
        // what was selected.
        const bool untouched = store_.epoch == selection.epoch &&
                               store_.live == store_.rows.size() && filter_.hidden == Keys::kNone;
        scan_codes({list.data(), list.size()}, keep, untouched ? nullptr : &filter_);
        return list.size();
    }

    std::size_t scan_all(std::size_t keep) {
        scan_codes({nullptr, store_.rows.size()}, keep, filter());
        return store_.rows.size();
    }

    void scan_codes(Scanned scanned, std::size_t keep, const RowFilter* filter) {
        const StageCodes& codes = plan_.codes(0);
        const std::size_t widened =
            keep >= scanned.n ? keep : codes.widening() * keep;  // where all stay, all are scored
        codes.prepare(query_);
        const Look then = look();
        scan(kernels_, codes, query_, scanned, widened, filter, candidates_, &turn_);
        if (turn_.given() != then.given) catch_up(codes, then);
        if (codes.widening() > 1) {
            cut(widened);
            score(codes);
        }
        cut(keep);
        if (codes.by_slot()) to_rows();
    }

    void later_stage(std::size_t number) {
        const StageCodes& codes = plan_.codes(number);
        const std::size_t rows_in = candidates_.size(), keep = stages()[number].keep;
        codes.prepare(query_);
        if (plan_.is_of_rows(number)) fetch_ahead(keep);
        if (codes.by_slot()) {
            for (Candidate& candidate : candidates_) candidate.row = store_.slot_of(candidate.row);
        }
        score(codes);
        if (codes.by_slot()) to_rows();
        cut(keep);
        count(number, rows_in, candidates_.size());
    }

    // A stage and the one after it wait for memory and for little else: the vectors of those that
    // will likely be left are on their way while codes are compared.
    void fetch_ahead(std::size_t keep) {
        const std::size_t n = candidates_.size();
        if (n > kRanked || !store_.rows.keeps_vectors()) return;
        for (const Candidate& candidate : candidates_) store_.rows.fetch_code(candidate.row);
        std::uint16_t ranks[kRanked];
        rank_candidates(kernels_, candidates_, ranks);
        const std::size_t likely =
            std::min(keep * 3 / 4, kFetched / (store_.dims() * sizeof(float)));
        for (std::size_t i = 0; i < n; ++i) {
            if (ranks[i] < likely) store_.rows.fetch_vector(candidates_[i].row);
        }
    }

    void cut(std::size_t keep) { keep_best(kernels_, candidates_, keep); }
    void to_rows() {
        for (Candidate& candidate : candidates_) candidate.row = store_.row_of(candidate.row);
    }

    // Scores what is left, slots where the codes go by slot.
    void score(const StageCodes& codes) {
        const std::size_t n = candidates_.size();
        scratch_.ids.resize(n);
        scratch_.scores.resize(n);
        for (std::size_t i = 0; i < n; ++i) scratch_.ids[i] = candidates_[i].row;
        codes.score_at(kernels_, query_, scratch_.ids.data(), n, scratch_.scores.data());
        for (std::size_t i = 0; i < n; ++i) candidates_[i].score = scratch_.scores[i];
    }

    void finish_query(std::size_t number, const TakeHits& take) {
        const std::size_t end = request_.without_last_stage ? plan_.last() - 1 : plan_.last();
        for (std::size_t stage = 1; stage < end; ++stage) later_stage(stage);
        const std::size_t keep = stages()[end].keep;
        if (candidates_.size() < std::min(keep, allowed_)) {
            // Fewer came out than there are (links torn by deletions, a filter that no walk got
            // through): all rows are looked at.
            const std::size_t widened = keep + keep / 4 + kSpare;
            candidates_.clear();
            const RowStage codes(store_.rows);
            const Look then = look();
            scan(kernels_, codes, query_, {nullptr, store_.rows.size()}, widened, &filter_,
                 candidates_, &turn_);
            if (turn_.given() != then.given) catch_up(codes, then);
            cut(widened);
        }
        finish(keep, end);
        take(number, scratch_.hits.data(), scratch_.hits.size());
    }

    // The true distances of what is left, best first, ties by key; NaN last, as PostgreSQL sorts
    // it.
    void finish(std::size_t keep, std::size_t stage) {
        const std::size_t n = candidates_.size();
        std::vector<RowHit>& hits = scratch_.hits;
        hits.clear();
        const Look then = look();
        std::vector<std::uint32_t>& ids = scratch_.ids;
        for (std::size_t first = 0; first < n; first += kMeasured) {
            if (first != 0) turn_.give_way();
            ids.clear();
            for (std::size_t i = first; i < std::min(n, first + kMeasured); ++i)
                ids.push_back(candidates_[i].row);
            measure(ids);
        }
        if (turn_.given() != then.given) {
            look();
            std::erase_if(hits, [&](const RowHit& hit) { return is_gone(hit.row, then); });
            if (request_.selection == nullptr) {
                rows_since(then, false);  // in `ids`
                std::erase_if(ids, [&](std::uint32_t row) { return !filter_.allows_row(row); });
                measure(ids);
            }
        }
        const auto nearer = [this](const RowHit& a, const RowHit& b) {
            if (a.distance < b.distance) return true;
            if (a.distance > b.distance) return false;
            const bool a_nan = std::isnan(a.distance), b_nan = std::isnan(b.distance);
            return a_nan == b_nan ? store_.keys.less(a.row, b.row) : b_nan;
        };
        const std::size_t kept = std::min(keep, hits.size());
        if (hits.size() <= kept + kept / 2) {
            std::sort(hits.begin(), hits.end(), nearer);
        } else {
            std::partial_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(kept),
                              hits.end(), nearer);
        }
        hits.resize(kept);
        count(stage, n, kept);
    }

    // Adds rows to the hits, with their distances.
    void measure(const std::vector<std::uint32_t>& rows) {
        const std::size_t n = rows.size();
        for (const std::uint32_t row : rows) store_.keys.fetch(row);
        if (store_.rows.keeps_vectors()) {
            scratch_.distances.resize(n);
            store_.rows.distances(kernels_, query_.row, rows.data(), n, scratch_.distances.data());
            for (std::size_t i = 0; i < n; ++i)
                scratch_.hits.push_back({rows[i], scratch_.distances[i]});
            return;
        }
        scratch_.scores.resize(n);
        store_.rows.score(kernels_, query_.row, rows.data(), n, scratch_.scores.data());
        for (std::size_t i = 0; i < n; ++i) {
            scratch_.hits.push_back(
                {rows[i], store_.rows.distance_of_score(query_.row, scratch_.scores[i])});
        }
    }

    Turn turn_;
    const Store& store_;
    const CheckedPlan& plan_;
    const SearchRequest& request_;
    Scratch& scratch_;
    StageQuery& query_;
    std::vector<Candidate>& candidates_;
    const Kernels& kernels_ = kernels();
    RowFilter filter_;
    bool filtered_ = false;    // by a selection, by deletions or by a hidden row
    std::size_t allowed_ = 0;  // rows, about, that may be in an answer
    std::uint64_t began_;
};

}  // namespace

void search(const Store& store, const float* queries, std::size_t n_queries,
            const SearchRequest& request, FairLock& lock, ScratchPool& scratches,
            StageCounts& counts, const TakeHits& take) {
    const CheckedPlan plan(store, request.plan);
    if (request.without_last_stage && plan.last() == 0) {
        throw PlanMismatch("a plan of one stage has nothing before its last");
    }
    const std::size_t threads = std::max<std::size_t>(1, request.threads), dims = store.dims();
    std::mutex counting;
    const auto with_funnel = [&](auto&& use) {
        std::unique_ptr<Scratch> scratch = scratches.borrow();
        StageCounts own;
        {
            Funnel funnel(store, plan, request, *scratch, lock);
            use(funnel);
            own = funnel.counts;
        }
        const std::lock_guard hold(counting);
        for (std::size_t i = 0; i < kMostStages; ++i) {
            counts[i].rows_in += own[i].rows_in;
            counts[i].rows_out += own[i].rows_out;
            counts[i].nanoseconds += own[i].nanoseconds;
        }
        scratches.give_back(std::move(scratch));
    };

    if (plan.tiled != nullptr && n_queries >= kTileWorth && request.selection == nullptr &&
        request.hidden == nullptr) {
        const std::size_t group = std::min(kTileQueries, (n_queries + threads - 1) / threads);
        const auto answer = [&](std::size_t number, std::size_t) {
            const std::size_t first = number * group, n = std::min(group, n_queries - first);
            with_funnel(
                [&](Funnel& funnel) { funnel.run_tiles(first, n, queries + first * dims, take); });
        };
        parallel_for(threads, (n_queries + group - 1) / group, std::cref(answer));
        return;
    }
    // A few queries a task: enough to keep a thread in its own caches, few enough to share out
    // evenly.
    const std::size_t task = std::clamp<std::size_t>(n_queries / (8 * threads), 1, 16);
    const auto answer = [&](std::size_t number, std::size_t) {
        with_funnel([&](Funnel& funnel) {
            for (std::size_t q = number * task; q < std::min(n_queries, (number + 1) * task); ++q) {
                funnel.run(q, queries + q * dims, take);
            }
        });
    };
    // By reference: a copy of it would be allocated.
    parallel_for(threads, (n_queries + task - 1) / task, std::cref(answer));
}

}  // namespace mrl
