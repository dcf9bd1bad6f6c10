#include "hidden_rows.hpp"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"
#include "index.hpp"

namespace mrl {
namespace {

constexpr float kAlpha = 1.2f;        // of the rule of pruning, as in a build
constexpr std::size_t kAround = 256;  // rows whose links are looked at for such
constexpr std::size_t kNearby = 128;  // rows near a hidden one that others may link to instead
// A row is taken to have been kept from a slot's links by the hidden one when it is so many times
// nearer, in squares, to that one than to the slot. Fitted, on the side of caution: walks miss 1.04
// to 1.13 times what they miss for queries that are no rows on 60,666 real rows (6,000 hidden,
// efforts 16 to 250); at 1.4, .95 to 1.05 times, and 1.0 to 1.3 on 200,000 generated ones in
// clusters of twenty; at 1.2, the last factor of pruning, .84 to .92 and 1.0 to 1.2.
constexpr float kKeptAway = 1.5f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

// One thread's work on some hidden slots.
class Index::Detouring {
  public:
    explicit Detouring(const Index& index) : index_(index), known_(index.graph_.slots(), 0) {}

    Detour without(std::uint32_t hidden, std::span<const std::uint32_t> from) {
        find_nearby(hidden, from);
        Detour detour{{from.begin(), from.end()}, {}};
        for (const std::uint32_t slot : from) {
            const std::vector<std::uint32_t> links = links_without(slot, hidden);
            detour.links.emplace_back().fill(kNoLink);
            std::copy(links.begin(), links.end(), detour.links.back().begin());
        }
        return detour;
    }

  private:
    struct Near {
        float distance;
        std::uint32_t slot;
        float occlusion = 0;
        friend bool operator<(const Near& a, const Near& b) {
            return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot;
        }
    };

    // The rows nearest to the hidden one among its links, those that link to it, and all these link
    // to.
    void find_nearby(std::uint32_t hidden, std::span<const std::uint32_t> from) {
        std::vector<std::uint32_t> around(
            from.begin(),
            from.begin() + static_cast<std::ptrdiff_t>(std::min(from.size(), kAround)));
        const auto add_links = [&](std::uint32_t slot) {
            const std::uint32_t* links = index_.graph_.links(slot);
            around.insert(around.end(), links, links + index_.graph_.degree(slot));
        };
        add_links(hidden);
        for (std::size_t i = 0, first = around.size(); i < first; ++i) add_links(around[i]);
        std::sort(around.begin(), around.end());
        around.erase(std::unique(around.begin(), around.end()), around.end());
        std::erase_if(around, [&](std::uint32_t slot) {
            return slot == hidden || index_.deleted_.test(index_.row_of(slot));
        });
        measure(hidden, around);
        nearby_.clear();
        for (std::size_t i = 0; i < around.size(); ++i)
            nearby_.push_back({distances_[i], around[i]});
        const std::size_t count = std::min(kNearby, nearby_.size());
        std::partial_sort(nearby_.begin(), nearby_.begin() + static_cast<std::ptrdiff_t>(count),
                          nearby_.end());
        nearby_.resize(count);
        nearby_slots_.clear();
        for (const Near& near : nearby_) nearby_slots_.push_back(near.slot);
    }

    // The links of a slot with those rows that the hidden one kept from it, of which it knows: its
    // links link to them, or they to it.
    std::vector<std::uint32_t> links_without(std::uint32_t slot, std::uint32_t hidden) {
        const std::uint32_t* from = index_.graph_.links(slot);
        std::vector<std::uint32_t> own(from, from + index_.graph_.degree(slot));
        measure(slot, own);
        candidates_.clear();
        float gap = 0, longest = 0;
        for (std::size_t i = 0; i < own.size(); ++i) {
            if (own[i] == hidden) {
                gap = distances_[i];
                continue;
            }
            candidates_.push_back({distances_[i], own[i]});
            longest = std::max(longest, distances_[i]);
        }
        std::erase(own, hidden);
        std::sort(own.begin(), own.end());
        ++stamp_;
        for (const std::uint32_t link : own) {
            const std::uint32_t* further = index_.graph_.links(link);
            for (std::size_t e = 0; e < kDegree && further[e] != kNoLink; ++e)
                known_[further[e]] = stamp_;
        }
        measure(slot, nearby_slots_);
        for (std::size_t i = 0; i < nearby_.size(); ++i) {
            const bool kept_away =
                distances_[i] >= gap && distances_[i] > kKeptAway * nearby_[i].distance;
            if (!kept_away || distances_[i] > longest || nearby_[i].slot == slot) continue;
            if (std::binary_search(own.begin(), own.end(), nearby_[i].slot)) continue;
            const std::uint32_t* theirs = index_.graph_.links(nearby_[i].slot);
            if (known_[nearby_[i].slot] != stamp_ &&
                std::find(theirs, theirs + kDegree, slot) == theirs + kDegree)
                continue;
            candidates_.push_back({distances_[i], nearby_[i].slot});
        }
        return pruned();
    }

    // As Index::pruned.
    std::vector<std::uint32_t> pruned() {
        std::sort(candidates_.begin(), candidates_.end());
        std::vector<std::uint32_t> links;
        if (candidates_.size() <= kDegree) {
            for (const Near& each : candidates_) links.push_back(each.slot);
            return links;
        }
        for (float round = 1.0f; links.size() < kDegree; round = std::min(kAlpha, round * 1.2f)) {
            for (std::size_t i = 0; i < candidates_.size() && links.size() < kDegree; ++i) {
                if (candidates_[i].occlusion > round) continue;
                links.push_back(candidates_[i].slot);
                candidates_[i].occlusion = kInfinity;
                rest_.clear();
                places_.clear();
                for (std::size_t j = i + 1; j < candidates_.size(); ++j) {
                    if (candidates_[j].occlusion > kAlpha) continue;
                    rest_.push_back(candidates_[j].slot);
                    places_.push_back(j);
                }
                measure(candidates_[i].slot, rest_);
                for (std::size_t j = 0; j < places_.size(); ++j) {
                    Near& other = candidates_[places_[j]];
                    other.occlusion =
                        std::max(other.occlusion,
                                 distances_[j] > 0 ? other.distance / distances_[j] : kInfinity);
                }
            }
            if (round >= kAlpha) break;
        }
        return links;
    }

    // The squared distances from one slot's row to others', in distances_.
    void measure(std::uint32_t from, const std::vector<std::uint32_t>& slots) {
        const Rows& rows = index_.rows_;
        const std::uint32_t row = index_.row_of(from);
        rows_.resize(slots.size());
        products_.resize(slots.size());
        distances_.resize(slots.size());
        for (std::size_t i = 0; i < slots.size(); ++i) rows_[i] = index_.row_of(slots[i]);
        kernels_.inner_product_int8_at(rows.code(row), rows.codes(), rows_.data(), rows_.size(),
                                       rows.code_stride(), rows.dims(), products_.data());
        for (std::size_t i = 0; i < slots.size(); ++i)
            distances_[i] = index_.between(row, rows_[i], products_[i]);
    }

    const Index& index_;
    const Kernels& kernels_ = kernels();
    std::vector<Near> nearby_, candidates_;
    std::vector<std::uint32_t> nearby_slots_, rest_, rows_;
    std::vector<std::size_t> places_;
    std::vector<std::uint32_t> known_;
    std::uint32_t stamp_ = 0;
    std::vector<std::int32_t> products_;
    std::vector<float> distances_;
};

HiddenRows Index::hide(const KeySpan& keys, std::size_t threads) const {
    HiddenRows hidden{this, {}, {}};
    std::unordered_map<std::uint32_t, std::vector<std::uint32_t>>
        from;  // of each hidden slot: those that link to it
    {
        const Reading reading(*this);
        Bitmap wanted;
        wanted.resize(rows_.size());
        for (std::size_t i = 0; i < keys.n; ++i) {
            hidden.rows.push_back(keys_.find(keys.at(i)));
            if (hidden.rows.back() != Keys::kNone) wanted.set(slot_of(hidden.rows.back()));
        }
        for (std::uint32_t slot = 0; slot < graph_.slots(); ++slot) {
            const std::uint32_t* links = graph_.links(slot);
            for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
                if (wanted.test(links[e])) from[links[e]].push_back(slot);
            }
        }
    }
    const std::vector<std::pair<std::uint32_t, std::vector<std::uint32_t>>> torn(from.begin(),
                                                                                 from.end());
    std::vector<Detour> found(torn.size());
    constexpr std::size_t kTask = 64;  // hidden rows; between tasks a writer may have its turn
    parallel_for(threads, (torn.size() + kTask - 1) / kTask, [&](std::size_t task, std::size_t) {
        const Reading reading(*this);
        Detouring detouring(*this);
        for (std::size_t i = task * kTask; i < std::min(torn.size(), (task + 1) * kTask); ++i) {
            found[i] = detouring.without(torn[i].first, torn[i].second);
        }
    });
    for (std::size_t i = 0; i < torn.size(); ++i)
        hidden.detours.emplace(torn[i].first, std::move(found[i]));
    return hidden;
}

}  // namespace mrl
