#include "link.hpp"

#include <algorithm>
#include <deque>

#include "../search/entries.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

// Which row is offered to which slot's links.
struct Offer {
    std::uint32_t to, mate;
    std::vector<std::uint32_t> links;  // of the slot, where no other row is offered to it
    friend bool operator<(const Offer& a, const Offer& b) {
        return a.to != b.to ? a.to < b.to : a.mate < b.mate;
    }
};

// The links of those that take rows among them. Mostly one row comes to each, and all is done.
std::vector<SlotLinks> link_back(const Store& store, const Mates& mates,
                                 const std::vector<SlotLinks>& fresh,
                                 std::vector<std::vector<Offer>>&& offered, std::size_t threads) {
    constexpr std::size_t kTask = 32;  // slots
    std::vector<Offer> offers;
    for (auto& some : offered) std::move(some.begin(), some.end(), std::back_inserter(offers));
    std::sort(offers.begin(), offers.end());
    std::vector<std::size_t> begins;  // of each slot's offers
    for (std::size_t i = 0; i < offers.size(); ++i)
        if (i == 0 || offers[i].to != offers[i - 1].to) begins.push_back(i);
    begins.push_back(offers.size());
    const std::size_t slots = begins.size() - 1, tasks = (slots + kTask - 1) / kTask;
    std::vector<std::vector<SlotLinks>> changed(tasks);
    parallel_for(threads, tasks, [&](std::size_t task, std::size_t) {
        BackLinker linker(store, mates);
        std::vector<std::uint32_t> rows, links;
        for (std::size_t s = task * kTask; s < std::min(slots, (task + 1) * kTask); ++s) {
            Offer& offer = offers[begins[s]];
            const std::uint32_t slot = offer.to;
            if (begins[s + 1] == begins[s] + 1 && !offer.links.empty()) {
                changed[task].emplace_back(slot, std::move(offer.links));
                continue;
            }
            rows.clear();
            for (std::size_t i = begins[s]; i < begins[s + 1]; ++i)
                rows.push_back(mates.slots[offers[i].mate]);
            const auto mate = std::find(mates.slots.begin(), mates.slots.end(), slot);
            const std::uint32_t* own = store.links.of(slot);
            links.assign(own, own + store.links.degree(slot));
            if (mate != mates.slots.end())
                links = fresh[static_cast<std::size_t>(mate - mates.slots.begin())].second;
            const std::vector<std::uint32_t> before = links;
            linker.add(slot, rows, links);
            if (links != before) changed[task].emplace_back(slot, links);
        }
    });
    std::vector<SlotLinks> all;
    for (auto& some : changed) std::move(some.begin(), some.end(), std::back_inserter(all));
    return all;
}

// As many entries as a build would make. They are grouped anew each time, so many are added seldom.
std::optional<Entries> more_entries(const Store& store, std::size_t live,
                                    const std::vector<SlotLinks>& fresh) {
    std::vector<std::uint32_t> entries = store.entries.slots;
    const std::size_t enough = entries_for(live);
    if (entries.size() + entries.size() / 16 >= enough) return {};
    for (std::size_t i = 0; i < fresh.size() && entries.size() < enough; ++i) {
        entries.push_back(fresh[i].first);
    }
    if (entries.size() == store.entries.size()) return {};
    return group_entries(store.lines, std::move(entries));
}

}  // namespace

LinkBatch next_batch(const Store& store, std::size_t most) {
    LinkBatch batch{.waited = std::min(most, store.waiting.size()),
                    .slots = {},
                    .live = store.live,
                    .longest_square = store.longest_square};
    std::copy_if(store.waiting.data(), store.waiting.data() + batch.waited,
                 std::back_inserter(batch.slots),
                 [&](std::uint32_t slot) { return !store.is_dead(slot); });
    return batch;
}

LinkChanges find_links(const Store& store, const LinkBatch& batch, ScratchPool& scratches,
                       std::size_t threads) {
    constexpr std::size_t kTask = 8;  // rows projected together, and linked by one thread
    const std::size_t n = batch.slots.size(), tasks = (n + kTask - 1) / kTask;
    LinkChanges changes{.waited = batch.waited, .fresh = {}, .others = {}};
    const Mates mates(store, batch.slots, batch.longest_square);
    std::vector<SlotLinks>& fresh = changes.fresh;
    fresh.resize(n);
    std::vector<std::vector<Offer>> offered(tasks);
    std::deque<RowLinker> linkers;
    for (std::size_t i = 0; i < std::max<std::size_t>(1, threads); ++i)
        linkers.emplace_back(store, mates);
    parallel_for(threads, tasks, [&](std::size_t task, std::size_t worker) {
        const std::size_t first = task * kTask, count = std::min(kTask, n - first);
        std::uint32_t rows[kTask];
        float coordinates[kTask * kLineCoordinates], squares[kTask];
        for (std::size_t i = 0; i < count; ++i) rows[i] = store.row_of(batch.slots[first + i]);
        store.projection->project(store.rows, rows, count, coordinates, squares);
        std::unique_ptr<Scratch> scratch = scratches.borrow();
        RowLinker& linker = linkers[worker];
        for (std::size_t i = first; i < first + count; ++i) {
            float* own = coordinates + (i - first) * kLineCoordinates;
            fresh[i] = {batch.slots[i], linker.links_of(i, own, scratch->walk)};
            for (SlotLinks& taker : linker.takers())
                offered[task].push_back(
                    {taker.first, static_cast<std::uint32_t>(i), std::move(taker.second)});
        }
        scratches.give_back(std::move(scratch));
    });
    changes.others = link_back(store, mates, fresh, std::move(offered), threads);
    changes.entries = more_entries(store, batch.live, fresh);
    return changes;
}

void apply_links(Store& store, LinkChanges&& changes) {
    for (const auto* changed : {&changes.fresh, &changes.others}) {
        for (const auto& [slot, links] : *changed)
            store.links.set(slot, links.data(), links.size());
    }
    // Some slot must lead to each: where all prunings dropped it, its nearest link gives its last
    // one up.
    for (const auto& [slot, links] : changes.fresh) {
        if (links.empty()) continue;
        const auto leads_here = [&store, to = slot](std::uint32_t other) {
            return store.links.leads_to(other, to);
        };
        const bool reached = std::any_of(links.begin(), links.end(), leads_here);
        const std::uint32_t nearest = links.front();
        if (!reached) store.links.of(nearest)[store.links.degree(nearest) - 1] = slot;
    }
    Array<std::uint32_t>& waiting = store.waiting;
    std::copy(waiting.begin() + changes.waited, waiting.end(), waiting.begin());
    waiting.resize(waiting.size() - changes.waited);
    store.publish();
    if (changes.entries) std::swap(store.entries, *changes.entries);
}

}  // namespace mrl
