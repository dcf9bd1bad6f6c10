// What share of the true answers searches over pages (search/paged_search.hpp) find by each effort,
// measured by hidden rows (search/hidden.hpp) on a graph that was just built: what a promise of an
// index in SQL rests on, and how far it walks by default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../store/store.hpp"
#include "default_effort.hpp"

namespace mrl {

struct EffortRecall {
    std::uint32_t effort;
    float mean;
    float lower;  // the mean is above it at 95 % confidence
};

struct EffortRecalls {
    std::uint32_t queries = 0;
    std::vector<EffortRecall> of;  // efforts rise
};

struct EffortOptions {
    std::size_t queries;                      // rows that are asked for, at most
    std::vector<std::uint32_t> efforts;       // rising
    std::size_t (*keep)(std::size_t effort);  // how many candidates come out
    std::size_t scan_effort = 0;  // by which `keep` is asked for scans; what is above scans; or 0
    std::function<bool(const EffortRecall&)> is_enough;  // no further effort is measured
    std::size_t threads = 1;
    std::function<void()> tick;  // may throw to stop
};

// Searches of rising effort over a store that is a graph and its rows alone, each for ten answers.
EffortRecalls measure_efforts(const Store& store, const EffortOptions& options);

// The bound from below of the mean of recalls in [0, 1], in random order, at confidence 1 - alpha:
// by betting (mrl_db/recall/bounds.py says how).
double mean_lower_bound(const std::vector<float>& recalls, double alpha);

}  // namespace mrl
