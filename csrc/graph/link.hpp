// Rows that come one after another: they can be found at once, and are linked when there is time.
//
// A row that was put waits in a list, and searches look at that list from end to end, a line of
// code each. Linking takes rows from it by the dozen: each walks the graph to its own
// neighbourhood, sees the rows that it came with, and is pruned like the rows of a build; then all
// rows that were linked to get their links back (row_linker.hpp). The result is the same whatever
// the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "../search/scratch.hpp"
#include "../store/store.hpp"
#include "row_linker.hpp"

namespace mrl {

constexpr std::size_t kTogether = 64;  // rows linked at a time

// What linking some waiting slots will change.
struct LinkChanges {
    std::size_t waited;                // how many leave the list, from its beginning
    std::vector<SlotLinks> fresh;      // of slots that waited
    std::vector<SlotLinks> others;     // of slots that they link to
    std::optional<Entries> entries{};  // where there are to be more
};

// The first of those that wait, and what the store was like then.
struct LinkBatch {
    std::size_t waited;
    std::vector<std::uint32_t> slots;
    std::size_t live;
    double longest_square;
};
LinkBatch next_batch(const Store& store, std::size_t most);

// Computes the changes for a batch. Meanwhile rows may be put and removed, but no array may move,
// and links change nowhere else.
LinkChanges find_links(const Store& store, const LinkBatch& batch, ScratchPool& scratches,
                       std::size_t threads);

void apply_links(Store& store, LinkChanges&& changes);

}  // namespace mrl
