// A lock for many readers or one writer that starves neither.
//
// Turns alternate (phase-fair: Brandenburg and Anderson, Real-Time Systems 46, 2010). A reader that
// comes while a writer waits waits too; when the writer has ended, all readers that wait are let in
// before the next writer. So each waits for one turn of the other kind, however many come. Readers
// whose work is long look at is_wanted() now and then, and give way.
//
// Who waits looks for a moment before it sleeps: most turns are shorter than it takes a thread that
// sleeps to get a core again. With patience, readers do not wait for a writer that has no core, as
// may be for milliseconds where cores are few: they go first until it looks again, or has waited
// for so long.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

#include "cpu.hpp"
#include "waits.hpp"

namespace mrl {

// For std::shared_lock and std::unique_lock.
class FairLock {
  public:
    FairLock() = default;
    explicit FairLock(std::uint64_t patience) : patience_(patience) {}  // nanoseconds

    void lock_shared() {
        std::unique_lock hold(mutex_);
        if (is_free() || may_pass()) {
            ++reading_;
            return;
        }
        wait_to_read(hold);
    }

    // After all writers that wait, awake or not.
    void lock_shared_in_turn() {
        std::unique_lock hold(mutex_);
        if (is_free()) {
            ++reading_;
            return;
        }
        wait_to_read(hold);
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
        const auto is_let = [&] { return let_.load(); };
        const Waiting waiting;
        passed_until_ = waiting.since + patience_;
        looked_ = waiting.since;
        for (std::uint64_t spun = kSpun;; spun = kSpunAwake) {
            hold.unlock();
            spin(spun, is_let, &looked_);
            hold.lock();
            if (let_) break;  // no other one came first
            ++asleep_;
            writers_turn_.wait(hold);
            --asleep_;
            if (let_) break;
            looked_ = nanoseconds_of(CLOCK_MONOTONIC);
        }
        let_ = false;
    }

    void unlock() {
        const std::lock_guard hold(mutex_);
        writing_ = false;
        if (readers_ > 0) {
            reading_ = readers_;
            readers_ = 0;
            ++turns_;  // who spins goes on from here
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
    // And how many writers sleep.
    std::size_t asleep() {
        const std::lock_guard hold(mutex_);
        return asleep_;
    }

  private:
    // Nanoseconds that are looked for before a thread sleeps; by a writer that slept, and whose
    // core may be gone the next time, as long as most searches take.
    static constexpr std::uint64_t kSpun = 500'000, kSpunAwake = 2'000'000;

    static constexpr std::uint64_t kNoCore = 50'000;  // who has not looked for so long

    struct Waiting {
        const std::uint64_t since = nanoseconds_of(CLOCK_MONOTONIC);
        ~Waiting() { waited.for_locks += nanoseconds_of(CLOCK_MONOTONIC) - since; }
    };

    template <class Condition>
    static bool spin(std::uint64_t nanoseconds, const Condition& is_met,
                     std::atomic<std::uint64_t>* looked = nullptr) {
        static const bool alone = std::thread::hardware_concurrency() < 2;
        const std::uint64_t since = nanoseconds_of(CLOCK_MONOTONIC);
        while (!is_met()) {
            const std::uint64_t now = nanoseconds_of(CLOCK_MONOTONIC);
            if (alone || now - since > nanoseconds) return false;
            if (looked != nullptr) looked->store(now, std::memory_order_relaxed);
            for (int i = 0; i < 32 && !is_met(); ++i) cpu::pause_core();
        }
        return true;
    }

    bool is_free() const { return !writing_ && writers_ == 0; }

    // Whether no writer that waits has a core, and none has waited for too long; one that was let
    // in and has not noticed waits on then.
    bool may_pass() {
        if (patience_ == 0 || (writing_ && !let_)) return false;
        const std::uint64_t now = nanoseconds_of(CLOCK_MONOTONIC);
        const bool all_sleep = asleep_ == writers_ + (let_ ? 1 : 0);
        if (now > passed_until_ || (!all_sleep && now < looked_ + kNoCore)) return false;
        if (let_) {
            writing_ = false;
            let_ = false;
            ++writers_;
            wanted_.store(true, std::memory_order_relaxed);
        }
        return true;
    }

    void wait_to_read(std::unique_lock<std::mutex>& hold) {
        ++readers_;
        const std::uint64_t turn = turns_;
        const auto is_let = [&] { return turns_ != turn; };  // counted as reading by then
        const Waiting waiting;
        hold.unlock();
        if (spin(kSpun, is_let)) return;
        hold.lock();
        readers_turn_.wait(hold, is_let);
    }

    void let_writer() {
        writing_ = true;
        let_ = true;
        --writers_;
        wanted_.store(writers_ > 0, std::memory_order_relaxed);
        writers_turn_.notify_one();
    }

    std::mutex mutex_;
    std::condition_variable readers_turn_, writers_turn_;
    std::size_t reading_ = 0, readers_ = 0, writers_ = 0;  // at it, waiting, waiting
    std::atomic<std::uint64_t> turns_{0};                  // how often waiting readers were let in
    bool writing_ = false;          // also from when a writer is let in until it wakes
    std::atomic<bool> let_{false};  // a writer may wake
    std::atomic<bool> wanted_{false};
    const std::uint64_t patience_ = 0;
    std::uint64_t passed_until_ = 0;        // by readers
    std::atomic<std::uint64_t> looked_{0};  // when a writer that waits did last
    std::size_t asleep_ = 0;                // writers
};

}  // namespace mrl
