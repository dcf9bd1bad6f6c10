// What walks past a hidden row needs (search/hidden.hpp): the links that others would have without
// it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../search/hidden.hpp"
#include "../store/store.hpp"
#include "link.hpp"
#include "row_pruner.hpp"

namespace mrl {

// The rows of some keys, to be hidden one for each query; and of each of their slots that any slot
// links to: which do. Rising.
HiddenRows find_hidden(const Store& store, const KeySpan& keys,
                       std::vector<SlotLinks>& linked_from);

// Which slots link to each of some, rising; those that none links to are left out.
std::vector<SlotLinks> find_links_to(const Store& store, const Bitmap& slots);

// One thread's work on some hidden slots.
class DetourFinder {
  public:
    explicit DetourFinder(const Store& store)
        : store_(store), pruner_(store, store.longest_square), met_(store.links.slots(), 0) {}

    // The detours past a slot, for those that link to it.
    Detour past(std::uint32_t hidden, std::span<const std::uint32_t> from);

  private:
    void find_nearby(std::uint32_t hidden, std::span<const std::uint32_t> from);
    std::vector<std::uint32_t> links_without(std::uint32_t slot, std::uint32_t hidden);

    const Store& store_;
    RowPruner pruner_;
    std::vector<Near> nearby_;  // of the hidden slot
    std::vector<std::uint32_t> nearby_slots_;
    std::vector<std::uint32_t> met_;  // of each slot: when it was last seen behind a link
    std::uint32_t stamp_ = 0;
};

}  // namespace mrl
