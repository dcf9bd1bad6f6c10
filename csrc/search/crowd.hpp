// Crowds: rows that lie so close together that a stage's codes cannot tell them apart.
//
// A stage keeps a number of rows. Where fewer than k of them are nearer than the worst of them by
// what its codes resolve, the rows that it leaves out may as well be the answer. A walk, or a scan,
// is then made again, wider; a later stage keeps all that it cannot tell from the k-th best.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../store/line_codes.hpp"
#include "best.hpp"

namespace mrl::crowd {

constexpr std::size_t kWider = 4, kWidest = 64;  // times hops and rows kept: each time, and in all
// Where even that is too narrow, all rows are scanned, if they are no more.
constexpr std::size_t kMostScanned = 1 << 20;
// Of int8 codes of whole rows, in standard deviations of a score: a pair is hardly ever farther
// off.
constexpr float kRowResolution = 4.0f;
// In what a line's score is off by: how far the k-th best shall be ahead of the worst row that a
// walk keeps. Of 1,000 queries over 20,000 real rows four have less and are walked for again; then
// it shall be so much more that hardly an answer is left out, and most of all before the widest
// walk is believed.
constexpr float kSuspicious = 1.75f, kResolved = 3.5f, kSure = 7.0f;
// The step of a line's code, a quarter of the row's rms, as even noise of a share of its length.
constexpr float kCodeError = 0.072f;
// Of a line, for vectors of length 1 in all coordinates, where no more is known of the rows. Of
// 4,000 queries over 20,000 real rows none has its 10th to 20th nearest so close together, and all
// have that ask for one of 200 copies.
constexpr float kLineResolution = 0.005f;

// unit: the query's length, in those of the lines' unit; 1 under cosine.
inline float line_resolution(float unit, std::size_t dims) {
    const std::size_t coordinates = std::min(dims, kLineCoordinates);
    return kLineResolution * unit *
           std::sqrt(static_cast<float>(kLineCoordinates) / static_cast<float>(coordinates));
}

// What of a query may meet a code's error. A code's factor is right along the row, so that only
// what lies across it does (RaBitQ, arXiv:2405.12497, theorem 3.2): under l2 no more than the
// distance, which a row's score tells.
inline float length_across(float length, float square, float score, const LineCodes& lines) {
    if (lines.metric() != Metric::l2) return length;
    const float squared = 2.0f * score * lines.unit() * lines.unit() + square;
    return std::min(length, std::sqrt(std::max(0.0f, squared)));
}

// What a line's score is off by, about, in its units. Beside the code's error
// there is what the projection cuts off of the query, `tail`, and of the rows: two vectors of some
// length in random directions of the other dims. across: as above.
inline float line_error(float across, float tail, std::size_t dims, const LineCodes& lines) {
    const float of_code = kCodeError * across * lines.spread().typical /
                          (lines.unit() * std::sqrt(static_cast<float>(kLineCoordinates)));
    if (dims <= kLineCoordinates) return of_code;
    const float of_tail = tail * lines.spread().tail /
                          (lines.unit() * std::sqrt(static_cast<float>(dims - kLineCoordinates)));
    return std::sqrt(of_code * of_code + of_tail * of_tail);
}

// Whether of a stage's candidates fewer than k are ahead of the worst by what the stage resolves
// near its score, resolution_of(score). Copies that are equal to the last bit are no crowd: nothing
// tells them apart.
template <class ResolutionOf>
bool is_crowded(const std::vector<Candidate>& candidates, std::size_t k,
                ResolutionOf&& resolution_of) {
    float best = kInfinity, worst = -kInfinity;
    for (const Candidate& candidate : candidates) {
        best = std::min(best, candidate.score);
        worst = std::max(worst, candidate.score);
    }
    const float resolution = resolution_of(worst);
    const auto ahead = static_cast<std::size_t>(std::count_if(
        candidates.begin(), candidates.end(),
        [&](const Candidate& candidate) { return worst - candidate.score >= resolution; }));
    return best < worst && ahead < k;
}

// The same where half of the candidates are near the worst.
inline bool is_crowded(const std::vector<Candidate>& candidates, float resolution) {
    return is_crowded(candidates, candidates.size() - candidates.size() / 2,
                      [resolution](float) { return resolution; });
}

}  // namespace mrl::crowd
