// The k smallest scores of a stream of blocks, ties broken by position, fused with the scan that
// makes the scores.
//
// The threshold stays in a register while a block is tested (Kernels::select_below): after the
// first few blocks almost nothing passes. What passes goes to a buffer of twice k; a full buffer is
// cut back to k by a quick-select, and the threshold falls to its worst.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../kernels/kernels.hpp"

namespace mrl {

constexpr std::size_t kScanBlock =
    256;  // rows scored, then tested, while their scores are in the first-level cache

// A row on its way through the stages; smaller scores are nearer, equal ones go by row.
struct Candidate {
    float score;
    std::uint32_t row;
    friend bool operator<(const Candidate& a, const Candidate& b) {
        return a.score != b.score ? a.score < b.score : a.row < b.row;
    }
};

constexpr std::size_t kRanked = 128;  // candidates; a longer list is cut by partition

template <class Score>
struct Hit {
    Score score;
    std::int64_t position;
    friend bool operator<(const Hit& a, const Hit& b) {
        return a.score != b.score ? a.score < b.score : a.position < b.position;
    }
};

template <class Score>
class TopK {
  public:
    explicit TopK(std::size_t k)
        : k_(k), capacity_(std::max<std::size_t>(2 * k, k + 4 * kScanBlock)) {
        hits_.reserve(capacity_);
    }

    // Offers scores[0 .. n), n <= kScanBlock, of the rows at first, first + 1, …; positions must
    // rise from call to call, so that a later row with an equal score loses. A NaN counts as the
    // largest score.
    void offer(const Kernels& kernels, Score* scores, std::size_t n, std::int64_t first) {
        if (hits_.size() < k_ || k_ == 0) {
            for (std::size_t i = 0; i < n; ++i)
                hits_.push_back({ordered(scores[i]), first + static_cast<std::int64_t>(i)});
            if (hits_.size() >= k_) shrink();
            return;
        }
        std::uint32_t passing[kScanBlock];
        const std::size_t count = select(kernels, scores, n, threshold_, passing);
        for (std::size_t i = 0; i < count; ++i)
            hits_.push_back({scores[passing[i]], first + passing[i]});
        if (hits_.size() + kScanBlock > capacity_) shrink();
    }

    // The best k, rising.
    std::vector<Hit<Score>> take() {
        shrink();
        std::sort(hits_.begin(), hits_.end());
        return std::move(hits_);
    }

  private:
    static float ordered(float score) {
        return score == score ? score : std::numeric_limits<float>::infinity();
    }
    static std::int32_t ordered(std::int32_t score) { return score; }
    static std::size_t select(const Kernels& kernels, const float* s, std::size_t n, float t,
                              std::uint32_t* out) {
        return kernels.select_below(s, n, t, out);
    }
    static std::size_t select(const Kernels& kernels, const std::int32_t* s, std::size_t n,
                              std::int32_t t, std::uint32_t* out) {
        return kernels.select_below_int32(s, n, t, out);
    }

    void shrink() {
        if (k_ == 0) hits_.clear();
        if (hits_.size() < k_ || hits_.empty()) return;
        const auto worst = hits_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
        std::nth_element(hits_.begin(), worst, hits_.end());
        threshold_ = worst->score;
        hits_.resize(k_);
    }

    std::size_t k_;
    std::size_t capacity_;
    Score threshold_{};
    std::vector<Hit<Score>> hits_;
};

}  // namespace mrl
