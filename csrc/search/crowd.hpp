// Crowds: rows that are so nearly copies of each other that a stage's codes cannot tell them apart.
//
// A stage keeps a number of rows; where half of them differ from the worst of them by less than the
// codes resolve, the rows that it leaves out may as well be the answer. A walk, or a scan, is then
// made again, wider; a later stage keeps all that it cannot tell from the k-th best.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../store/line_codes.hpp"
#include "best.hpp"

namespace mrl::crowd {

constexpr std::size_t kWider = 4, kWidest = 64;  // times hops and rows kept: each time, and in all
// Of int8 codes of whole rows, in standard deviations of a score: a pair is hardly ever farther
// off.
constexpr float kRowResolution = 4.0f;
// Of a line, for vectors of length 1 in all coordinates. Of 4,000 queries over 20,000 real rows
// none has its 10th to 20th nearest so close together, and all have that ask for one of 200 copies.
constexpr float kLineResolution = 0.005f;

// unit: the query's length, in those of the lines' unit; 1 under cosine.
inline float line_resolution(float unit, std::size_t dims) {
    const std::size_t coordinates = std::min(dims, kLineCoordinates);
    return kLineResolution * unit *
           std::sqrt(static_cast<float>(kLineCoordinates) / static_cast<float>(coordinates));
}

// Whether a stage's candidates are a crowd. Copies that are equal to the last bit are none: nothing
// tells them apart.
inline bool is_crowded(const std::vector<Candidate>& candidates, float resolution) {
    float best = kInfinity, worst = -kInfinity;
    for (const Candidate& candidate : candidates) {
        best = std::min(best, candidate.score);
        worst = std::max(worst, candidate.score);
    }
    const auto near_worst = static_cast<std::size_t>(std::count_if(
        candidates.begin(), candidates.end(),
        [&](const Candidate& candidate) { return worst - candidate.score < resolution; }));
    return best < worst && 2 * near_worst > candidates.size();
}

}  // namespace mrl::crowd
