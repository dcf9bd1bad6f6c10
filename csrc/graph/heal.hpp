// Deleted rows leave the graph: each slot with a link to a dead one gets that one's links as
// candidates in its place. In pieces, so that searches go on between them.
#pragma once

#include <cstddef>
#include <vector>

#include "../store/store.hpp"
#include "link.hpp"

namespace mrl {

constexpr std::size_t kHealPiece = 4096;  // slots

// Whether deletions are so many that walks suffer.
bool is_torn(const Store& store);

// The new links of torn slots among kHealPiece from `begin` on; the store is only read.
std::vector<SlotLinks> mend(const Store& store, std::size_t begin, std::size_t threads);

// Makes the entries and the list of those that wait live ones, and gives dead slots' numbers to
// rows that come. No live slot links to a dead one any more.
void bury(Store& store);

}  // namespace mrl
