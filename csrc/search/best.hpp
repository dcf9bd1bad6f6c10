// The k smallest scores of a stream of blocks, ties broken by position.
//
// The threshold stays in a register while a block is tested (Kernels::select_below): after the
// first few blocks almost nothing passes. What passes goes to a buffer of a few times k; a full
// buffer is cut back to k, and the threshold falls to its worst. Positions rise, so that a later
// one with an equal score loses, and a strict comparison keeps the right ones.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../kernels/kernels.hpp"

namespace mrl {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Rows scored, then tested, while their scores are in the first-level cache.
constexpr std::size_t kScanBlock = 256;
constexpr std::size_t kRanked = 128;  // candidates; a longer list is cut by partition

template <class Score, class Position>
struct Scored {
    Score score;
    Position row;
    friend bool operator<(const Scored& a, const Scored& b) {
        return a.score != b.score ? a.score < b.score : a.row < b.row;
    }
};
template <class Score>
using Hit = Scored<Score, std::int64_t>;
// A row, or a slot, on its way through the stages.
using Candidate = Scored<float, std::uint32_t>;

// How many of a list of at most kRanked are better than each: no branch depends on scores, whose
// order no processor can guess.
inline void rank_candidates(const Kernels& kernels, const Candidate* all, std::size_t n,
                            std::uint16_t* ranks) {
    float scores[kRanked];
    for (std::size_t i = 0; i < n; ++i) scores[i] = all[i].score;
    kernels.rank(scores, n, ranks);
}

// Leaves the best `keep`, in no order, by partition; returns the worst score among them, or
// `unlimited` where there are no more than that.
template <class T, class Score = decltype(T::score)>
Score keep_best(std::vector<T>& all, std::size_t keep, Score unlimited) {
    if (all.size() <= keep || keep == 0) {
        all.resize(std::min(all.size(), keep));
        return unlimited;
    }
    const auto worst = all.begin() + static_cast<std::ptrdiff_t>(keep - 1);
    std::nth_element(all.begin(), worst, all.end());
    const Score edge = worst->score;
    all.resize(keep);
    return edge;
}

// The same for a list of at most kRanked candidates, by their ranks.
inline float keep_ranked(std::vector<Candidate>& all, std::size_t keep,
                         const std::uint16_t* ranks) {
    const std::size_t n = all.size();
    if (n <= keep) return kInfinity;
    std::size_t better = 0;
    for (std::size_t i = 0; i < n; ++i) better += ranks[i] < keep ? 1 : 0;
    if (better > keep)
        return keep_best(all, keep, kInfinity);  // ties at the edge: smaller rows stay
    std::size_t kept = 0;
    float edge = -kInfinity;
    for (std::size_t i = 0; i < n; ++i) {
        const bool stays = ranks[i] < keep;
        const Candidate candidate = all[i];
        all[kept] = candidate;
        edge = stays && candidate.score > edge ? candidate.score : edge;
        kept += stays ? 1 : 0;
    }
    all.resize(kept);
    return edge;
}

// The same for candidates, a short list by ranks.
inline float keep_best(const Kernels& kernels, std::vector<Candidate>& all, std::size_t keep) {
    const std::size_t n = all.size();
    if (n <= keep || n > kRanked) return keep_best(all, keep, kInfinity);
    std::uint16_t ranks[kRanked];
    rank_candidates(kernels, all.data(), n, ranks);
    return keep_ranked(all, keep, ranks);
}

// Leaves the best `keep`, and whoever is less than a slack behind the k-th best: slack_of(its
// score), or 0.
template <class SlackOf>
void keep_best(const Kernels& kernels, std::vector<Candidate>& all, std::size_t keep, std::size_t k,
               SlackOf&& slack_of) {
    const std::size_t n = all.size();
    if (n <= std::max(keep, k)) {
        keep_best(kernels, all, keep);
        return;
    }
    const auto near = [&](float kth) {
        const float limit = kth + slack_of(kth);
        std::size_t count = 0;
        for (std::size_t i = 0; i < n; ++i) count += all[i].score < limit ? 1 : 0;
        return std::max(keep, count);
    };
    if (n > kRanked) {
        const auto kth = all.begin() + static_cast<std::ptrdiff_t>(k - 1);
        std::nth_element(all.begin(), kth, all.end());
        keep_best(all, near(kth->score), kInfinity);
        return;
    }
    std::uint16_t ranks[kRanked];
    rank_candidates(kernels, all.data(), n, ranks);
    float kth = -kInfinity;  // the worst of those that less than k are better than
    for (std::size_t i = 0; i < n; ++i) {
        kth = ranks[i] < k && all[i].score > kth ? all[i].score : kth;
    }
    keep_ranked(all, near(kth), ranks);
}

// A scan of blocks by itself, for scores of either type.
template <class Score>
class TopK {
  public:
    explicit TopK(std::size_t k) : k_(k), capacity_(std::max(2 * k, k + 4 * kScanBlock)) {
        hits_.reserve(capacity_);
    }

    // Offers scores[0 .. n), n <= kScanBlock, of the rows at first, first + 1, …; positions must
    // rise from call to call. A NaN counts as the largest score.
    void offer(const Kernels& kernels, Score* scores, std::size_t n, std::int64_t first) {
        if (hits_.size() < k_ || k_ == 0) {
            for (std::size_t i = 0; i < n; ++i) {
                hits_.push_back({ordered(scores[i]), first + static_cast<std::int64_t>(i)});
            }
            if (hits_.size() >= k_) cut();
            return;
        }
        std::uint32_t passing[kScanBlock];
        const std::size_t count = select(kernels, scores, n, threshold_, passing);
        for (std::size_t i = 0; i < count; ++i) {
            hits_.push_back({scores[passing[i]], first + passing[i]});
        }
        if (hits_.size() + kScanBlock > capacity_) cut();
    }

    // The best k, rising.
    std::vector<Hit<Score>> take() {
        cut();
        std::sort(hits_.begin(), hits_.end());
        return std::move(hits_);
    }

  private:
    static float ordered(float score) { return score == score ? score : kInfinity; }
    static std::int32_t ordered(std::int32_t score) { return score; }
    static std::size_t select(const Kernels& kernels, const float* s, std::size_t n, float t,
                              std::uint32_t* out) {
        return kernels.select_below(s, n, t, out);
    }
    static std::size_t select(const Kernels& kernels, const std::int32_t* s, std::size_t n,
                              std::int32_t t, std::uint32_t* out) {
        return kernels.select_below_int32(s, n, t, out);
    }

    void cut() {
        if (hits_.size() == k_ && k_ != 0) {
            threshold_ = std::max_element(hits_.begin(), hits_.end())->score;
        } else {
            threshold_ = keep_best(hits_, k_, threshold_);
        }
    }

    std::size_t k_;
    std::size_t capacity_;
    Score threshold_{};
    std::vector<Hit<Score>> hits_;
};

}  // namespace mrl
