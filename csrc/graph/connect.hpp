// Links for slots that the rule of pruning leaves out of reach.
//
// Where many rows are nearly copies of one, the rule has all of them link to that one alone, and it
// to kDegree of them: the others are nobody's link, or only that of rows far away, which no walk to
// them follows. So each slot shall be at most two links from its nearest one, by slots near it, and
// reached from an entry; two that are each other's nearest shall be so from the next one. Where it
// is not so, the nearest slot that has room is made to link to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../store/links.hpp"
#include "build_codes.hpp"

namespace mrl {

// The first link of each slot is its nearest one. The result is the same for any number of threads.
void connect(const BuildCodes& codes, const std::vector<std::uint32_t>& entries,
             std::size_t threads, Links& graph);

}  // namespace mrl
