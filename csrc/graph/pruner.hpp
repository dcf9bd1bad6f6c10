// Which of many candidates become a row's links.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "build_codes.hpp"
#include "prune.hpp"

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

// The rule of pruning over build codes. Codes and lengths of all candidates are first copied side
// by side, as each is looked at some ten times.
class BuildPruner {
  public:
    BuildPruner(const BuildCodes& codes, float alpha) : codes_(codes), alpha_(alpha) {}

    // candidates: in rising distance from the row, which is none of them. links: kDegree, those
    // that are not used have kNoLink. Returns how many are.
    std::size_t prune(const std::vector<Near>& candidates, Near* links);

  private:
    void copy(const std::vector<Near>& candidates);

    const BuildCodes& codes_;
    const Kernels& kernels_ = kernels();
    float alpha_;
    Pruning pruning_;
    Array<std::int8_t> bytes_;
    std::vector<float> scale_, square_, lift_;
    std::vector<std::int32_t> products_;
};

// Ends a slot's list of links.
inline void end_links(Near* links, std::size_t degree) {
    std::fill(links + degree, links + kDegree, Near{kInfinity, kNoLink});
}

}  // namespace mrl
