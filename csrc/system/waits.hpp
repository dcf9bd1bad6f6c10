// How long threads wait for each other's locks and hold each other up, for measurements.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ctime>

namespace mrl {

inline std::uint64_t nanoseconds_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

// Nanoseconds that the calling thread has waited so far: for locks of indexes, always counted; for
// Python's, where that is measured.
struct Waited {
    std::uint64_t for_locks = 0, for_python = 0;
};
inline thread_local Waited waited;

// Whether sections and waits for Python are timed: the clock is a twentieth of a short one.
inline std::atomic<bool> measuring_waits{false};
inline bool measures_waits() { return measuring_waits.load(std::memory_order_relaxed); }

// Times, by powers of two of a microsecond: the first is below one, the last is all above.
struct Spread {
    std::array<std::uint64_t, 20> counts{};
    std::uint64_t longest = 0;  // nanoseconds

    void add(std::uint64_t nanoseconds) {
        const auto power = static_cast<std::size_t>(std::bit_width(nanoseconds / 1000));
        ++counts[std::min(power, counts.size() - 1)];
        longest = std::max(longest, nanoseconds);
    }
};

// Moments of one kind in which a thread alone may change something.
struct Section {
    std::uint64_t times = 0;
    std::uint64_t most = 0;  // rows or slots that one of them changed
    Spread held, computed;   // from the clock on the wall, and of the CPU: where it is measured
};

// Counts one of them, from where it is made to where it goes.
class InSection {
  public:
    InSection(Section& section, std::size_t size) : section_(section) {
        ++section.times;
        section.most = std::max<std::uint64_t>(section.most, size);
        if (!measures_waits()) return;
        cpu_ = nanoseconds_of(CLOCK_THREAD_CPUTIME_ID);
        began_ = nanoseconds_of(CLOCK_MONOTONIC);
    }
    ~InSection() {
        if (began_ == 0) return;
        section_.held.add(nanoseconds_of(CLOCK_MONOTONIC) - began_);
        section_.computed.add(nanoseconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu_);
    }
    InSection(const InSection&) = delete;
    InSection& operator=(const InSection&) = delete;

  private:
    Section& section_;
    std::uint64_t began_ = 0, cpu_ = 0;
};

}  // namespace mrl
