// What one search needs beside the store: lent to one thread at a time, so that a search allocates
// nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "best.hpp"
#include "stage_codes.hpp"
#include "walk.hpp"

namespace mrl {

struct RowHit {
    std::uint32_t row;
    double distance;
};

struct Scratch {
    StageQuery query;
    Walk walk;
    std::vector<Candidate> candidates;
    std::vector<std::uint32_t> ids;
    std::vector<float> scores;
    std::vector<double> distances;
    std::vector<RowHit> hits;
};

class ScratchPool {
  public:
    std::unique_ptr<Scratch> borrow() {
        const std::lock_guard lock(mutex_);
        if (free_.empty()) return std::make_unique<Scratch>();
        std::unique_ptr<Scratch> scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
    }
    void give_back(std::unique_ptr<Scratch> scratch) {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(scratch));
    }

  private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Scratch>> free_;
};

}  // namespace mrl
