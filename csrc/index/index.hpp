// The rows of one collection in this process, and how a plan is run over them: everything between a
// query's arrival and its answer's departure, without Python.
//
// A row is known by its number, in the order in which rows came. Line codes and graph are laid out
// by slot (graph.hpp), all else by row. A deleted row stays, marked, until heal() takes its slot
// out of the graph; then its number is given to a row that comes.
//
// Any number of threads may search while others write: a write finds its links while searches go
// on, and holds them up only for the moment in which it changes something.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "../graph/build.hpp"
#include "../search/graph.hpp"
#include "../store/flat_codes.hpp"
#include "../store/keys.hpp"
#include "../store/line_codes.hpp"
#include "../store/rows.hpp"
#include "hidden_rows.hpp"

namespace mrl {

enum class Route { flat, graph };

struct Stage {
    Space space;
    std::size_t dims;
    Precision precision;
    std::size_t keep;
};

// How much worse than the k-th best the next candidate may be for a walk to go on, for a query and
// rows of length 1, where a plan does not say it. A longer walk has a longer pool, and both find
// more; fitted near the envelope of hops and margins over queries/s and recall, on real rows of 384
// dims and generated ones of 768 and 1,024 (efforts 24 to 700).
float margin_of_effort(std::size_t effort);
constexpr float kMarginOfEffort = -1.0f;

struct Plan {
    Route route;
    std::size_t effort;
    std::vector<Stage> stages;
    float margin = kMarginOfEffort;  // as margin_of_effort; +infinity never ends a walk early
};

// What stages did, summed over the queries of a call.
struct StageCount {
    std::uint64_t rows_in = 0, rows_out = 0, nanoseconds = 0;
};
constexpr std::size_t kMostStages = 8;
using StageCounts = std::array<StageCount, kMostStages>;

struct RowHit {
    std::uint32_t row;
    double distance;
};

// Rows that a filter selects, made by Index::select. A row that came later in a selected row's
// place is not selected: `epoch` tells.
struct Selection {
    Bitmap rows;
    std::size_t of_rows;              // how many there were
    std::vector<std::uint32_t> list;  // in the order of their slots
    std::vector<std::uint32_t> slots;
    std::uint64_t epoch;
};

// Which rows were met in a comparison with the table (Index::compare).
struct Comparison {
    Bitmap met;
    std::size_t of_rows = 0;
};

// Rows that were there at one time (Index::live).
struct LiveRows {
    std::vector<std::uint32_t> rows;
    std::uint64_t epoch;
};

// A plan asks for codes that were not loaded, or for something that this index cannot do.
class PlanMismatch : public std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct Scratch;

class Index {
  public:
    Index(Metric metric, std::size_t dims, KeyType key_type, bool keep_vectors);
    ~Index();

    // Loading: rows, then codes and graph. Not beside searches.
    void append(const KeySpan& keys, const float* vectors, std::size_t vector_stride,
                std::size_t threads);
    void reserve(std::size_t rows);
    // n vectors, or all when there are fewer, evenly spread, as the metric sees them (unit length
    // under cosine).
    std::vector<float> sample(std::size_t n) const;
    void set_projection(const float* matrix, const float* mean);
    // Of a prefix of so many dims; of the projection, which is set before, all coordinates.
    void add_flat_codes(Space space, std::size_t dims, Precision precision, const float* mean,
                        std::size_t threads);
    void add_line_codes(std::size_t threads);  // in the order of rows, for the flat route
    void build(const BuildOptions& options, const BuildProgress& progress);

    // Writing. An upsert replaces rows whose key is there with another vector. Its rows are found
    // at once, but the graph route finds them by looking at each until link_waiting() has brought
    // them into the graph: in pieces, beside searches and writes.
    void upsert(const KeySpan& keys, const float* vectors, std::size_t vector_stride);
    std::size_t link_waiting(std::size_t most, std::size_t threads);
    std::size_t waiting() const {
        const Reading reading(*this);
        return waiting_.size();
    }
    std::size_t erase(const KeySpan& keys);
    // Takes deleted rows out of the graph and mends what they tore. Writes do so by themselves when
    // marks have become many.
    void heal();

    // A comparison with the rows of a table, in pieces, while nobody writes: which of these are not
    // here as they are there, by place. In the end those that were in no piece are erased.
    std::vector<std::size_t> compare(const KeySpan& keys, const float* vectors,
                                     std::size_t vector_stride, Comparison& comparison) const;
    std::size_t erase_unmet(const Comparison& comparison);

    Selection select(const KeySpan& keys) const;

    // The rows that are not deleted, of those selected, in the order of their numbers: `visit` is
    // called with each while they may not change.
    LiveRows live(const Selection* selection,
                  const std::function<void(std::uint32_t row)>& visit) const;
    // Coordinates begin to before end of some of these, by their places among them, as the rows
    // were then; false when another row has taken the place of one since. Where vectors are kept.
    bool coordinates(const LiveRows& live, const std::uint32_t* places, std::size_t n,
                     std::size_t begin, std::size_t end, float* out) const;

    // Answers n_queries queries (dims floats each, one after another, finite): `found[q]` is called
    // with the hits of query q, best first, at most the plan's last keep, while the rows may not
    // change. With `unscored` the plan's last stage is left to the caller.
    struct Search {
        const Plan& plan;
        const Selection* selection;  // or nullptr
        std::size_t threads;
        bool without_last_stage;
        const HiddenRows* hidden =
            nullptr;  // of this index: for each query a row that is to be as if it were not there
    };
    using Found = std::function<void(std::size_t query, const RowHit* hits, std::size_t count)>;
    void search(const float* queries, std::size_t n_queries, const Search& search,
                StageCounts& counts, const Found& found) const;

    // Rows that are asked for as if they were none, one for each query of a search.
    HiddenRows hide(const KeySpan& keys, std::size_t threads) const;

    // Throws PlanMismatch when a stage's codes are missing.
    void check(const Plan& plan) const;

    const Keys& keys() const { return keys_; }
    Metric metric() const { return rows_.metric(); }
    std::size_t dims() const { return rows_.dims(); }
    bool keeps_vectors() const { return rows_.keeps_vectors(); }
    std::size_t live_rows() const { return live_.load(std::memory_order_relaxed); }
    bool has_graph() const { return has_graph_; }
    bool has_line_codes() const { return has_line_codes_; }
    std::size_t bytes() const;
    std::size_t vector_bytes() const { return rows_.vector_bytes(); }
    // Writes all of it to a file, or takes it from one, as mapped memory (file.hpp). `about`: the
    // caller's, returned as it was given. Saving lets searches go on and holds writes up. Throws
    // FileError.
    void save(const std::string& path, const std::string& about);
    static std::unique_ptr<Index> open(const std::string& path, std::string& about);

    // A copy of the links, for tests and measurements.
    std::vector<std::uint32_t> links() const;

  private:
    friend struct Searcher;
    class Detouring;

    // Readers pass through the gate, a writer waits in it: so that a stream of searches never
    // starves a writer.
    class Reading {
      public:
        explicit Reading(const Index& index);
        ~Reading() { index_.lock_.unlock_shared(); }

      private:
        const Index& index_;
    };
    class Writing {
      public:
        explicit Writing(Index& index);
        ~Writing() { index_.lock_.unlock(); }

      private:
        Index& index_;
    };

    template <class Fields>
    static void form(Fields& f, std::uint32_t& metric, std::uint64_t& dims, std::uint32_t& key_type,
                     bool& keeps_vectors);
    template <class Fields>
    void fields(Fields& f);
    bool restore();
    const FlatCodes* flat(const Stage& stage) const;
    void place(std::string_view key, const float* vector);
    void mark(std::uint32_t row);
    void heal_if_torn();
    void heal_marked();
    void link(const std::vector<std::uint32_t>& batch, std::size_t threads);
    std::vector<std::uint32_t> links_for(std::uint32_t slot,
                                         const std::vector<std::uint32_t>& batch) const;
    void add_link(std::uint32_t slot, std::uint32_t added, std::vector<std::uint32_t>& links) const;
    void add_entries(const std::vector<std::uint32_t>& slots);
    void add_mates(std::uint32_t row, const std::vector<std::uint32_t>& batch,
                   std::vector<std::uint32_t>& candidates) const;
    std::vector<std::uint32_t> pruned(std::uint32_t slot,
                                      std::vector<std::uint32_t> candidates) const;
    float between(std::uint32_t row, std::uint32_t other, std::int32_t product) const;
    std::uint32_t row_of(std::uint32_t slot) const {
        return row_of_slot_.empty() ? slot : row_of_slot_[slot];
    }
    std::uint32_t slot_of(std::uint32_t row) const {
        return slot_of_row_.empty() ? row : slot_of_row_[row];
    }
    SlotFilter filter(const Selection* selection) const;
    std::unique_ptr<Scratch> borrow() const;
    void give_back(std::unique_ptr<Scratch> scratch) const;

    Rows rows_;
    Keys keys_;
    std::optional<Projection> projection_;
    LineCodes lines_;
    Graph graph_;
    bool has_graph_ = false, has_line_codes_ = false;
    Array<std::uint32_t> row_of_slot_, slot_of_row_;  // empty: a row's slot is its number
    std::vector<FlatCodes> flat_;
    Bitmap deleted_;                        // rows
    std::vector<std::uint32_t> waiting_;    // slots that are not linked yet
    std::size_t marked_ = 0;                // deleted rows that still have a slot
    std::vector<std::uint32_t> free_rows_;  // no slot links to theirs
    Array<std::uint32_t> born_;  // of each row: the epoch in which it came in a deleted one's place
    std::atomic<std::size_t> live_{0};
    std::uint64_t epoch_ = 0;    // counts rows that came in a deleted one's place
    double longest_square_ = 0;  // inner product: what lifts are measured from

    mutable std::mutex gate_;
    mutable std::shared_mutex lock_;
    std::mutex writer_;  // one write at a time
    mutable std::mutex scratch_mutex_;
    mutable std::vector<std::unique_ptr<Scratch>> scratch_;
};

}  // namespace mrl
