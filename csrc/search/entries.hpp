// Where walks over the graph begin: one row of every cell, in groups of neighbours. A walk looks at
// the centres of all groups, and then at the entries of the nearest few groups: nearly as good a
// start as all of them would give, for a tenth of their lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/links.hpp"

namespace mrl {

// How many cells a collection of so many rows is divided into, and so how many entries it has.
std::size_t cells_of(std::size_t rows);

// How many entries a graph of so many live rows should have as rows are linked to it. Few rows have
// one for each eight of them: up to so many all entries are looked at.
std::size_t entries_for(std::size_t rows);

// The entries at some slots, in groups. The order in which they are given means nothing; no slot
// may stand twice.
Entries group_entries(const LineCodes& codes, std::vector<std::uint32_t> slots);

// Puts one more into the group whose centre is nearest to it. line: high bits and low bits.
void add_entry(Entries& entries, const LineCodes& codes, std::uint32_t slot,
               const std::uint8_t* line);

// Puts the entries that a walk looks at into an empty pool with room for all, by their high bits.
// Returns how many lines it read.
std::size_t read_entries(const Kernels& kernels, const Entries& entries, const LineQuery& query,
                         Pool& pool);

// Puts all entries that allows(slot) into an empty pool with room for all.
template <class Allows>
std::size_t read_allowed(const Kernels& kernels, const Entries& entries, const LineQuery& query,
                         Allows&& allows, Pool& pool) {
    for (std::size_t i = 0; i < entries.size(); ++i)
        if (allows(entries.slots[i])) pool.id[pool.size++] = static_cast<std::uint32_t>(i);
    kernels.score_high(&query, entries.lines.data(), pool.id, pool.size, pool.key);
    for (std::size_t i = 0; i < pool.size; ++i) {
        pool.id[i] = entries.slots[pool.id[i]];
        pool.open[i] = pool.key[i];
    }
    return pool.size;
}

}  // namespace mrl
