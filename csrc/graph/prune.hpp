// The rule of pruning, which decides what a slot links to (Vamana: DiskANN, NeurIPS 2019).
//
// A candidate is passed over where some link is so much nearer to it than the slot is that a walk
// reaches it by that link: when its distance is more than alpha times that between the two. Rounds
// of growing alpha take the clearest directions first, and fill up with others while there is room.
// Distances are squared; alpha is the store's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../search/best.hpp"
#include "../store/links.hpp"

namespace mrl {

constexpr std::size_t kCandidates = 96;  // nearest rows that may become links
constexpr float kRound = 1.2f;           // by how much alpha grows from round to round, from 1

struct Near {
    float distance;
    std::uint32_t slot;
    friend bool operator<(const Near& a, const Near& b) {
        return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot;
    }
};

// Whether a link keeps a candidate away, the one at distance `between` from the other.
inline bool hides(float distance, float between, float alpha) { return distance > alpha * between; }

// The rule over a list of candidates; what it needs meanwhile is kept and used again.
class Pruning {
  public:
    // candidates: n, in rising distance from the slot, none of them the slot itself. measure(i,
    // positions, count) gives a function of p, the distance of candidate i from that at
    // positions[p], which stands behind it. take(i) is called for each candidate that becomes a
    // link, at most kDegree.
    template <class Measure, class Take>
    void prune(const Near* candidates, std::size_t n, float alpha, Measure&& measure, Take&& take) {
        occlusion_.assign(n, 0.0f);
        positions_.resize(n);
        std::size_t degree = 0;
        for (float round = 1.0f; degree < kDegree; round = std::min(alpha, round * kRound)) {
            for (std::size_t i = 0; i < n && degree < kDegree; ++i) {
                if (occlusion_[i] > round) continue;
                take(i);
                occlusion_[i] = kInfinity;
                if (++degree < kDegree) occlude(candidates, i, n, alpha, measure);
            }
            if (round >= alpha) break;
        }
    }

  private:
    // By how much, at most, some link is nearer to each candidate than the slot is. A link's
    // distances to all later candidates are one call.
    template <class Measure>
    void occlude(const Near* candidates, std::size_t link, std::size_t n, float alpha,
                 Measure& measure) {
        std::size_t count = 0;
        for (std::size_t i = link + 1; i < n; ++i) {
            positions_[count] = static_cast<std::uint32_t>(i);
            count += occlusion_[i] <= alpha ? 1 : 0;
        }
        const auto between = measure(link, positions_.data(), count);
        for (std::size_t p = 0; p < count; ++p) {
            const std::size_t i = positions_[p];
            const float to_link = between(p);
            const float ratio = to_link > 0 ? candidates[i].distance / to_link : kInfinity;
            occlusion_[i] = std::max(occlusion_[i], ratio);
        }
    }

    std::vector<float> occlusion_;
    std::vector<std::uint32_t> positions_;
};

// The rule for one more link: takes `added` among the links of a slot where the rule lets it in, in
// place of those that it hides. The links are taken for pruned: each is compared with the new one
// only, where to prune them all again would compare all with all. measure(from, to, n, distances)
// writes the distances of n slots from one.
template <class Measure>
void add_link(std::uint32_t slot, std::uint32_t added, std::vector<std::uint32_t>& links,
              float alpha, Measure&& measure) {
    if (std::find(links.begin(), links.end(), added) != links.end()) return;
    if (links.size() < kDegree) {
        links.push_back(added);
        return;
    }
    float distance, to_slot[kDegree], to_added[kDegree];
    measure(slot, &added, 1, &distance);
    measure(slot, links.data(), kDegree, to_slot);
    measure(added, links.data(), kDegree, to_added);
    bool hidden[kDegree], one_hidden = false;
    std::size_t farthest = 0;
    for (std::size_t i = 0; i < kDegree; ++i) {
        const bool nearer = to_slot[i] <= distance;
        if (nearer && hides(distance, to_added[i], alpha)) return;
        hidden[i] = !nearer && hides(to_slot[i], to_added[i], alpha);
        one_hidden |= hidden[i];
        if (to_slot[i] > to_slot[farthest]) farthest = i;
    }
    if (!one_hidden) {
        if (to_slot[farthest] <= distance) return;
        hidden[farthest] = true;
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < kDegree; ++i) {
        if (!hidden[i]) links[kept++] = links[i];
    }
    links.resize(kept);
    links.push_back(added);
}

}  // namespace mrl
