// Numbers some hundred slots, or thousands, as they are met; emptied and filled again and again.
// Its table stays in the nearest caches, where an array over all slots would miss at each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mrl {

// Open addressing: a power of two of places, at most half of them in use.
class SlotNumbers {
  public:
    static constexpr std::uint32_t kNone = 0xffffffffu;

    void clear() {
        size_ = 0;
        if (++stamp_ != 0) return;
        table_.assign(table_.size(), Place{});  // stamps of 2^32 fillings ago look like today's
        stamp_ = 1;
    }

    // The number of a slot: `next` where it is met for the first time.
    std::uint32_t find_or_add(std::uint32_t slot, std::uint32_t next) {
        if (2 * size_ >= table_.size()) grow();
        Place& place = table_[place_of(slot)];
        if (place.stamp != stamp_) {
            place = {slot, next, stamp_};
            ++size_;
        }
        return place.number;
    }

    // kNone where it was not met.
    std::uint32_t find(std::uint32_t slot) const {
        const Place& place = table_[place_of(slot)];
        return place.stamp == stamp_ ? place.number : kNone;
    }

  private:
    struct Place {
        std::uint32_t slot = 0, number = 0, stamp = 0;
    };

    std::size_t place_of(std::uint32_t slot) const {
        const std::size_t last = table_.size() - 1;
        std::size_t at = slot * 0x9e3779b97f4a7c15u >> 32 & last;  // Fibonacci hashing
        while (table_[at].stamp == stamp_ && table_[at].slot != slot) at = (at + 1) & last;
        return at;
    }

    void grow() {
        std::vector<Place> before(2 * table_.size());
        before.swap(table_);
        for (const Place& place : before) {
            if (place.stamp == stamp_) table_[place_of(place.slot)] = place;
        }
    }

    std::vector<Place> table_ = std::vector<Place>(1024);
    std::uint32_t stamp_ = 1;
    std::size_t size_ = 0;
};

}  // namespace mrl
