// Rows of the collection that are asked for as if they were none of its rows.
//
// Such a query must not be helped by its own place in the graph. To leave it out of a walk is not
// enough: those that link to it would have other links instead, and a walk that meets a hole there
// misses more than it would for a query that is no row.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "../search/graph.hpp"

namespace mrl {

class Index;

// Made by Index::hide, for the queries of a search.
struct HiddenRows {
    const Index* of;                  // which outlives this
    std::vector<std::uint32_t> rows;  // of each query: the row that it is, or Keys::kNone
    std::unordered_map<std::uint32_t, Detour> detours;  // by hidden slot
};

}  // namespace mrl
