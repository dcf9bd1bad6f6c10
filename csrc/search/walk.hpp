// The walk that searches the graph (store/links.hpp) by line codes.
//
// A walk keeps a pool of candidates by estimate, pops the best few, scores all their links that it
// has not met, and appends those that are below the pool's threshold; when the pool is too long it
// is cut and the threshold falls. It ends after `hops` pops, or when the best open candidate is
// worse than the k-th best by `margin`, or when none is open. What it touches of a row is one line
// of code: the currency is lines that miss the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/links.hpp"
#include "../store/marks.hpp"
#include "../system/memory.hpp"
#include "best.hpp"
#include "hidden.hpp"

namespace mrl {

struct WalkOptions {
    std::size_t hops;                // candidates popped
    std::size_t pool;                // candidates kept
    std::size_t k = 0;               // the margin is measured from the k-th best
    float margin = kInfinity;        // in units of the score; +inf never stops
    bool refine = false;             // score survivors by both planes before they enter the pool
    std::uint32_t hidden = kNoLink;  // a slot that no walk passes through, or none …
    const Detour* detour = nullptr;  // … and the links in place of those to it, or nullptr
};

// A walk to a row's own place, for all that it met: what a row that comes may be linked to.
constexpr std::size_t kGatherHops = 128, kGatherPool = 160;

// What one walk needs beside the graph; kept and used again. One thread at a time.
class Walk {
  public:
    // From so many slots on, a walk forgets the slots that the one before it met one by one: to
    // clear a bit for each slot would take longer than the walk.
    explicit Walk(std::size_t many_slots = 1 << 20) : many_slots_(many_slots) {}

    Pool pool{};
    std::vector<std::uint32_t> popped;  // the slots whose links were followed, in order
    std::size_t scored = 0;             // lines read

    void prepare(std::size_t slots, std::size_t pool_keep, std::size_t entries);
    // Slots are visited a batch at a time: first_visit() of each, then met() with those for which
    // it was true; and when the walk has ended, done().
    bool first_visit(std::uint32_t slot) {
        std::uint8_t& byte = visited_[slot >> 3];
        const unsigned bit = 1u << (slot & 7);
        const bool first = (byte & bit) == 0;
        byte = static_cast<std::uint8_t>(byte | bit);
        return first;
    }
    void met(const std::uint32_t* slots, std::size_t n) {
        if (slots_ >= many_slots_) met_.insert(met_.end(), slots, slots + n);
    }
    void done() { met_all_ = true; }

  private:
    std::size_t many_slots_, slots_ = 0;
    std::vector<std::uint8_t> visited_;  // a bit a slot
    std::vector<std::uint32_t> met_;     // those whose bits are set, where slots are many …
    bool met_all_ = false;               // … unless the walk was broken off
    Array<float> key_, open_;
    Array<std::uint32_t> id_;
};

// How walks go, over memory (walk.cpp) and over pages (paged_walk.cpp) alike.
namespace walk_rule {
constexpr std::size_t kPoolSlack = 24;  // appended beyond the kept length before the pool is cut
// Candidates popped at once: their misses overlap. Few while the walk is on its way, as each pop
// points the next ones; more once it is where it wants to be and looks around.
constexpr std::size_t kFirstPops = 5;
constexpr std::size_t kPops = 8;
constexpr std::size_t kArrived = 30;    // hops
constexpr std::size_t kAhead = 4;       // and the next ones, whose links are fetched already
constexpr std::size_t kEntryPool = 16;  // entries that start a walk
constexpr std::size_t kMostPool = 8192, kLeastPool = 32;
// Lines hold little of long vectors, and two bits of it lead astray: from so many dims on survivors
// are scored by both planes before they enter the pool.
constexpr std::size_t kRefinedDims = 640;
// For each row that a walk or a scan passes on, how many are scored by both planes.
constexpr std::size_t kHighKeep = 3;
}  // namespace walk_rule

// Puts the best entries into the empty pool of a walk that was prepared.
void enter(const Kernels& kernels, const Entries& entries, const LineQuery& query, Walk& walk);
// The same, where the pool has entries already. Returns whether there are any.
bool begin_at_best(const Kernels& kernels, Walk& walk);

// What a walk reads.
struct GraphView {
    const Links& links;
    const Entries& entries;
    const LineCodes& lines;
};

// Leaves the candidates in walk.pool, those that the filter does not allow included; only those
// that it allows count for the margin.
void walk_graph(const Kernels& kernels, const GraphView& graph, const LineQuery& query,
                const WalkOptions& options, const RowFilter* filter, Walk& walk);

}  // namespace mrl
