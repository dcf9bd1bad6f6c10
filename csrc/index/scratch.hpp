// What one search needs beside the index: kept by the index and lent to one thread at a time, so
// that a search allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "../search/graph.hpp"
#include "../search/top_k.hpp"
#include "../store/flat_codes.hpp"
#include "../store/rows.hpp"
#include "index.hpp"

namespace mrl {

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
