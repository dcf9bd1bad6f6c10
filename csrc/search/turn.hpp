// A reader's turn at a store that others may write to.
#pragma once

#include <cstddef>
#include <shared_mutex>

#include "../system/fair_lock.hpp"

namespace mrl {

class Turn {
  public:
    explicit Turn(FairLock& lock) : lock_(lock), hold_(lock) {}

    // Lets a writer that waits have its turn, and waits for it: what was read may have changed.
    void give_way() {
        if (!lock_.is_wanted()) return;
        hold_.unlock();
        ++given_;
        hold_.lock();
    }
    std::size_t given() const { return given_; }  // how often it did

  private:
    FairLock& lock_;
    std::shared_lock<FairLock> hold_;
    std::size_t given_ = 0;
};

}  // namespace mrl
