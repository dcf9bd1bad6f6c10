// How far searches walk where nobody says it: as far as the rows at hand need, measured when an
// index is built. Some rows are asked for their neighbours, each hidden from itself, by rising
// efforts until enough of these are found. What is right and how it is searched is the caller's:
// effort_recall.hpp over pages, mrl_db/engines/native/default_effort.py in process.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mrl {

// An effort that stands for a look at all lines.
constexpr std::uint32_t kScanEffort = UINT32_MAX;
// Of recall: what a mean of so many queries says is off by some .005.
constexpr float kEnoughRecall = 0.96f;

// How many of n rows are asked: fewer where to compare them with all would take long, and none of
// few rows, of which a walk meets most.
inline std::size_t default_effort_queries(std::size_t n, std::size_t dims) {
    constexpr std::size_t kFew = 500, kMost = 128, kLeast = 32, kShare = 16;
    constexpr double kCompared = 4e10;  // coordinates
    if (n < kFew) return 0;
    const auto compared =
        static_cast<std::size_t>(kCompared / (static_cast<double>(n) * static_cast<double>(dims)));
    return std::min({kMost, n / kShare, std::max(kLeast, compared)});
}

// The efforts to try over n rows, rising from the first; then a scan. A hop reads some twenty new
// lines, and one that is walked to takes three times as long as one in a scan: no walk is tried
// that would read as much.
inline std::vector<std::uint32_t> default_efforts(std::uint32_t first, std::size_t n) {
    constexpr std::size_t kRowsPerHop = 60;
    std::vector<std::uint32_t> efforts{first};
    while (2 * kRowsPerHop * efforts.back() < n) efforts.push_back(2 * efforts.back());
    efforts.push_back(kScanEffort);
    return efforts;
}

}  // namespace mrl
