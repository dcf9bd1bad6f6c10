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
        lock_.lock_shared_in_turn();
        hold_ = std::shared_lock(lock_, std::adopt_lock);
    }
    bool is_wanted() const { return lock_.is_wanted(); }
    std::size_t given() const { return given_; }  // how often it did

  private:
    FairLock& lock_;
    std::shared_lock<FairLock> hold_;
    std::size_t given_ = 0;
};

// A turn in which keys may be looked up: rows may be put beside searches, but not beside these.
class KeyTurn {
  public:
    KeyTurn(FairLock& lock, FairLock& appends) : appends_(appends), turn_(lock), hold_(appends) {}

    void give_way() {
        if (!appends_.is_wanted() && !turn_.is_wanted()) return;
        hold_.unlock();
        turn_.give_way();
        hold_.lock();
    }

  private:
    FairLock& appends_;
    Turn turn_;
    std::shared_lock<FairLock> hold_;
};

}  // namespace mrl
