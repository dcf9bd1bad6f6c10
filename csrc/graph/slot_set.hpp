// A set of a few hundred slots, emptied and filled again and again: its table stays in the
// first-level cache, where an array over all slots would miss at each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mrl {

class SlotSet {
  public:
    void clear() {
        size_ = 0;
        if (++stamp_ != 0) return;
        table_.assign(table_.size(), Place{});  // stamps of 2^32 fillings ago look like today's
        stamp_ = 1;
    }

    // Whether it was not there before.
    bool insert(std::uint32_t slot) {
        if (2 * size_ >= table_.size()) grow();
        const bool fresh = put(slot);
        size_ += fresh ? 1 : 0;
        return fresh;
    }

  private:
    struct Place {
        std::uint32_t slot = 0, stamp = 0;
    };

    bool put(std::uint32_t slot) {
        const std::size_t last = table_.size() - 1;
        std::size_t at = slot * 0x9e3779b97f4a7c15u >> 32 & last;  // Fibonacci hashing
        while (table_[at].stamp == stamp_) {
            if (table_[at].slot == slot) return false;
            at = (at + 1) & last;
        }
        table_[at] = {slot, stamp_};
        return true;
    }

    void grow() {
        std::vector<Place> before(2 * table_.size());
        before.swap(table_);
        for (const Place& place : before) {
            if (place.stamp == stamp_) put(place.slot);
        }
    }

    std::vector<Place> table_ = std::vector<Place>(1024);
    std::uint32_t stamp_ = 1;
    std::size_t size_ = 0;
};

}  // namespace mrl
