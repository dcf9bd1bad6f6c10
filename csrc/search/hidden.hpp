// Rows of the collection that are asked for as if they were none of its rows.
//
// Such a query must not be helped by its own place in the graph. To leave it out of a walk is not
// enough: those that link to it would have other links instead, and a walk that meets a hole there
// misses more than it would for a query that is no row (graph/detour.hpp finds the other links).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "../store/store.hpp"

namespace mrl {

// The links that the slots that link to a hidden one would have without it.
struct Detour {
    std::vector<std::uint32_t> slots;  // rising
    std::vector<std::array<std::uint32_t, kDegree>> links;

    const std::uint32_t* links_of(std::uint32_t slot, const std::uint32_t* as_they_are) const {
        const auto at = std::lower_bound(slots.begin(), slots.end(), slot);
        if (at == slots.end() || *at != slot) return as_they_are;
        return links[static_cast<std::size_t>(at - slots.begin())].data();
    }
};

// For the queries of a search.
struct HiddenRows {
    const Store* of;                  // which outlives this
    std::vector<std::uint32_t> rows;  // of each query: the row that it is, or Keys::kNone
    std::unordered_map<std::uint32_t, Detour> detours;  // by hidden slot
};

}  // namespace mrl
