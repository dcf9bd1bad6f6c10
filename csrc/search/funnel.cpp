// Everything of one query happens in one thread; a batch is shared out by queries.
#include "funnel.hpp"

#include <algorithm>
#include <mutex>

#include "../system/thread_pool.hpp"
#include "funnel_run.hpp"
#include "tiles.hpp"

namespace mrl {
namespace {

// Of a batch, scanned for together: their codes stay in the second-level cache.
constexpr std::size_t kTileQueries = 1024;
constexpr std::size_t kTileWorth = 8;  // queries; fewer are scanned one by one

}  // namespace

void FunnelRun::run(std::size_t number, const float* query, const TakeHits& take) {
    began_ = std::chrono::steady_clock::now();
    if (looked_) turn_.give_way();  // between queries
    looked_ = true;
    look();
    if (request_.hidden != nullptr) filter_.hidden = request_.hidden->rows[number];
    plan_.prepare(query, query_);
    first_stage();
    finish_query(number, take);
}

void FunnelRun::run_tiles(std::size_t first, std::size_t n, const float* queries,
                          const TakeHits& take) {
    const std::size_t dims = store_.dims();
    std::vector<TileQuery> prepared(n);
    for (std::size_t q = 0; q < n; ++q) {
        plan_.prepare(queries + q * dims, query_);
        plan_.codes(0).prepare(query_);
        prepared[q] = {query_.code, query_.scale};
    }
    const Look scanned = look();
    auto kept = scan_tiles(kernels_, *plan_.tiled, prepared, stages()[0].keep, scanned.rows,
                           filter(), turn_);
    for (std::size_t q = 0; q < n; ++q) {
        turn_.give_way();
        candidates_ = std::move(kept[q]);
        left_out_ = candidates_.size() < stages()[0].keep ? kInfinity : -kInfinity;
        plan_.prepare(queries + q * dims, query_);
        if (turn_.given() != scanned.given) {
            plan_.codes(0).prepare(query_);
            catch_up(plan_.codes(0), scanned);
            cut(stages()[0].keep);
        }
        count(0, scanned.rows, candidates_.size());
        finish_query(first + q, take);
    }
}

FunnelRun::Look FunnelRun::look() {
    const Store::Moment moment = store_.moment();
    rows_ = moment.rows;
    waiting_ = moment.waiting;
    filtered_ = request_.selection != nullptr || request_.hidden != nullptr || store_.dead != 0;
    allowed_ = rows_ - store_.dead;
    if (request_.selection != nullptr) allowed_ = std::min(allowed_, request_.selection->count);
    return looked();
}

const std::vector<std::uint32_t>& FunnelRun::rows_since(const Look& then, bool by_slot) {
    std::vector<std::uint32_t>& rows = scratch_.ids;
    rows.clear();
    for (std::size_t row = 0; row < then.rows && store_.epoch != then.epoch; ++row) {
        if (store_.born[row] > then.epoch) rows.push_back(static_cast<std::uint32_t>(row));
    }
    for (std::size_t row = then.rows; row < rows_; ++row) {
        rows.push_back(static_cast<std::uint32_t>(row));
    }
    if (by_slot) {
        for (std::uint32_t& row : rows) row = store_.slot_of(row);
    }
    return rows;
}

bool FunnelRun::is_gone(std::uint32_t row, const Look& then) const {
    return store_.born[row] > then.epoch || !filter_.allows_row(row);
}

void FunnelRun::catch_up(const StageCodes& codes, const Look& then) {
    look();
    std::erase_if(candidates_, [&](const Candidate& candidate) {
        return is_gone(codes.by_slot() ? store_.row_of(candidate.row) : candidate.row, then);
    });
    if (request_.selection != nullptr) return;  // which has none of those that came
    const auto& rows = rows_since(then, codes.by_slot());
    scan(kernels_, codes, query_, {rows.data(), rows.size()}, candidates_.size() + rows.size(),
         filter(), candidates_);  // all stay
}

void FunnelRun::count(std::size_t stage, std::size_t rows_in, std::size_t rows_out) {
    const auto time = std::chrono::steady_clock::now();
    StageCount& of_stage = counts.stages[stage];
    of_stage.rows_in += rows_in;
    of_stage.rows_out += rows_out;
    of_stage.nanoseconds += static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time - began_).count());
    began_ = time;
}
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
            FunnelRun funnel(store, plan, request, *scratch, lock);
            use(funnel);
            own = funnel.counts;
        }
        const std::lock_guard hold(counting);
        for (std::size_t i = 0; i < kMostStages; ++i) {
            counts.stages[i].rows_in += own.stages[i].rows_in;
            counts.stages[i].rows_out += own.stages[i].rows_out;
            counts.stages[i].nanoseconds += own.stages[i].nanoseconds;
        }
        counts.proven += own.proven;
        scratches.give_back(std::move(scratch));
    };

    if (plan.tiled != nullptr && n_queries >= kTileWorth && request.selection == nullptr &&
        request.hidden == nullptr) {
        const std::size_t group = std::min(kTileQueries, (n_queries + threads - 1) / threads);
        const auto answer = [&](std::size_t number, std::size_t) {
            const std::size_t first = number * group, n = std::min(group, n_queries - first);
            with_funnel([&](FunnelRun& funnel) {
                funnel.run_tiles(first, n, queries + first * dims, take);
            });
        };
        parallel_for(threads, (n_queries + group - 1) / group, std::cref(answer));
        return;
    }
    // A few queries a task: enough to keep a thread in its own caches, few enough to share out
    // evenly.
    const std::size_t task = std::clamp<std::size_t>(n_queries / (8 * threads), 1, 16);
    const auto answer = [&](std::size_t number, std::size_t) {
        with_funnel([&](FunnelRun& funnel) {
            for (std::size_t q = number * task; q < std::min(n_queries, (number + 1) * task); ++q) {
                funnel.run(q, queries + q * dims, take);
            }
        });
    };
    // By reference: a copy of it would be allocated.
    parallel_for(threads, (n_queries + task - 1) / task, std::cref(answer));
}

}  // namespace mrl
