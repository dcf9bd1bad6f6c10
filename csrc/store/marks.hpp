// Which rows may be in an answer: those that are not deleted, of those that a filter selects.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
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

// Rows that a filter selects, as they were when somebody looked at all of them.
struct SelectedRows {
    Bitmap bits;
    std::size_t of_rows = 0;          // how many there were
    bool listed = false;              // few: they are in lists, too
    std::vector<std::uint32_t> list;  // in the order of their slots
    std::vector<std::uint32_t> slots;

    bool test(std::uint32_t row) const { return row < of_rows && bits.test(row); }
};

// A few rows that are selected where they were not, or are not where they were.
class TurnedRows {
  public:
    std::size_t size() const { return rows_.size(); }
    bool has(std::uint32_t row) const {
        return (marks_[row / 64 % kMarks] >> (row % 64) & 1) != 0 &&
               std::binary_search(rows_.begin(), rows_.end(), row);
    }
    void turn(std::uint32_t row) {
        const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
        if (at != rows_.end() && *at == row) {
            rows_.erase(at);
            return;
        }
        rows_.insert(at, row);
        marks_[row / 64 % kMarks] |= std::uint64_t{1} << (row % 64);
    }
    const std::vector<std::uint32_t>& rows() const { return rows_; }

  private:
    static constexpr std::size_t kMarks = 64;
    std::vector<std::uint32_t> rows_;            // ascending
    std::array<std::uint64_t, kMarks> marks_{};  // most rows are not among them, by their last bits
};

// Rows that a filter selects (search/select.hpp): those that it did, but for what has changed
// since. A row that came later in a selected row's place is not selected: `epoch` tells.
struct Selection {
    std::shared_ptr<const SelectedRows> then;
    TurnedRows turned;
    std::size_t of_rows = 0;     // how many there are
    std::size_t count = 0;       // and how many of them it selects
    std::uint64_t epoch = 0;     // as the store's
    std::uint64_t deaths = 0;    // likewise
    std::uint64_t of_index = 0;  // which made it (Index::is_mine)

    bool selects(std::uint32_t row) const { return then->test(row) != turned.has(row); }
    bool is_listed() const { return then->listed; }
    // Those that are in no list, though there are lists.
    std::vector<std::uint32_t> unlisted() const {
        std::vector<std::uint32_t> rows;
        std::copy_if(turned.rows().begin(), turned.rows().end(), std::back_inserter(rows),
                     [this](std::uint32_t row) { return !then->test(row); });
        return rows;
    }
    std::size_t bytes() const {
        return then->bits.words().bytes() +
               sizeof(std::uint32_t) *
                   (then->list.capacity() + then->slots.capacity() + turned.rows().capacity());
    }
};

// Which rows may be in an answer; a walk passes through the others all the same.
struct RowFilter {
    const Bitmap* deleted;
    const Selection* selection;                // or nullptr for all
    const Array<std::uint64_t>* born;          // of each row, when it came, in epochs
    const Array<std::uint32_t>* row_of_slots;  // empty where both are the same
    std::uint32_t hidden = 0xffffffffu;  // a row that is to be as if it were not there, or none

    bool allows_row(std::uint32_t row) const {
        return row != hidden && !deleted->test(row) &&
               (selection == nullptr ||
                (selection->selects(row) && (*born)[row] <= selection->epoch));
    }
    bool allows_slot(std::uint32_t slot) const {
        return allows_row(row_of_slots->empty() ? slot : (*row_of_slots)[slot]);
    }
};

}  // namespace mrl
