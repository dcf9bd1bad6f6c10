#include "connect.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

constexpr std::size_t kSteps = 64;  // to a slot that has room for one more link
constexpr float kNear = 4.0f;       // times the nearest one's squared distance

// The order of a heap with the nearest on top.
bool is_farther(const Near& a, const Near& b) { return b < a; }

class Connector {
  public:
    Connector(const BuildCodes& codes, Links& graph)
        : codes_(codes), graph_(graph), full_(graph.slots(), false) {
        in_degree_.assign(graph.slots(), 0);
        for (std::uint32_t slot = 0; slot < graph.slots(); ++slot) {
            for (std::size_t e = 0; e < graph.degree(slot); ++e) ++in_degree_[graph.of(slot)[e]];
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
            if (reached_[slot]) continue;
            lead_to(slot, entries[slot % entries.size()]);
            reach_from(slot);
        }
    }

  private:
    bool is_near_its_nearest(std::uint32_t slot, std::uint32_t without = kNoLink) const {
        const std::uint32_t nearest = graph_.of(slot)[0];
        return nearest == kNoLink || leads_near(nearest, slot, without);
    }

    // Whether a link of a slot's leads to it, or one near it that this one links to; not by
    // `without`.
    bool leads_near(std::uint32_t link, std::uint32_t slot, std::uint32_t without) const {
        const auto leads = [&](std::uint32_t from) {
            return from != without && graph_.leads_to(from, slot);
        };
        if (leads(link)) return true;
        const float most = kNear * between(slot, link);
        const std::uint32_t* others = graph_.of(link);
        return std::any_of(others, others + graph_.degree(link), [&](std::uint32_t other) {
            return leads(other) && between(slot, other) <= most;
        });
    }

    // Whether a slot and its nearest link are each other's nearest, and the link that is next to
    // them leads to neither. Of the two the one with the smaller number speaks for both.
    bool is_lone_pair(std::uint32_t slot) const {
        const std::uint32_t mate = graph_.of(slot)[0];
        if (mate == kNoLink || mate < slot || graph_.of(mate)[0] != slot) return false;
        Near next{kInfinity, kNoLink};
        for (std::size_t e = 1; e < graph_.degree(slot); ++e) {
            const std::uint32_t link = graph_.of(slot)[e];
            next = std::min(next, Near{between(slot, link), link});
        }
        return next.slot != kNoLink && !leads_near(next.slot, slot, mate) &&
               !leads_near(next.slot, mate, slot);
    }

    float between(std::uint32_t a, std::uint32_t b) const {
        std::int32_t product;
        kernels().inner_product_int8(codes_.row(a), codes_.row(b), 1, kBuildBytes, kBuildBytes,
                                     &product);
        return codes_.between(a, b, product);
    }

    void reach_from(std::uint32_t start) {
        if (reached_[start]) return;
        reached_[start] = true;
        stack_.assign(1, start);
        while (!stack_.empty()) {
            const std::uint32_t slot = stack_.back();
            stack_.pop_back();
            for (std::size_t e = 0; e < graph_.degree(slot); ++e) {
                const std::uint32_t to = graph_.of(slot)[e];
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
        if (graph_.leads_to(host, slot)) return;
        std::uint32_t& link = graph_.of(host)[position];
        if (link != kNoLink) --in_degree_[link];
        link = slot;
        ++in_degree_[slot];
        made_.insert(std::uint64_t{host} << 32 | slot);
        last_ = {host, slot};
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
            if (last == kNoLink || !is_same(slot, last) || graph_.leads_to(last, slot)) continue;
            const std::size_t room = room_in(last);
            if (room < kDegree) return {last, room};
        }
        const std::uint32_t nearest = open_.front().slot;
        for (std::size_t step = 0; step < kSteps && !open_.empty(); ++step) {
            std::pop_heap(open_.begin(), open_.end(), is_farther);
            const std::uint32_t next = open_.back().slot;
            open_.pop_back();
            const std::size_t room = graph_.leads_to(next, slot) ? kDegree : room_in(next);
            if (room < kDegree) return {next, room};
            offer_links(slot, next);
        }
        return {nearest, kDegree - 1};
    }

    bool is_same(std::uint32_t a, std::uint32_t b) const {
        return a != b && codes_.scale[a] == codes_.scale[b] &&
               std::memcmp(codes_.row(a), codes_.row(b), kBuildBytes) == 0;
    }

    void offer_links(std::uint32_t slot, std::uint32_t from) {
        std::uint32_t fresh[kDegree];
        std::int32_t products[kDegree];
        std::size_t n = 0;
        for (std::size_t e = 0; e < graph_.degree(from); ++e) {
            const std::uint32_t to = graph_.of(from)[e];
            if ((reached_.empty() || reached_[to]) && met_.insert(to).second) fresh[n++] = to;
        }
        kernels().inner_product_int8_at(codes_.row(slot), codes_.bytes.data(), fresh, n,
                                        kBuildBytes, kBuildBytes, products);
        for (std::size_t i = 0; i < n; ++i) {
            open_.push_back({codes_.between(slot, fresh[i], products[i]), fresh[i]});
            std::push_heap(open_.begin(), open_.end(), is_farther);
        }
    }

    // Where a slot's links have room for one more: behind the last, or in place of the last link to
    // a slot that others lead to as well: not the nearest, and none made here. kDegree: nowhere.
    std::size_t room_in(std::uint32_t slot) {
        if (full_[slot]) return kDegree;
        std::size_t position = graph_.degree(slot);
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

    const BuildCodes& codes_;
    Links& graph_;
    std::vector<std::uint32_t> in_degree_, stack_;
    std::vector<bool> reached_;  // from an entry; empty while that is not asked
    std::vector<Near> open_;     // a heap, the nearest on top
    std::array<std::uint32_t, 2> last_{kNoLink, kNoLink};  // who was made to lead, and to whom
    std::vector<bool> full_;                               // has no room, as it was found
    std::unordered_set<std::uint32_t> met_;
    std::unordered_set<std::uint64_t> made_;  // links, from << 32 | to
};

}  // namespace

void connect(const BuildCodes& codes, const std::vector<std::uint32_t>& entries,
             std::size_t threads, Links& graph) {
    Connector connector(codes, graph);
    connector.lead_from_nearest(threads);
    connector.reach_all_from(entries);
}

}  // namespace mrl
