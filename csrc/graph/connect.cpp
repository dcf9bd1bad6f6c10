#include "connect.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <unordered_set>

#include "../system/thread_pool.hpp"
#include "prune.hpp"

namespace mrl {
namespace {

constexpr std::size_t kSteps = 64;  // to a slot that has room for one more link
constexpr float kNear = 4.0f;       // times the nearest one's squared distance

// The order of a heap with the nearest on top.
bool is_farther(const Near& a, const Near& b) { return b < a; }

class Connector {
  public:
    explicit Connector(ConnectedGraph& graph) : graph_(graph), full_(graph.slots(), false) {
        in_degree_.assign(graph.slots(), 0);
        for (std::uint32_t slot = 0; slot < graph.slots(); ++slot) {
            for (const std::uint32_t to : links_of(slot)) ++in_degree_[to];
        }
    }

    void lead_from_nearest(std::size_t threads) {
        constexpr std::size_t kSlots = 1024;
        const std::size_t n = graph_.slots();
        std::vector<std::vector<std::uint32_t>> apart((n + kSlots - 1) / kSlots);
        const auto find = [&](auto&& is_apart) {
            parallel_for(threads, apart.size(), [&](std::size_t block, std::size_t) {
                apart[block].clear();
                const std::size_t end = std::min(n, (block + 1) * kSlots);
                for (std::size_t i = block * kSlots; i < end; ++i) {
                    const auto slot = static_cast<std::uint32_t>(i);
                    if (is_apart(slot)) apart[block].push_back(slot);
                }
            });
        };
        find([&](std::uint32_t slot) { return !is_near_its_nearest(slot); });
        for (const auto& slots : apart) {
            for (const std::uint32_t slot : slots) {
                if (!is_near_its_nearest(slot)) lead_to(slot, graph_.of(slot)[0]);
            }
        }
        find([&](std::uint32_t slot) { return is_lone_pair(slot); });
        for (const auto& slots : apart) {
            for (const std::uint32_t slot : slots) {
                if (is_lone_pair(slot)) lead_to(slot, kNoLink, graph_.of(slot)[0]);
            }
        }
    }

    void reach_all_from(const std::vector<std::uint32_t>& entries) {
        reached_.assign(graph_.slots(), false);
        last_ = {kNoLink, kNoLink};  // they may not be reached
        for (const std::uint32_t entry : entries) reach_from(entry);
        for (std::uint32_t slot = 0; slot < graph_.slots(); ++slot) {
            if (reached_[slot] || !graph_.has(slot)) continue;
            lead_to(slot, entries[slot % entries.size()]);
            reach_from(slot);
        }
    }

  private:
    std::span<const std::uint32_t> links_of(std::uint32_t slot) const {
        const std::uint32_t* links = graph_.of(slot);
        return {links, std::find(links, links + kDegree, kNoLink)};
    }

    bool leads_to(std::uint32_t slot, std::uint32_t other) const {
        const std::uint32_t* links = graph_.of(slot);
        return std::find(links, links + kDegree, other) != links + kDegree;
    }

    bool is_near_its_nearest(std::uint32_t slot, std::uint32_t without = kNoLink) const {
        const std::uint32_t nearest = graph_.of(slot)[0];
        return nearest == kNoLink || leads_near(nearest, slot, without);
    }

    // Whether a link of a slot's leads to it, or one near it that this one links to; not by
    // `without`.
    bool leads_near(std::uint32_t link, std::uint32_t slot, std::uint32_t without) const {
        const auto leads = [&](std::uint32_t from) {
            return from != without && leads_to(from, slot);
        };
        if (leads(link)) return true;
        const float most = kNear * between(slot, link);
        return std::ranges::any_of(links_of(link), [&](std::uint32_t other) {
            return leads(other) && between(slot, other) <= most;
        });
    }

    // Whether a slot and its nearest link are each other's nearest, and the link that is next to
    // them leads to neither. Of the two the one with the smaller number speaks for both.
    bool is_lone_pair(std::uint32_t slot) const {
        const std::uint32_t mate = graph_.of(slot)[0];
        if (mate == kNoLink || mate < slot || graph_.of(mate)[0] != slot) return false;
        Near next{kInfinity, kNoLink};
        for (const std::uint32_t link : links_of(slot).subspan(1))
            next = std::min(next, Near{between(slot, link), link});
        return next.slot != kNoLink && !leads_near(next.slot, slot, mate) &&
               !leads_near(next.slot, mate, slot);
    }

    float between(std::uint32_t a, std::uint32_t b) const {
        float distance;
        graph_.measure(a, &b, 1, &distance);
        return distance;
    }

    void reach_from(std::uint32_t start) {
        if (reached_[start]) return;
        reached_[start] = true;
        stack_.assign(1, start);
        while (!stack_.empty()) {
            const std::uint32_t slot = stack_.back();
            stack_.pop_back();
            for (const std::uint32_t to : links_of(slot)) {
                if (reached_[to]) continue;
                reached_[to] = true;
                stack_.push_back(to);
            }
        }
    }

    // Has the nearest slot that has room link to this one; of those that are reached, where that is
    // asked, and not `without`. They are met from its own links on, or from `otherwise` where it
    // has none.
    void lead_to(std::uint32_t slot, std::uint32_t otherwise, std::uint32_t without = kNoLink) {
        open_.clear();
        met_.clear();
        met_.insert({slot, without});
        offer_links(slot, slot);
        if (open_.empty() && otherwise != kNoLink) open_.push_back({kInfinity, otherwise});
        if (open_.empty()) return;
        const auto [host, position] = host_for(slot);
        if (links_of(slot).empty()) lead(slot, 0, host);
        if (leads_to(host, slot)) return;
        lead(host, position, slot);
        made_.insert(std::uint64_t{host} << 32 | slot);
        last_ = {host, slot};
    }

    void lead(std::uint32_t from, std::size_t position, std::uint32_t to) {
        const std::uint32_t before = graph_.of(from)[position];
        if (before != kNoLink) --in_degree_[before];
        graph_.set(from, position, to);
        ++in_degree_[to];
    }

    struct Host {
        std::uint32_t slot;
        std::size_t position;
    };

    // The nearest of those that are open, and of those that they link to, that has room; else the
    // last place of the nearest. Many copies of one row come one after another: the host of the one
    // before takes the next, too, or that one itself does.
    Host host_for(std::uint32_t slot) {
        for (const std::uint32_t last : last_) {
            if (last == kNoLink || last == slot || !graph_.is_same(slot, last) ||
                leads_to(last, slot))
                continue;
            const std::size_t room = room_in(last);
            if (room < kDegree) return {last, room};
        }
        const std::uint32_t nearest = open_.front().slot;
        for (std::size_t step = 0; step < kSteps && !open_.empty(); ++step) {
            std::pop_heap(open_.begin(), open_.end(), is_farther);
            const std::uint32_t next = open_.back().slot;
            open_.pop_back();
            const std::size_t room = leads_to(next, slot) ? kDegree : room_in(next);
            if (room < kDegree) return {next, room};
            offer_links(slot, next);
        }
        return {nearest, kDegree - 1};
    }

    void offer_links(std::uint32_t slot, std::uint32_t from) {
        std::uint32_t fresh[kDegree];
        float distances[kDegree];
        std::size_t n = 0;
        for (const std::uint32_t to : links_of(from)) {
            if ((reached_.empty() || reached_[to]) && met_.insert(to).second) fresh[n++] = to;
        }
        graph_.measure(slot, fresh, n, distances);
        for (std::size_t i = 0; i < n; ++i) {
            open_.push_back({distances[i], fresh[i]});
            std::push_heap(open_.begin(), open_.end(), is_farther);
        }
    }

    // Where a slot's links have room for one more: behind the last, or in place of the last link to
    // a slot that others lead to as well: not the nearest, and none made here. kDegree: nowhere.
    std::size_t room_in(std::uint32_t slot) {
        if (full_[slot]) return kDegree;
        std::size_t position = links_of(slot).size();
        if (position < kDegree) return position;
        while (--position > 0) {
            const std::uint32_t link = graph_.of(slot)[position];
            if (in_degree_[link] >= 2 && is_near_its_nearest(link, slot) &&
                !made_.contains(std::uint64_t{slot} << 32 | link))
                return position;
        }
        full_[slot] = true;
        return kDegree;
    }

    ConnectedGraph& graph_;
    std::vector<std::uint32_t> in_degree_, stack_;
    std::vector<bool> reached_;  // from an entry; empty while that is not asked
    std::vector<Near> open_;     // a heap, the nearest on top
    std::array<std::uint32_t, 2> last_{kNoLink, kNoLink};  // who was made to lead, and to whom
    std::vector<bool> full_;                               // has no room, as it was found
    std::unordered_set<std::uint32_t> met_;
    std::unordered_set<std::uint64_t> made_;  // links, from << 32 | to
};

}  // namespace

void connect(ConnectedGraph& graph, const std::vector<std::uint32_t>& entries,
             std::size_t threads) {
    Connector connector(graph);
    connector.lead_from_nearest(threads);
    connector.reach_all_from(entries);
}

}  // namespace mrl
