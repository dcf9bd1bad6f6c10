// What one search needs beside the index: kept by the index and lent to one thread at a time, so that a search allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "flat_codes.hpp"
#include "graph.hpp"
#include "index.hpp"
#include "rows.hpp"

namespace mrl {

// A row on its way through the stages; smaller scores are nearer, equal ones go by row.
struct Candidate {
    float score;
    std::uint32_t row;
    friend bool operator<(const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score < b.score : a.row < b.row; }
};

constexpr std::size_t kRanked = 128;  // candidates; a longer list is cut by partition

struct Scratch {
    LineQuery line_query;
    RowQuery row_query;
    FlatQuery flat_query;
    float coordinates[kLineCoordinates];  // of the query
    Walk walk;
    std::vector<Candidate> candidates;
    std::uint16_t ranks[kRanked];
    std::vector<std::uint32_t> ids;
    std::vector<float> scores;
    std::vector<double> distances;
    std::vector<RowHit> hits;
};

}  // namespace mrl
