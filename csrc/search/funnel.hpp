// Runs a plan over a store: route, stages, exact distances.
#pragma once

#include <cstddef>
#include <functional>

#include "../store/store.hpp"
#include "../system/fair_lock.hpp"
#include "hidden.hpp"
#include "plan.hpp"
#include "scratch.hpp"

namespace mrl {

struct SearchRequest {
    const Plan& plan;
    const Selection* selection = nullptr;  // of this store
    std::size_t threads = 1;
    bool without_last_stage = false;  // which is left to the caller, for as many as may be answers
    const HiddenRows* hidden =
        nullptr;  // of this store: for each query a row that is as if not there
};
// Takes the hits of one query, best first.
using TakeHits = std::function<void(std::size_t query, const RowHit* hits, std::size_t count)>;

// Answers n_queries queries (dims floats each, one after another, finite): `take` is called for
// each with at most the plan's last keep (without the last stage: with what the one before passes
// on, and up to 64 times as many where it cannot tell them apart), from several threads, under the
// lock. Throws PlanMismatch when the plan does not fit.
//
// The lock, not held by the caller, is taken for some queries at a time, and given up for a writer
// that waits: between queries, and within one that scans all rows. Each answer is that of the rows
// of one moment, between the call and its answer; moments of one batch may differ.
void search(const Store& store, const float* queries, std::size_t n_queries,
            const SearchRequest& request, FairLock& lock, ScratchPool& scratches,
            StageCounts& counts, const TakeHits& take);

}  // namespace mrl
