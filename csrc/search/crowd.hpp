// Crowds: rows that lie so close together that a stage's codes cannot tell them apart. The rule is
// one for the funnel, for pages (paged_search) and where efforts are measured
// (graph/effort_recall).
//
// A stage keeps a number of rows. Where fewer than k of them are nearer than the worst of them by
// what its codes resolve, the rows that it leaves out may as well be the answer. A walk, or a scan,
// is then made again, wider; where the widest is too narrow, all rows are scanned, and those stay
// that cannot be told from the k-th best. A later stage keeps all of these, too.
#pragma once

#include <algorithm>
#include <vector>

#include "best.hpp"
#include "line_error.hpp"
#include "plan.hpp"
#include "walk.hpp"

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
// walk is believed. A walk that keeps more beside the answers is held to more of it from the first
// on, by so much a row beyond ten: friendly rows have it, and among others a longer walk would find
// less than a short one, which is made again.
constexpr float kSuspicious = 1.75f, kResolved = 3.5f, kSure = 7.0f;
constexpr float kSuspiciousEach = 0.1f;
constexpr std::size_t kUnsuspected = 10;
// Of the length that one row in a thousand exceeds, over the rms.
constexpr float kLikeLengths = 1.25f;

// How wide a look was.
struct Width {
    std::size_t wider;  // times what was asked for
    std::size_t keep;   // rows that were asked for
    std::size_t k;      // answers
};

inline float suspicion(const Width& width) {
    if (width.wider > 1) return width.wider < kWidest ? kResolved : kSure;
    const std::size_t spared = width.k + kUnsuspected;
    const auto more = static_cast<float>(width.keep > spared ? width.keep - spared : 0);
    return std::min(kResolved, kSuspicious + kSuspiciousEach * more);
}

// The difference of two scores by lines, near this one, that says nothing.
inline float line_resolution(const LineLengths& query, float score, const Width& width,
                             std::size_t dims, const LineCodes& lines) {
    return suspicion(width) * line_error(query, score, dims, lines);
}

// How much worse than the k-th best the next candidate of such a walk may be, for a query of length
// 1: by the plan, or where it says nothing by its effort. A margin is one for rows of like lengths:
// where some are far longer, their products are far ahead of all that leads to others of them.
inline float margin_of(std::size_t effort, std::size_t wider, float given,
                       const LineSpread& spread) {
    if (given < 0 && spread.longest > kLikeLengths) return kInfinity;
    const float of_effort = margin_of_effort(effort);
    return (given < 0 ? of_effort : given) * (margin_of_effort(wider * effort) / of_effort);
}

// Whether of a stage's candidates fewer than k are ahead of the worst by what the stage resolves
// near its score, resolution_of(score). Copies that are equal to the last bit are no crowd: nothing
// tells them apart. A search that keeps hardly more than k is taken at its word: half of them.
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
    return best < worst && ahead < std::min(k, candidates.size() - candidates.size() / 2);
}

// A look for candidates, and among how many rows.
struct Look {
    std::size_t keep;     // candidates that may stay
    std::size_t k;        // answers
    std::size_t wider;    // times what was asked for
    std::size_t allowed;  // rows, about, that may be in an answer
    std::size_t rows;
};

// What follows it.
enum class Next { enough, wider, scan };
template <class ResolutionOf>
Next next(const std::vector<Candidate>& candidates, const Look& look,
          ResolutionOf&& resolution_of) {
    if (candidates.size() < look.keep || look.keep >= look.allowed ||
        !is_crowded(candidates, look.k, resolution_of))
        return Next::enough;
    if (look.wider < kWidest && kWider * look.keep <= walk_rule::kMostPool) return Next::wider;
    return look.rows <= kMostScanned ? Next::scan : Next::enough;
}

// Leaves those of a scan that cannot be told from the k-th best; returns the score that all are
// below. As a scan goes on it falls, so that what is left out on the way would be in the end.
template <class ResolutionOf>
float keep_unresolved(std::vector<Candidate>& candidates, std::size_t k,
                      ResolutionOf&& resolution_of) {
    if (candidates.size() <= k) return kInfinity;
    const auto kth = candidates.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(candidates.begin(), kth, candidates.end());
    const float limit = kth->score + resolution_of(kth->score);
    std::erase_if(candidates, [limit](const Candidate& each) { return each.score >= limit; });
    return limit;
}

}  // namespace mrl::crowd
