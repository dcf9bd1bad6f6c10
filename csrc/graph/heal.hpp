// Deleted rows leave the graph: each slot with a link to a dead one gets that one's links as
// candidates in its place. In pieces, so that searches go on between them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../store/store.hpp"
#include "link.hpp"

namespace mrl {

constexpr std::size_t kHealPiece = 4096;  // slots

// Whether deletions are so many that walks suffer.
bool is_torn(const Store& store);

// The new links of torn slots among kHealPiece from `begin` on; the store is only read, and may be
// by others.
std::vector<SlotLinks> mend(const Store& store, std::size_t begin, std::size_t threads);

// What is left of the dead once no live slot links to one any more; the store is only read.
struct Burial {
    Entries entries;                     // live ones
    std::vector<std::uint32_t> waiting;  // the live ones
    std::vector<std::uint32_t> dead;     // slots
};
Burial find_burial(const Store& store);

// Takes its entries and those that wait; then gives dead slots' numbers to rows that come.
void apply_entries(Store& store, Burial& burial);
void bury(Store& store, std::span<const std::uint32_t> dead);

}  // namespace mrl
