// Progress of a build.
#pragma once

#include <algorithm>
#include <mutex>

#include "build.hpp"

namespace mrl {

// Progress from many threads, told by one at a time.
class Meter {
  public:
    Meter(const BuildProgress& report, double total) : report_(report), total_(total) {}
    void add(double work) {
        if (!report_) return;
        const std::lock_guard lock(mutex_);
        done_ += work;
        if (done_ - told_ >= total_ / 200) {
            told_ = done_;
            report_(std::min(done_, total_), total_);
        }
    }

  private:
    const BuildProgress& report_;
    std::mutex mutex_;
    double done_ = 0, told_ = 0;
    double total_;
};

}  // namespace mrl
