// All arrays of one collection: plain data without locks. Who may read and write when is the
// Index's matter (index/index.hpp).
//
// A row is known by its number, in the order in which rows came. Line codes and links are laid out
// by slot (links.hpp), all else by row. A deleted row stays, marked, until it is healed
// (graph/heal.hpp): then no link leads to its slot, and its number is given to a row that comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "../system/memory.hpp"
#include "flat_codes.hpp"
#include "keys.hpp"
#include "line_codes.hpp"
#include "links.hpp"
#include "marks.hpp"
#include "projection.hpp"
#include "rows.hpp"
#include "words.hpp"

namespace mrl {

constexpr float kAlpha = 1.2f;  // of the rule of pruning (graph/prune.hpp), on squared distances

struct Store {
    Store(Metric metric, std::size_t dims, KeyType key_type, bool keep_vectors)
        : rows(metric, dims, keep_vectors), keys(key_type) {}

    Rows rows;
    Keys keys;
    std::optional<Projection> projection;
    LineCodes lines;
    Links links;
    Entries entries;
    bool has_graph = false, has_line_codes = false;
    std::uint32_t effort = 0;  // of the default plan, as it was measured; 0: it was not
    float alpha = kAlpha;      // with which the graph was built
    Array<std::uint32_t> row_of_slots, slot_of_rows;  // empty: a row's slot is its number
    std::vector<FlatCodes> flat;
    Bitmap deleted;                // rows
    Array<std::uint64_t> born;     // of each row: the epoch in which it took a dead one's place
    Array<std::uint32_t> waiting;  // slots that are not linked yet
    std::vector<std::uint32_t> free_rows;  // no slot links to theirs
    std::size_t marked = 0;                // deleted rows that still have a slot
    std::size_t live = 0;                  // rows that are not deleted
    std::size_t dead = 0;                  // and those that are
    std::uint64_t published = 0;           // what searches go by: moment()
    std::uint64_t epoch = 0;  // counts rows that took a dead one's place, since it was opened
    std::vector<std::uint32_t> reborn;  // the last of them: that of an epoch at epoch % size
    std::uint64_t deaths = 0;           // counts rows that died, likewise
    std::vector<std::uint32_t> died;    // the last of them
    double longest_square = 0;          // inner product: what lifts are measured from

    // How many rows there are, and how many of their slots wait, at one moment: rows may be put
    // behind them beside who reads.
    struct Moment {
        std::uint32_t rows, waiting;
    };
    Moment moment() const {
        const std::uint64_t both = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
        return {static_cast<std::uint32_t>(both >> 32), static_cast<std::uint32_t>(both)};
    }
    // After every change of either.
    void publish() {
        __atomic_store_n(&published, std::uint64_t{rows.size()} << 32 | waiting.size(),
                         __ATOMIC_RELEASE);
    }

    Metric metric() const { return rows.metric(); }
    std::size_t dims() const { return rows.dims(); }
    std::uint32_t row_of(std::uint32_t slot) const {
        return row_of_slots.empty() ? slot : row_of_slots[slot];
    }
    std::uint32_t slot_of(std::uint32_t row) const {
        return slot_of_rows.empty() ? row : slot_of_rows[row];
    }
    bool is_dead(std::uint32_t slot) const { return deleted.test(row_of(slot)); }
    RowFilter filter(const Selection* selection) const;
    // The codes of a stage, or nullptr. All codes of the projection hold all its coordinates.
    const FlatCodes* flat_codes(Space space, std::size_t dims, Precision precision) const;
    std::size_t bytes() const;

    // Loading: rows, then codes.
    void reserve(std::size_t n);
    void append(const KeySpan& more, const float* vectors, std::size_t vector_stride,
                std::size_t threads);
    // n vectors, or all when there are fewer, evenly spread, as the metric sees them (unit length
    // under cosine).
    std::vector<float> sample(std::size_t n) const;
    // Of a prefix of so many dims; of the projection, which is set before, all coordinates. mean:
    // of bit codes of a prefix.
    void add_flat_codes(Space space, std::size_t dims, Precision precision, const float* mean,
                        std::size_t threads);
    void add_line_codes(std::size_t threads);  // in the order of rows, for the flat route

    // Writing. A new row takes the number of a healed one, or the next; one with its key is
    // deleted. Where memory is short nothing is changed.
    void put(std::string_view key, const float* vector);
    void remove(std::uint32_t row);
    // The same beside searches, for a new key, where a new row can be put behind the others and
    // nothing moves; false where that is not so. Whoever looks keys up must not do so meanwhile.
    // Searches go by moment(): a row is in none before all of it is there.
    bool append_beside(std::string_view key, const float* vector);
    // What of putting `more` rows takes long, and can be done while others read: call it before, in
    // place. Where it returns false arrays will move, as they do here when they may.
    bool prepare(std::size_t more, Growth growth);

  private:
    bool make_room(std::string_view key, std::size_t rows_after, std::size_t more, Growth growth);
    void lengthen(std::size_t rows_after);
    bool has_room(std::string_view key) const;
    // The codes of a row, of which rows.code() is there already.
    void encode(std::uint32_t row, const float* vector);
    void append(std::string_view key, const float* vector);
    void come_alive(std::uint32_t row);
};

}  // namespace mrl
