#include "heal.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "../search/entries.hpp"
#include "../system/thread_pool.hpp"
#include "connect.hpp"
#include "row_pruner.hpp"
#include "slot_numbers.hpp"

namespace mrl {
namespace {

constexpr std::size_t kHealLeast = 64;  // dead slots; fewer are not worth it
constexpr std::size_t kHealSteps = 4;   // from a slot through dead ones

// The live slots that a slot links to, and those that its dead links link to in their place;
// through further dead ones where these are few.
std::vector<std::uint32_t> live_around(const Store& store, const Dying& dying, std::uint32_t slot,
                                       SlotNumbers& met) {
    std::vector<std::uint32_t> live, dead{slot}, next;
    std::uint32_t count = 0;
    const auto is_new = [&](std::uint32_t other) {
        const bool is = met.find_or_add(other, count) == count;
        count += is;
        return is;
    };
    met.clear();
    is_new(slot);
    for (std::size_t step = 0; step < kHealSteps && !dead.empty() && live.size() < kDegree;
         ++step) {
        next.clear();
        for (const std::uint32_t from : dead) {
            const std::uint32_t* links = store.links.of(from);
            for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
                if (is_new(links[e])) (dying.has(links[e]) ? next : live).push_back(links[e]);
            }
        }
        dead.swap(next);
    }
    return live;
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

// The graph without the dying ones; what changes is kept beside it.
class GraphWithout : public ConnectedGraph {
  public:
    GraphWithout(const Store& store, const Dying& dying) : store_(store), dying_(dying) {
        none_.fill(kNoLink);
        is_changed_.resize(dying.of_slots);
    }

    std::size_t slots() const override { return dying_.of_slots; }
    bool has(std::uint32_t slot) const override { return dying_.is_linked.test(slot); }
    const std::uint32_t* of(std::uint32_t slot) const override {
        if (!has(slot)) return none_.data();
        return is_changed_.test(slot) ? changed_.at(slot).data() : store_.links.of(slot);
    }
    void set(std::uint32_t slot, std::size_t position, std::uint32_t to) override {
        if (!is_changed_.test(slot)) {
            std::copy_n(store_.links.of(slot), kDegree, changed_[slot].begin());
            is_changed_.set(slot);
        }
        changed_[slot][position] = to;
    }
    void measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                 float* distances) const override {
        std::uint32_t rows[kDegree];
        std::int32_t products[kDegree];
        measure_slots(store_, dying_.longest_square, from, to, n, rows, products, distances);
    }
    bool is_same(std::uint32_t a, std::uint32_t b) const override {
        const Rows& rows = store_.rows;
        const std::uint32_t row = store_.row_of(a), other = store_.row_of(b);
        return rows.scale(row) == rows.scale(other) &&
               std::memcmp(rows.code(row), rows.code(other), rows.dims()) == 0;
    }

    std::vector<SlotLinks> changes() const {
        std::vector<SlotLinks> changes;
        for (const auto& [slot, links] : changed_)
            changes.emplace_back(
                slot, std::vector(links.begin(), std::find(links.begin(), links.end(), kNoLink)));
        return changes;
    }

  private:
    const Store& store_;
    const Dying& dying_;
    std::array<std::uint32_t, kDegree> none_;
    Bitmap is_changed_;
    std::unordered_map<std::uint32_t, std::array<std::uint32_t, kDegree>> changed_;
};

}  // namespace

bool is_torn(const Store& store, std::size_t share) {
    return store.has_graph && store.marked > std::max(kHealLeast, store.links.slots() / share);
}

Dying find_dying(const Store& store) {
    const std::size_t slots = store.links.slots();
    Dying dying{.slots = {},
                .is_one = {},
                .is_linked = {},
                .of_slots = slots,
                .longest_square = store.longest_square};
    dying.is_one.resize(slots);
    dying.is_linked.resize(slots);
    std::vector<bool> free(slots, false);
    for (const std::uint32_t row : store.free_rows) free[row] = true;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
        const std::uint32_t row = store.row_of(slot);
        if (!store.deleted.test(row)) {
            dying.is_linked.set(slot);
        } else if (!free[row]) {
            dying.slots.push_back(slot);
            dying.is_one.set(slot);
        }
    }
    std::for_each(store.waiting.data(), store.waiting.data() + store.waiting.size(),
                  [&](std::uint32_t slot) { dying.is_linked.clear(slot); });
    return dying;
}

std::vector<SlotLinks> mend(const Store& store, const Dying& dying, std::size_t begin,
                            std::size_t threads) {
    constexpr std::size_t kTask = 64;
    const std::size_t count = std::min(kHealPiece, dying.of_slots - begin);
    std::vector<std::vector<SlotLinks>> parts((count + kTask - 1) / kTask);
    parallel_for(threads, parts.size(), [&](std::size_t task, std::size_t) {
        RowPruner pruner(store, dying.longest_square);
        SlotNumbers met;
        for (std::size_t i = task * kTask; i < std::min(count, (task + 1) * kTask); ++i) {
            const auto slot = static_cast<std::uint32_t>(begin + i);
            if (dying.has(slot)) continue;
            const std::uint32_t* links = store.links.of(slot);
            const std::uint32_t* end = links + store.links.degree(slot);
            if (std::none_of(links, end, [&](std::uint32_t to) { return dying.has(to); })) {
                continue;
            }
            parts[task].emplace_back(
                slot, pruner.links_among(slot, live_around(store, dying, slot, met)));
        }
    });
    std::vector<SlotLinks> mended;
    for (auto& part : parts) std::move(part.begin(), part.end(), std::back_inserter(mended));
    return mended;
}

Entries entries_without(const Store& store, const Dying& dying) {
    return group_entries(store.lines, live_entries(store, dying));
}

std::vector<SlotLinks> connect_without(const Store& store, const Dying& dying,
                                       const Entries& entries, std::size_t threads) {
    GraphWithout graph(store, dying);
    connect(graph, entries.slots, threads);
    return graph.changes();
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
