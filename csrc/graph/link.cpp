#include "link.hpp"

#include <algorithm>
#include <map>

#include "../kernels/dispatch.hpp"
#include "../search/entries.hpp"
#include "../search/walk.hpp"
#include "../system/thread_pool.hpp"
#include "build.hpp"
#include "row_pruner.hpp"

namespace mrl {
namespace {

constexpr std::size_t kMates = 16;  // of those linked together, the nearest that each considers

using Slots = std::vector<std::uint32_t>;

// The nearest other slots of a batch, by their int8 codes.
void add_mates(std::uint32_t slot, const Slots& batch, RowPruner& pruner, Slots& candidates) {
    const std::vector<float>& distances = pruner.measure(slot, batch.data(), batch.size());
    std::vector<Near> mates;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (batch[i] != slot) mates.push_back({distances[i], batch[i]});
    }
    const std::size_t count = std::min(kMates, mates.size());
    std::partial_sort(mates.begin(), mates.begin() + static_cast<std::ptrdiff_t>(count),
                      mates.end());
    for (std::size_t i = 0; i < count; ++i) candidates.push_back(mates[i].slot);
}

// The links of a slot that waits: found by a walk to its own neighbourhood, and among the slots
// that are linked with it.
Slots links_for(const Store& store, std::uint32_t slot, const LinkBatch& batch,
                ScratchPool& scratches) {
    constexpr BuildOptions kBuild;  // walks as long as a build's
    const std::uint32_t row = store.row_of(slot);
    std::unique_ptr<Scratch> scratch = scratches.borrow();
    float coordinates[kLineCoordinates], square;
    store.projection->project(store.rows, &row, 1, coordinates, &square);
    store.projection->as_query(coordinates);
    LineQuery& query = scratch->query.line;
    Walk& walk = scratch->walk;
    store.lines.prepare(coordinates, query);
    walk_graph(kernels(), {store.links, store.entries, store.lines}, query,
               {.hops = kBuild.walk_hops, .pool = kBuild.walk_pool}, nullptr, walk);
    Slots candidates(walk.popped);
    candidates.insert(candidates.end(), walk.pool.id, walk.pool.id + walk.pool.size);
    std::erase_if(candidates, [&](std::uint32_t other) { return store.is_dead(other); });
    scratches.give_back(std::move(scratch));
    RowPruner pruner(store, batch.longest_square);
    add_mates(slot, batch.slots, pruner, candidates);
    return pruner.links_among(slot, std::move(candidates));
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

LinkChanges find_links(const Store& store, const LinkBatch& of, ScratchPool& scratches,
                       std::size_t threads) {
    LinkChanges changes{.waited = of.waited, .fresh = {}, .others = {}};
    const Slots& batch = of.slots;
    std::vector<SlotLinks>& fresh = changes.fresh;
    fresh.resize(batch.size());
    parallel_for(threads, batch.size(), [&](std::size_t i, std::size_t) {
        fresh[i] = {batch[i], links_for(store, batch[i], of, scratches)};
    });
    std::map<std::uint32_t, Slots> back;  // of each slot that is linked to: from where
    for (const auto& [slot, links] : fresh) {
        for (const std::uint32_t other : links) back[other].push_back(slot);
    }
    const std::vector<SlotLinks> offers(back.begin(), back.end());
    changes.others.resize(offers.size());
    parallel_for(threads, offers.size(), [&](std::size_t i, std::size_t) {
        const auto& [slot, from] = offers[i];
        const auto mate = std::find(batch.begin(), batch.end(), slot);
        const std::uint32_t* own = store.links.of(slot);
        Slots links = mate != batch.end()
                          ? fresh[static_cast<std::size_t>(mate - batch.begin())].second
                          : Slots(own, own + store.links.degree(slot));
        RowPruner pruner(store, of.longest_square);
        for (const std::uint32_t other : from) pruner.add_link(slot, other, links);
        changes.others[i] = {slot, std::move(links)};
    });
    changes.entries = more_entries(store, of.live, fresh);
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
