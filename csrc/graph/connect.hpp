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

namespace mrl {

// What is connected: slots, their links, and the distances between them.
class ConnectedGraph {
  public:
    virtual ~ConnectedGraph() = default;
    virtual std::size_t slots() const = 0;
    // Whether a slot is to be reached. Those that are not have no links, and nobody links to them.
    virtual bool has(std::uint32_t slot) const = 0;
    // kDegree of them; kNoLink behind the last.
    virtual const std::uint32_t* of(std::uint32_t slot) const = 0;
    virtual void set(std::uint32_t slot, std::size_t position, std::uint32_t to) = 0;
    // Squared distances; of up to kDegree.
    virtual void measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                         float* distances) const = 0;
    virtual bool is_same(std::uint32_t a, std::uint32_t b) const = 0;
};

// The first link of each slot is its nearest one. A slot that has none gets its host as one. The
// result is the same for any number of threads.
void connect(ConnectedGraph& graph, const std::vector<std::uint32_t>& entries, std::size_t threads);

}  // namespace mrl
