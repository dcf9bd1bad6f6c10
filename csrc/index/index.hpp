// The rows of one collection in this process: a store, its locks, and who may write when.
//
// Any number of threads may search while others write: a write finds its links while searches go
// on, and holds them up only for the moment in which it changes something.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../graph/build.hpp"
#include "../search/funnel.hpp"
#include "../search/select.hpp"
#include "../store/store.hpp"
#include "../system/fair_lock.hpp"
#include "../system/waits.hpp"
#include "forks.hpp"

namespace mrl {

// Which rows were met in a comparison with the table (Index::compare).
struct Comparison {
    Bitmap met;
    std::size_t of_rows = 0;
};

// Rows that were there at one time (Index::live).
struct LiveRows {
    std::vector<std::uint32_t> rows;
    std::uint64_t epoch;
    std::uint64_t of_index;
};

// What searches wait for: moments in which the index changes.
struct Sections {
    Section put, put_moving;  // rows, in arrays that stay, and in those that have to grow elsewhere
    Section appended;         // rows, for which no search waits
    Section removed;          // rows
    Section linked, mended, buried;  // slots
    Section entries, texts;
};

class Index {
  public:
    Index(Metric metric, std::size_t dims, KeyType key_type, bool keep_vectors)
        : Index(Store(metric, dims, key_type, keep_vectors)) {}
    ~Index() { unregister_index(this); }
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    // Loading: rows, then codes and graph (store.hpp, build.hpp). Not beside searches.
    void append(const KeySpan& keys, const float* vectors, std::size_t vector_stride,
                std::size_t threads);
    void reserve(std::size_t rows) { store_.reserve(rows); }
    std::vector<float> sample(std::size_t n) const;
    void set_projection(const float* matrix, const float* mean);
    void add_flat_codes(Space space, std::size_t dims, Precision precision, const float* mean,
                        std::size_t threads);
    void add_line_codes(std::size_t threads) { store_.add_line_codes(threads); }
    void build(const BuildOptions& options, const BuildProgress& progress);

    // Writing. An upsert replaces rows whose key is there with another vector. Its rows are found
    // at once, but the graph route finds them by looking at each until link_waiting() has brought
    // them into the graph: in pieces, beside searches and writes.
    void upsert(const KeySpan& keys, const float* vectors, std::size_t vector_stride);
    std::size_t link_waiting(std::size_t most, std::size_t threads);
    std::size_t waiting() const;
    std::size_t erase(const KeySpan& keys);
    // Whether rows wait, or deleted ones are so many that link_waiting() will heal first.
    bool is_behind() const;
    // Takes deleted rows out of the graph and mends what they tore. Writes do so by themselves when
    // marks have become a fifth.
    void heal();

    // A comparison with the rows of a table, in pieces, while nobody writes: which of these are not
    // here as they are there, by position. In the end those that were in no piece are erased.
    std::vector<std::size_t> compare(const KeySpan& keys, const float* vectors,
                                     std::size_t vector_stride, Comparison& comparison) const;
    std::size_t erase_unmet(const Comparison& comparison);

    // The rows that a filter selects, and what they are after writes (search/select.hpp).
    Selection select(const KeySpan& passing) const;
    std::optional<Selection> reselect(const Selection& before, const KeySpan& changed,
                                      const KeySpan& passing) const;

    // The rows that are not deleted, of those selected, in the order of their numbers: `visit` is
    // called with each while they may not change.
    LiveRows live(const Selection* selection,
                  const std::function<void(std::uint32_t row)>& visit) const;
    // Coordinates begin to before end of some of these, by their positions among them, as the rows
    // were then; false when another row has taken the number of one since. Where vectors are kept.
    bool coordinates(const LiveRows& live, const std::uint32_t* positions, std::size_t n,
                     std::size_t begin, std::size_t end, float* out) const;

    // Answers queries, each as of one moment (funnel.hpp); `take` is called while the rows may not
    // change.
    void search(const float* queries, std::size_t n_queries, const SearchRequest& request,
                StageCounts& counts, const TakeHits& take) const;
    // Rows that are asked for as if they were none, one for each query of a search.
    HiddenRows hide(const KeySpan& keys, std::size_t threads) const;
    // Whether this index gave them: another's lead beyond the end of its arrays.
    bool is_mine(const HiddenRows& hidden) const { return hidden.of == &store_; }
    bool is_mine(const Selection& selection) const { return selection.of_index == number_; }
    bool is_mine(const LiveRows& live) const { return live.of_index == number_; }
    // Throws PlanMismatch when a stage's codes are missing.
    void check(const Plan& plan) const;

    const Keys& keys() const { return store_.keys; }
    Metric metric() const { return store_.metric(); }
    std::size_t dims() const { return store_.dims(); }
    bool keeps_vectors() const { return store_.rows.keeps_vectors(); }
    std::size_t live_rows() const { return live_.load(std::memory_order_relaxed); }
    bool has_graph() const { return store_.has_graph; }
    // What was measured for the default plan, kept in the file; 0: nothing was.
    std::uint32_t effort() const { return store_.effort; }
    void set_effort(std::uint32_t effort) { store_.effort = effort; }
    bool has_line_codes() const { return store_.has_line_codes; }
    std::size_t bytes() const;
    std::size_t vector_bytes() const;
    // Writes all of it to a file, or takes it from one (store_file.hpp). Saving lets searches go on
    // and holds writes up.
    void save(const std::string& path, const std::string& about);
    static std::unique_ptr<Index> open(const std::string& path, std::string& about);

    // A copy of the links, by rows, for tests and measurements.
    std::vector<std::uint32_t> links() const;

    // What writes and links changed at a time, and how long it took (waits.hpp).
    Sections sections() const;

    // For a fork (forks.hpp): until a write has ended, and none begins; and the locks in the child,
    // where threads that held them are not.
    void hold_writes() { writer_.lock(); }
    void let_writes() { writer_.unlock(); }
    void renew_locks();

  private:
    explicit Index(Store store)
        : store_(std::move(store)), live_(store_.live), number_(next_number()) {
        register_index(this);
    }
    static std::uint64_t next_number();
    // For how long searches go before a write that sleeps: some turns of a scheduler.
    static constexpr std::uint64_t kPatience = 20'000'000;  // nanoseconds

    // Changes the store while nobody reads. Who holds writer_ may read it at any time, and finds
    // out what to change beside the readers.
    template <class Change>
    void write(Section& section, std::size_t size, Change&& change);

    bool append(std::string_view key, const float* vector);
    bool is_torn(std::size_t share) const;
    void clean();
    template <class Change>
    void write_pieces(Section& section, std::size_t n, Change&& change);

    Store store_;
    Sections sections_;
    std::atomic<std::size_t> live_;  // store_.live, for those who do not read
    const std::uint64_t number_;     // of this process's indexes, from 1
    mutable FairLock lock_{kPatience};
    // One write at a time. graph_ before writer_, and both before lock_: who holds graph_ alone may
    // look for links as long as it takes, as nobody else changes links, or moves what is looked at.
    FairLock writer_, graph_;
    // Behind lock_: who puts rows beside searches, or looks keys up.
    mutable FairLock appends_;
    mutable ScratchPool scratches_;
};

}  // namespace mrl
