// Where walks over the graph begin: one row of every cell, in groups of neighbours. A walk looks at
// the centres of all groups, and then at the entries of the nearest few groups: nearly as good a
// start as all of them would give, for a tenth of their lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/line_codes.hpp"
#include "../system/memory.hpp"

namespace mrl {

constexpr std::size_t kMostEntries = 16384;

// How many cells a collection of so many rows is divided into, and so how many entries it has.
std::size_t cells_of(std::size_t rows);

class Entries {
  public:
    // The order in which slots are given means nothing; no slot may stand twice.
    void set(const LineCodes& codes, std::vector<std::uint32_t> slots);
    const std::vector<std::uint32_t>& slots() const { return slots_; }
    std::size_t size() const { return slots_.size(); }

    // Puts the entries that it looks at into an empty pool with room for all, by their high bits.
    // Returns how many lines it read.
    std::size_t look(const Kernels& kernels, const LineQuery& query, Pool& pool) const;

    std::size_t bytes() const { return lines_.bytes() + centres_.bytes(); }

    template <class Fields>
    void fields(Fields& f) {
        f.list("graph.entries", slots_);  // the rest is made from them
    }

    // With what is made from them, for who cannot wait for it.
    template <class Fields>
    void whole(Fields& f) {
        f.list("entries.slots", slots_);
        f.list("entries.begins", begins_);
        f.array("entries.lines", lines_);
        centres_.fields(f);
    }
    // Of what came from outside: whether all fits, over so many slots.
    bool restore(const LineCodes& codes, std::size_t slots);

  private:
    void group(const LineCodes& codes, std::size_t groups);

    std::vector<std::uint32_t> slots_;         // group after group
    std::vector<std::uint32_t> begins_{0, 0};  // of each group among them, and the end
    Array<std::uint8_t> lines_;                // their high bits, side by side
    LineCodes centres_;
};

}  // namespace mrl
