// What share of the true answers walks of each effort find, measured by hidden rows
// (search/hidden.hpp) on a graph that was just built: what a promise of an index in SQL rests on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../store/store.hpp"

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

// How many candidates a walk of an effort brings out.
using KeepOfEffort = std::size_t (*)(std::size_t effort);

// Walks of rising effort over a store that is a graph and its rows alone, each for ten answers,
// until `target` is surely exceeded or the efforts end. `tick` may throw to stop.
EffortRecalls measure_efforts(const Store& store, const std::vector<std::uint32_t>& efforts,
                              KeepOfEffort keep, float target, std::size_t threads,
                              const std::function<void()>& tick);

// The bound from below of the mean of recalls in [0, 1], in random order, at confidence 1 - alpha:
// by betting (mrl_db/recall/bounds.py says how).
double mean_lower_bound(const std::vector<float>& recalls, double alpha);

}  // namespace mrl
