// Which of many candidates become a row's links.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "../search/graph.hpp"
#include "build_codes.hpp"

namespace mrl {

// Sorts by distance; equal ones stay as they came. Short lists by rank, without a branch for each
// comparison.
class Sorter {
  public:
    void sort(std::vector<Near>& all);

  private:
    std::vector<Near> sorted_;
};

// Keeps the nearest `k` of what is offered.
class Nearest {
  public:
    explicit Nearest(std::size_t k) : k_(k) { kept_.reserve(2 * k); }
    float threshold() const { return threshold_; }
    void offer(Near near) {
        kept_.push_back(near);
        if (kept_.size() == 2 * k_) cut();
    }
    std::vector<Near>& take() {
        if (kept_.size() > k_) cut();
        sorter_.sort(kept_);
        return kept_;
    }
    void clear() {
        kept_.clear();
        threshold_ = kInfinity;
    }

  private:
    static constexpr float kInfinity = std::numeric_limits<float>::infinity();
    void cut() {
        std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(k_ - 1),
                         kept_.end());
        kept_.resize(k_);
        threshold_ = kept_.back().distance;
    }
    std::size_t k_;
    float threshold_ = kInfinity;
    std::vector<Near> kept_;
    Sorter sorter_;
};

// Chooses links among candidates in rising distance: one is passed over while some link is nearer
// to it than the row is, by the round's factor. A link's distances to all later candidates are one
// call of a kernel; codes and lengths are first copied side by side, as each is looked at some ten
// times.
class Pruner {
  public:
    Pruner(const BuildCodes& codes, float alpha) : codes_(codes), alpha_(alpha) {}

    // candidates: in rising distance. Returns how many links there are, at most kDegree.
    std::size_t prune(std::uint32_t slot, const std::vector<Near>& candidates, Near* links);

  private:
    void copy(const std::vector<Near>& candidates);
    void occlude(const std::vector<Near>& candidates, std::size_t link);

    const BuildCodes& codes_;
    const Kernels& kernels_ = kernels();
    float alpha_;
    Array<std::int8_t> bytes_;
    std::vector<float> scale_, square_, lift_, occlusion_;
    std::vector<std::uint32_t> places_;
    std::vector<std::int32_t> products_;
};

}  // namespace mrl
