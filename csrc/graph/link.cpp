#include "link.hpp"

#include <algorithm>
#include <deque>

#include "../search/entries.hpp"
#include "../system/thread_pool.hpp"
#include "lead.hpp"

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

// The links of slots as they will be: those that change, each once, and others as they are asked
// for.
class StoreLinks : public LinksToBe {
  public:
    StoreLinks(const Store& store, LinkChanges& changes) : store_(store), changes_(changes) {
        for (SlotLinks& fresh : changes.fresh) add(fresh);
        std::erase_if(changes.others, [this](SlotLinks& other) {
            const std::uint32_t mate = numbers_.find(other.first);
            if (mate != SlotNumbers::kNone) links_[mate]->swap(other.second);
            return mate != SlotNumbers::kNone;
        });
        for (SlotLinks& other : changes.others) add(other);
    }

    std::vector<std::uint32_t>* changed(std::uint32_t slot) override {
        const std::uint32_t known = numbers_.find(slot);
        return known == SlotNumbers::kNone ? nullptr : links_[known];
    }

    std::vector<std::uint32_t>* of(std::uint32_t slot) override {
        if (auto* links = changed(slot)) return links;
        const std::uint32_t* own = store_.links.of(slot);
        asked_.emplace_back(slot, std::vector(own, own + store_.links.degree(slot)));
        add(asked_.back());
        return links_.back();
    }

    bool is_fresh(std::uint32_t slot) const { return numbers_.find(slot) < changes_.fresh.size(); }

    // Those that were asked for, where they change.
    void take_asked() {
        for (SlotLinks& asked : asked_) {
            const std::uint32_t* own = store_.links.of(asked.first);
            if (!std::equal(asked.second.begin(), asked.second.end(), own,
                            own + store_.links.degree(asked.first)))
                changes_.others.push_back(std::move(asked));
        }
    }

  private:
    void add(SlotLinks& links) {
        numbers_.find_or_add(links.first, static_cast<std::uint32_t>(links_.size()));
        links_.push_back(&links.second);
    }

    const Store& store_;
    LinkChanges& changes_;
    SlotNumbers numbers_;
    std::vector<std::vector<std::uint32_t>*> links_;
    std::deque<SlotLinks> asked_;
};

// Where an older slot gives up its link to another for a row that comes, and nobody whom the other
// links to leads to it either, the row does.
void keep_led_to(const Store& store, const LinkChanges& changes, StoreLinks& links) {
    const auto leads = [&](std::uint32_t from, std::uint32_t to) {
        const std::vector<std::uint32_t>* changed = links.changed(from);
        return changed == nullptr ? store.links.leads_to(from, to) : has(*changed, to);
    };
    for (const auto& [slot, after] : changes.others) {
        const std::uint32_t* own = store.links.of(slot);
        for (std::size_t e = 0; e < store.links.degree(slot); ++e) {
            const std::uint32_t lost = own[e];
            if (has(after, lost)) continue;
            const std::uint32_t* theirs = store.links.of(lost);
            if (std::any_of(theirs, theirs + store.links.degree(lost),
                            [&](std::uint32_t other) { return leads(other, lost); }))
                continue;
            const auto came = std::find_if(after.begin(), after.end(), [&](std::uint32_t other) {
                return links.is_fresh(other);
            });
            if (came == after.end()) continue;
            std::vector<std::uint32_t>& takes = *links.changed(*came);
            if (has(takes, lost)) continue;
            takes.resize(std::min(takes.size(), kDegree - 1));
            takes.push_back(lost);
        }
    }
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
    std::vector<std::vector<std::uint32_t>> hosts(n);
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
            hosts[i] = linker.hosts();
            for (SlotLinks& taker : linker.takers())
                offered[task].push_back(
                    {taker.first, static_cast<std::uint32_t>(i), std::move(taker.second)});
        }
        scratches.give_back(std::move(scratch));
    });
    changes.others = link_back(store, mates, fresh, std::move(offered), threads);
    StoreLinks links(store, changes);
    keep_led_to(store, changes, links);
    lead_to_all(batch.slots, hosts, links);
    links.take_asked();
    changes.entries = more_entries(store, batch.live, fresh);
    return changes;
}

void apply_links(Store& store, LinkChanges&& changes) {
    for (const auto* changed : {&changes.fresh, &changes.others}) {
        for (const auto& [slot, links] : *changed)
            store.links.set(slot, links.data(), links.size());
    }
    Array<std::uint32_t>& waiting = store.waiting;
    std::copy(waiting.begin() + changes.waited, waiting.end(), waiting.begin());
    waiting.resize(waiting.size() - changes.waited);
    store.publish();
    if (changes.entries) std::swap(store.entries, *changes.entries);
}

}  // namespace mrl
