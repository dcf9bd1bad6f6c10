// The links of rows that come, and those of the rows that they link to (link.hpp says when).
//
// What distances are computed from are lines of codes, unpacked: a row's neighbourhood is a few
// hundred of them, of two cache lines each, where the rows themselves are up to a hundred times as
// long. Each of one thread, kept for all rows of a batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../search/walk.hpp"
#include "../store/store.hpp"
#include "build_codes.hpp"
#include "pruner.hpp"
#include "slot_numbers.hpp"

namespace mrl {

// Rows that are linked together, and their codes.
struct Mates {
    Mates(const Store& store, const std::vector<std::uint32_t>& batch, double longest_square);

    const std::vector<std::uint32_t>& slots;
    float longest;  // squared length of all rows, for inner product
    BuildCodes codes;
};

// Finds a row's links: by a walk to its own neighbourhood, and among the rows that it came with.
class RowLinker {
  public:
    RowLinker(const Store& store, const Mates& mates)
        : store_(store), mates_(mates), pruner_(codes_, store.alpha) {}
    RowLinker(const RowLinker&) = delete;
    RowLinker& operator=(const RowLinker&) = delete;

    // coordinates: of the row's projection, which are overwritten.
    std::vector<std::uint32_t> links_of(std::size_t mate, float* coordinates, Walk& walk);
    // Those of the links that take the row among their own links, and what these then are, where
    // no other row comes; of mates none are said, as theirs may not be found yet.
    std::vector<SlotLinks>& takers() { return takers_; }
    // Who shall lead to the row, of those that it met (lead.hpp).
    std::vector<std::uint32_t> hosts() const;

  private:
    void meet(std::uint32_t slot);
    void meet_mates(std::size_t mate);
    void offer_to(const Near& link);
    bool is_hidden_from(const Near& link);
    void number_links(const std::uint32_t* links);

    const Store& store_;
    const Mates& mates_;
    const Kernels& kernels_ = kernels();
    LineQuery query_;
    // Candidates are numbered as they are met; 0 is the row itself.
    SlotNumbers numbers_;
    std::vector<std::uint32_t> slots_, known_;
    std::size_t first_mate_ = 0;
    std::vector<SlotLinks> takers_;
    BuildCodes codes_{0};
    std::vector<std::int32_t> products_;
    std::vector<float> distances_;  // from the row
    std::vector<Near> candidates_;
    Sorter sorter_;
    BuildPruner pruner_;
};

// Takes rows among the links of one that they link to.
class BackLinker {
  public:
    BackLinker(const Store& store, const Mates& mates) : store_(store), mates_(mates) {}

    // links: of the slot, which change where the rule of pruning lets a row in. Rows: slots.
    void add(std::uint32_t slot, const std::vector<std::uint32_t>& rows,
             std::vector<std::uint32_t>& links);

  private:
    const Store& store_;
    const Mates& mates_;
    const Kernels& kernels_ = kernels();
    std::vector<std::uint32_t> slots_, links_;
    BuildCodes codes_{0};
    std::vector<std::int32_t> products_;
};

}  // namespace mrl
