#include "heal.hpp"

#include <algorithm>

#include "../search/entries.hpp"
#include "../system/thread_pool.hpp"
#include "row_pruner.hpp"

namespace mrl {
namespace {

constexpr std::size_t kHealLeast = 64;  // dead slots; fewer are not worth it

// The live slots that a slot links to, and those that its dead links link to in their place.
std::vector<std::uint32_t> live_around(const Store& store, const Dying& dying, std::uint32_t slot) {
    std::vector<std::uint32_t> candidates;
    const std::uint32_t* links = store.links.of(slot);
    const std::size_t degree = store.links.degree(slot);
    for (std::size_t e = 0; e < degree; ++e) {
        if (!dying.has(links[e])) {
            candidates.push_back(links[e]);
            continue;
        }
        const std::uint32_t* further = store.links.of(links[e]);
        for (std::size_t f = 0; f < kDegree && further[f] != kNoLink; ++f) {
            if (!dying.has(further[f])) candidates.push_back(further[f]);
        }
    }
    return candidates;
}

// A dead entry's first live link takes its place; where all that it led to is dead, another live
// slot does.
std::vector<std::uint32_t> live_entries(const Store& store, const Dying& dying) {
    std::vector<std::uint32_t> entries;
    for (const std::uint32_t entry : store.entries.slots) {
        if (!dying.has(entry)) {
            entries.push_back(entry);
            continue;
        }
        const std::uint32_t* links = store.links.of(entry);
        const std::uint32_t* end = links + store.links.degree(entry);
        const std::uint32_t* live =
            std::find_if(links, end, [&](std::uint32_t other) { return !dying.has(other); });
        if (live != end) entries.push_back(*live);
    }
    const std::size_t slots = store.links.slots(), missing = store.entries.size() - entries.size();
    for (std::size_t i = 0; i < missing; ++i) {
        for (std::size_t s = i * slots / missing; s < (i + 1) * slots / missing; ++s) {
            if (dying.has(static_cast<std::uint32_t>(s)) || store.links.degree(s) == 0) continue;
            entries.push_back(static_cast<std::uint32_t>(s));
            break;
        }
    }
    std::sort(entries.begin(), entries.end());  // a walk would meet a slot that stands twice twice
    entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
    return entries;
}

}  // namespace

bool is_torn(const Store& store, std::size_t share) {
    return store.has_graph && store.marked > std::max(kHealLeast, store.links.slots() / share);
}

Dying find_dying(const Store& store) {
    const std::size_t slots = store.links.slots();
    Dying dying{
        .slots = {}, .is_one = {}, .of_slots = slots, .longest_square = store.longest_square};
    dying.is_one.resize(slots);
    std::vector<bool> free(slots, false);
    for (const std::uint32_t row : store.free_rows) free[row] = true;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
        const std::uint32_t row = store.row_of(slot);
        if (!store.deleted.test(row) || free[row]) continue;
        dying.slots.push_back(slot);
        dying.is_one.set(slot);
    }
    return dying;
}

std::vector<SlotLinks> mend(const Store& store, const Dying& dying, std::size_t begin,
                            std::size_t threads) {
    constexpr std::size_t kTask = 64;
    const std::size_t count = std::min(kHealPiece, dying.of_slots - begin);
    std::vector<std::vector<SlotLinks>> parts((count + kTask - 1) / kTask);
    parallel_for(threads, parts.size(), [&](std::size_t task, std::size_t) {
        RowPruner pruner(store, dying.longest_square);
        for (std::size_t i = task * kTask; i < std::min(count, (task + 1) * kTask); ++i) {
            const auto slot = static_cast<std::uint32_t>(begin + i);
            if (dying.has(slot)) continue;
            const std::uint32_t* links = store.links.of(slot);
            const std::uint32_t* end = links + store.links.degree(slot);
            if (std::none_of(links, end, [&](std::uint32_t to) { return dying.has(to); })) {
                continue;
            }
            parts[task].emplace_back(slot,
                                     pruner.links_among(slot, live_around(store, dying, slot)));
        }
    });
    std::vector<SlotLinks> mended;
    for (auto& part : parts) std::move(part.begin(), part.end(), std::back_inserter(mended));
    return mended;
}

Entries entries_without(const Store& store, const Dying& dying) {
    return group_entries(store.lines, live_entries(store, dying));
}

void leave_out(Store& store, const Dying& dying, Entries& entries) {
    std::swap(store.entries, entries);
    Array<std::uint32_t>& waiting = store.waiting;
    const std::uint32_t* end = std::remove_if(waiting.begin(), waiting.end(),
                                              [&](std::uint32_t slot) { return dying.has(slot); });
    waiting.resize(static_cast<std::size_t>(end - waiting.begin()));
    store.publish();
}

void bury(Store& store, std::span<const std::uint32_t> dead) {
    for (const std::uint32_t slot : dead) {
        store.links.set(slot, nullptr, 0);
        store.free_rows.push_back(store.row_of(slot));
    }
    store.marked -= dead.size();
}

}  // namespace mrl
