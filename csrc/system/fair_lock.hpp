// A lock for many readers or one writer that starves neither.
//
// Turns alternate (phase-fair: Brandenburg and Anderson, Real-Time Systems 46, 2010). A reader that
// comes while a writer waits waits too; when the writer has ended, all readers that wait are let in
// before the next writer. So each waits for one turn of the other kind, however many come. Readers
// whose work is long look at is_wanted() now and then, and give way.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace mrl {

// For std::shared_lock and std::unique_lock.
class FairLock {
  public:
    void lock_shared() {
        std::unique_lock hold(mutex_);
        if (!writing_ && writers_ == 0) {
            ++reading_;
            return;
        }
        ++readers_;
        const std::uint64_t turn = turns_;
        readers_turn_.wait(hold, [&] { return turns_ != turn; });  // counted as reading by then
    }

    void unlock_shared() {
        const std::lock_guard hold(mutex_);
        if (--reading_ == 0 && writers_ > 0) let_writer();
    }

    void lock() {
        std::unique_lock hold(mutex_);
        if (!writing_ && reading_ == 0) {
            writing_ = true;
            return;
        }
        ++writers_;
        wanted_.store(true, std::memory_order_relaxed);
        writers_turn_.wait(hold, [&] { return let_; });
        let_ = false;
    }

    void unlock() {
        const std::lock_guard hold(mutex_);
        writing_ = false;
        if (readers_ > 0) {
            reading_ = readers_;
            readers_ = 0;
            ++turns_;
            readers_turn_.notify_all();
        } else if (writers_ > 0) {
            let_writer();
        }
    }

    // Whether a writer waits for those who read.
    bool is_wanted() const { return wanted_.load(std::memory_order_relaxed); }

    // How many wait, for tests and measurements.
    std::size_t waiting() {
        const std::lock_guard hold(mutex_);
        return readers_ + writers_;
    }

  private:
    void let_writer() {
        writing_ = let_ = true;
        --writers_;
        wanted_.store(writers_ > 0, std::memory_order_relaxed);
        writers_turn_.notify_one();
    }

    std::mutex mutex_;
    std::condition_variable readers_turn_, writers_turn_;
    std::size_t reading_ = 0, readers_ = 0, writers_ = 0;  // at it, waiting, waiting
    std::uint64_t turns_ = 0;                              // how often waiting readers were let in
    bool writing_ = false;  // also from when a writer is let in until it wakes
    bool let_ = false;      // a writer may wake
    std::atomic<bool> wanted_{false};
};

}  // namespace mrl
