// Deleted rows leave the graph: each slot with a link to a dead one gets that one's links as
// candidates in its place, and whom nobody leads to any more is led to anew. In pieces, so that
// searches go on between them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../store/store.hpp"
#include "link.hpp"

namespace mrl {

constexpr std::size_t kHealPiece = 4096;  // slots

// Walks suffer when more than one slot in so many is dead: healed beside writes, or, where that
// comes too late, by who writes.
constexpr std::size_t kTornShare = 10, kWornShare = 5;

bool is_torn(const Store& store, std::size_t share);

// The dead that still have a slot, when healing begins; those that die later wait for the next
// time.
struct Dying {
    std::vector<std::uint32_t> slots;
    Bitmap is_one, is_linked;  // dying; neither dying nor waiting
    std::size_t of_slots;
    double longest_square;

    bool has(std::uint32_t slot) const { return slot < of_slots && is_one.test(slot); }
};
Dying find_dying(const Store& store);

// The new links of torn slots among kHealPiece from `begin` on. Meanwhile rows may be put and
// removed, but no array may move, and links change nowhere else: here and below.
std::vector<SlotLinks> mend(const Store& store, const Dying& dying, std::size_t begin,
                            std::size_t threads);
// Others in place of the dying ones.
Entries entries_without(const Store& store, const Dying& dying);
// Once all are mended: the links of those that are to lead to slots which only dying ones led to
// (connect.hpp).
std::vector<SlotLinks> connect_without(const Store& store, const Dying& dying,
                                       const Entries& entries, std::size_t threads);

// Once no live slot links to a dying one: takes these entries, and leaves the dying out of those
// that wait; then gives their numbers to rows that come.
void leave_out(Store& store, const Dying& dying, Entries& entries);
void bury(Store& store, std::span<const std::uint32_t> dead);

}  // namespace mrl
