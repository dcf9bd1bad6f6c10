// What a search is asked to do: a route and stages, as data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../store/words.hpp"

namespace mrl {

enum class Route { flat, graph };

struct Stage {
    Space space;
    std::size_t dims;
    Precision precision;
    std::size_t keep;
};

// How much worse than the k-th best the next candidate may be for a walk to go on, for a query and
// rows of length 1, where a plan does not say it. A longer walk has a longer pool, and both find
// more; fitted near the envelope of hops and margins over queries/s and recall, on real rows of 384
// dims and generated ones of 768 and 1,024 (efforts 24 to 700).
float margin_of_effort(std::size_t effort);
constexpr float kMarginOfEffort = -1.0f;

struct Plan {
    Route route;
    std::size_t effort;
    std::vector<Stage> stages;
    float margin = kMarginOfEffort;  // as margin_of_effort; +infinity never ends a walk early
};

// What stages did, summed over the queries of a call.
struct StageCount {
    std::uint64_t rows_in = 0, rows_out = 0, nanoseconds = 0;
};
constexpr std::size_t kMostStages = 8;
struct StageCounts {
    std::array<StageCount, kMostStages> stages{};
    // Queries whose answers are proven: none of the rows that stages left out can be among them.
    std::uint64_t proven = 0;
};

// A plan asks for codes that were not loaded, or for something that this index cannot do.
class PlanMismatch : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string name_of(const Stage& stage);  // "prefix 64 int8"

}  // namespace mrl
