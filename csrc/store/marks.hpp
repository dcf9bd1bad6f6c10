// Which rows may be in an answer: those that are not deleted, of those that a filter selects.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../system/memory.hpp"

namespace mrl {

// Bits that one thread changes while others look at them: each sees a bit as it was or as it is.
class Bitmap {
  public:
    void resize(std::size_t bits) { words_.resize((bits + 63) / 64); }
    bool make_room(std::size_t bits, Growth growth) {
        return words_.make_room((bits + 63) / 64, growth);
    }
    bool has_room(std::size_t bits) const { return words_.has_room((bits + 63) / 64); }
    bool test(std::size_t i) const { return (word(i) >> (i & 63) & 1) != 0; }
    void set(std::size_t i) { put(i, word(i) | std::uint64_t{1} << (i & 63)); }
    void clear(std::size_t i) { put(i, word(i) & ~(std::uint64_t{1} << (i & 63))); }
    std::size_t count() const {
        std::size_t sum = 0;
        for (std::size_t i = 0; i < words_.size(); ++i) {
            sum += static_cast<std::size_t>(std::popcount(words_[i]));
        }
        return sum;
    }
    const Array<std::uint64_t>& words() const { return words_; }
    Array<std::uint64_t>& words() { return words_; }

  private:
    std::uint64_t word(std::size_t i) const {
        return __atomic_load_n(&words_[i >> 6], __ATOMIC_RELAXED);
    }
    void put(std::size_t i, std::uint64_t word) {
        __atomic_store_n(&words_[i >> 6], word, __ATOMIC_RELAXED);
    }

    Array<std::uint64_t> words_;
};

// Rows that a filter selects (search/select.hpp). A row that came later in a selected row's place
// is not selected: `epoch` tells.
struct Selection {
    Bitmap rows;
    std::size_t of_rows = 0;          // how many there were
    std::size_t count = 0;            // and how many of them it selects
    bool listed = false;              // few: they are in lists, too
    std::vector<std::uint32_t> list;  // in the order of their slots
    std::vector<std::uint32_t> slots;
    std::uint64_t epoch = 0;
    std::uint64_t of_index = 0;  // which made it (Index::is_mine)

    std::size_t bytes() const {
        return rows.words().bytes() + sizeof(std::uint32_t) * (list.capacity() + slots.capacity());
    }
};

// Which rows may be in an answer; a walk passes through the others all the same.
struct RowFilter {
    const Bitmap* deleted;
    const Bitmap* selected;            // or nullptr for all …
    std::size_t selected_from;         // … of so many; rows that came later are not selected
    const Array<std::uint64_t>* born;  // of each row, when it came, in epochs …
    std::uint64_t selected_in;         // … and the epoch of the selection
    const Array<std::uint32_t>* row_of_slots;  // empty where both are the same
    std::uint32_t hidden = 0xffffffffu;  // a row that is to be as if it were not there, or none

    bool allows_row(std::uint32_t row) const {
        return row != hidden && !deleted->test(row) &&
               (selected == nullptr ||
                (row < selected_from && selected->test(row) && (*born)[row] <= selected_in));
    }
    bool allows_slot(std::uint32_t slot) const {
        return allows_row(row_of_slots->empty() ? slot : (*row_of_slots)[slot]);
    }
};

}  // namespace mrl
