// A proximity graph over line codes, and the walk that searches it.
//
// Every slot (a row's place in the graph; neighbours in space lie near each other) has up to 32
// links. A walk keeps a pool of candidates by estimate, pops the best few, scores all their links
// that it has not met, and appends those that are below the pool's threshold; when the pool is too
// long it is cut and the threshold falls. It ends after `hops` pops, or when the best open
// candidate is worse than the k-th best by `margin`, or when none is open. What it touches of a row
// is one line of code: the currency is lines that miss the cache.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/line_codes.hpp"
#include "../system/memory.hpp"
#include "entries.hpp"

namespace mrl {

constexpr std::size_t kDegree = 32;
constexpr std::uint32_t kNoLink = 0xffffffffu;

// One bit for each slot.
class Bitmap {
  public:
    void resize(std::size_t slots) { words_.resize((slots + 63) / 64); }
    bool test(std::size_t i) const { return (words_[i >> 6] >> (i & 63) & 1) != 0; }
    void set(std::size_t i) { words_[i >> 6] |= std::uint64_t{1} << (i & 63); }
    void clear(std::size_t i) { words_[i >> 6] &= ~(std::uint64_t{1} << (i & 63)); }
    std::size_t count() const;
    const Array<std::uint64_t>& words() const { return words_; }
    Array<std::uint64_t>& words() { return words_; }

  private:
    Array<std::uint64_t> words_;
};

// Which slots may be in an answer; a walk passes through the others all the same.
struct SlotFilter {
    const Bitmap* deleted;               // rows
    const Bitmap* selected;              // rows, or nullptr for all …
    std::size_t selected_from;           // … of so many; rows that came later are not selected
    const std::uint32_t* born;           // of each row, when it came, in epochs …
    std::uint64_t selected_in;           // … and the epoch of the selection
    const std::uint32_t* row_of_slot;    // or nullptr where both are the same
    std::uint32_t hidden = 0xffffffffu;  // a row that is to be as if it were not there, or none

    bool allows_row(std::uint32_t row) const {
        return row != hidden && !deleted->test(row) &&
               (selected == nullptr ||
                (row < selected_from && selected->test(row) && born[row] <= selected_in));
    }
    bool allows(std::uint32_t slot) const {
        return allows_row(row_of_slot == nullptr ? slot : row_of_slot[slot]);
    }
};

// The links that the slots that link to a hidden one would have without it.
struct Detour {
    std::vector<std::uint32_t> slots;  // rising
    std::vector<std::array<std::uint32_t, kDegree>> links;

    const std::uint32_t* links_of(std::uint32_t slot, const std::uint32_t* as_they_are) const;
};

struct WalkOptions {
    std::size_t hops;                // candidates popped
    std::size_t pool;                // candidates kept
    std::size_t k;                   // the margin is measured from the k-th best
    float margin;                    // in units of the score; +inf never stops
    bool refine;                     // score survivors by both planes before they enter the pool
    std::uint32_t hidden = kNoLink;  // a slot that no walk passes through, or none …
    const Detour* detour = nullptr;  // … and the links in place of those to it, or nullptr
};

// What one walk needs beside the graph; kept and used again. One thread at a time.
class Walk {
  public:
    Pool pool{};
    std::vector<std::uint32_t> popped;  // the slots whose links were followed, in order
    std::size_t scored = 0;             // lines read

    void prepare(std::size_t slots, std::size_t pool_keep, std::size_t entries);
    bool first_visit(std::uint32_t slot) {
        std::uint8_t& byte = visited_[slot >> 3];
        const unsigned bit = 1u << (slot & 7);
        const bool first = (byte & bit) == 0;
        byte = static_cast<std::uint8_t>(byte | bit);
        return first;
    }

  private:
    std::vector<std::uint8_t> visited_;
    Array<float> key_, open_;
    Array<std::uint32_t> id_;
};

// How walks go, over memory (graph.cpp) and over pages (paged_search.cpp) alike.
namespace walk_rule {
constexpr std::size_t kPoolSlack = 24;  // appended beyond the kept length before the pool is cut
// Candidates popped at once: their misses overlap. Few while the walk is on its way, as each pop
// points the next ones; more once it is where it wants to be and looks around.
constexpr std::size_t kFirstPops = 5;
constexpr std::size_t kPops = 8;
constexpr std::size_t kArrived = 30;    // hops
constexpr std::size_t kAhead = 4;       // and the next ones, whose links are fetched already
constexpr std::size_t kEntryPool = 16;  // entries that start a walk
}  // namespace walk_rule

// Puts the best entries into the empty pool of a walk that was prepared.
void enter(const Entries& entries, const Kernels& kernels, const LineQuery& query, Walk& walk);

class Graph {
  public:
    void resize(std::size_t slots);
    std::size_t slots() const { return links_.size() / kDegree; }
    std::uint32_t* links(std::size_t slot) { return links_.data() + slot * kDegree; }
    const std::uint32_t* links(std::size_t slot) const { return links_.data() + slot * kDegree; }
    std::size_t degree(std::size_t slot) const;
    void set_links(std::size_t slot, const std::uint32_t* to, std::size_t count);

    // The slots at which walks begin.
    Entries& all_entries() { return entries_; }
    void set_entries(const LineCodes& codes, std::vector<std::uint32_t> entries) {
        entries_.set(codes, std::move(entries));
    }
    const std::vector<std::uint32_t>& entries() const { return entries_.slots(); }

    // Leaves the candidates in walk.pool, those that the filter does not allow included; only those
    // that it allows count for the margin.
    void walk(const Kernels& kernels, const LineCodes& codes, const LineQuery& query,
              const WalkOptions& options, Walk& walk, const SlotFilter* filter) const;

    std::size_t bytes() const { return links_.bytes() + entries_.bytes(); }

    template <class Fields>
    void fields(Fields& f) {
        f.array("graph.links", links_);
        entries_.fields(f);
    }
    // Of what came out of a file: whether every link leads to a slot. Entries are to be set again.
    bool sound(std::size_t slots) const;

  private:
    Array<std::uint32_t> links_;
    Entries entries_;
};

}  // namespace mrl
