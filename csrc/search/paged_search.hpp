// A search over an index that lies in pages (page_format.h), as steps: what it needs next is asked
// of a host, in batches, and where the host must do something that a C++ frame may not live through
// (reading a page may end in a longjmp), the step returns and is taken up again. The same code runs
// over memory in tests and over PostgreSQL's buffers.
//
// The walk is that of walk.hpp: the same pops in the same order, over links and lines that are
// read in place. What was read counts only once the host has said that the pages had not moved
// meanwhile; else the batch is read again, as copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/line_codes.hpp"
#include "../store/projection.hpp"
#include "../store/rows.hpp"
#include "crowd.hpp"
#include "page_format.h"
#include "page_host.h"
#include "walk.hpp"

namespace mrl {

// The slots that a filter lets through: a bit for each of the first `slots`. Without words all are.
struct AllowedSlots {
    const std::uint64_t* words = nullptr;
    std::uint32_t slots = 0;
    std::uint32_t count = 0;  // bits that are set

    bool all() const { return words == nullptr; }
    bool allows(std::uint32_t slot) const {
        return all() || (slot < slots && (words[slot / 64] >> (slot % 64) & 1) != 0);
    }
    // Of n <= 64 slots from `first` on: a bit for each.
    std::uint64_t of(std::uint32_t first, std::uint32_t n) const {
        const std::uint64_t asked = ~std::uint64_t{0} >> (64 - n);
        if (all()) return asked;
        const std::uint32_t word = first / 64, shift = first % 64;
        std::uint64_t bits = first < slots ? words[word] >> shift : 0;
        if (shift != 0 && first + 64 - shift < slots) bits |= words[word + 1] << (64 - shift);
        if (first + n > slots)
            bits &= first < slots ? ~std::uint64_t{0} >> (64 - (slots - first)) : 0;
        return bits & asked;
    }
};

struct PagedOptions {
    std::size_t effort;  // hops
    std::size_t keep;    // candidates that come out; more where codes cannot tell them apart
    std::size_t k;       // a walk ends when a candidate is far behind the k-th best
    AllowedSlots allowed = {};
};

constexpr std::size_t kGathered = kGatherHops + kGatherPool;

struct PagedHit {
    std::uint32_t slot;
    float score;  // Rows' score, by the int8 code; by the lines in a scan
    float scale;  // of the code
    float square;
};

// paused: so much was looked at that the caller may want to stop.
enum class Step { done, pages, paused };

class PagedSearch {
  public:
    // What is kept of an index beside its pages, as long as the search lasts.
    struct Source {
        const MrlMeta& meta;
        const Rows& rows;  // none: for the metric and the dims
        const Projection& projection;
        const LineCodes& lines;  // none: for the unit and the spread
        const Entries& entries;
    };

    // Begins a search for `query` (dims floats, kept by the caller until it is done).
    void begin(const Source& source, const MrlPageHost& host, const float* query,
               const PagedOptions& options);
    // Begins a walk for links: hits are what it met, by slot, neither scored nor with their rows.
    void begin_gather(const Source& source, const MrlPageHost& host, const float* query);
    // Begins a look at the lines of all slots: the best `options.keep` by both planes; or these and
    // whatever lines cannot tell from the k-th best, scored by their codes then.
    void begin_scan(const Source& source, const MrlPageHost& host, const float* query,
                    const PagedOptions& options, bool codes);
    // Begins to score n slots by their codes, each of them.
    void begin_score(const Source& source, const MrlPageHost& host, const float* query,
                     const std::uint32_t* slots, std::size_t n);
    // Writes entries that are near the query, those that a walk would begin at, and returns how
    // many; at most kMostEntered.
    static constexpr std::size_t kMostEntered = walk_rule::kEntryPool + kPoolTies;
    std::size_t entries_near(const Source& source, const float* query, std::uint32_t* slots);
    Step step();
    const MrlPageRequest& request() const { return request_; }
    // The copies that were asked for have been made.
    void copied() { copied_ = true; }
    // The pages do not stay where they are found: this request is for copies.
    void ask_for_copies() { must_copy_ = true; }

    const std::vector<PagedHit>& hits() const { return hits_; }  // best first
    const RowQuery& query() const { return row_query_; }
    std::size_t scored() const { return scored_before_ + walk_.scored; }
    // The slots whose links were followed, in order; of a walk for links all that it met.
    const std::vector<std::uint32_t>& popped() const { return walk_.popped; }

  private:
    static constexpr std::uint32_t kBatch = 8 * kDegree;  // lines asked for at once
    static constexpr std::uint32_t kRowBatch = 32;        // rows
    static constexpr std::uint32_t kScanned =
        kBatch / MRL_ITEMS * MRL_ITEMS;              // of lines, end to end …
    static constexpr std::uint32_t kScanPages = 32;  // … of so many pages, where few are allowed
    static constexpr std::uint32_t kPause = 16;      // batches of a scan or of rows: some .1 ms
    // Under a filter: the allowed slots that a pop is to meet, and for them the slots at most whose
    // links are followed though they are not allowed, so many at once.
    static constexpr std::uint32_t kMeetsAllowed = 31, kMostThrough = kDegree, kThroughAtOnce = 8;
    enum class State { pop, links, through, lines, tail, both, rows, scan, done };

    // What a damaged page says may be no number, and what is sorted must be.
    static float sortable(float score) { return score == score ? score : kInfinity; }
    void prepare(const Source& source, const MrlPageHost& host, const float* query,
                 const PagedOptions& options);
    // Slots that no walk comes to yet: those that are used again, then those behind the graph's.
    std::uint32_t waiting() const { return meta_->reused + meta_->slots - meta_->linked; }
    void pop();
    void next_tail();
    void begin_walk();
    bool enter_allowed();
    void end_walk();
    // Cuts what a walk kept; walks again, wider, or looks at all slots where its lines cannot tell
    // it apart (crowd.hpp).
    void end_shortlist();
    float resolution(float score) const;
    crowd::Next next_look() const;
    // A look at all slots, of which those stay that lines cannot tell from the k-th best.
    void begin_crowd();
    void next_both();
    void next_rows();
    void next_scan();
    void ask(int section, std::uint32_t n, std::uint32_t bytes);
    void ask_items(int section, const std::uint32_t* slots, std::uint32_t n);
    bool answered();
    bool still_true();
    void look_ahead(const std::uint32_t* best, std::size_t first, std::size_t end);
    const std::uint8_t* at(std::uint32_t i) const;
    void score_lines(std::uint32_t n, bool both, float* scores);
    void use_links();
    void next_through();
    void use_through();
    void ask_for_met();
    void use_lines();
    void use_both();
    void use_rows();
    void use_scan();
    void cut_scan();
    bool far_behind(float key) const;
    void cut_candidates(std::size_t keep);
    void end_without_rows();
    void finish();

    const Source* source_ = nullptr;
    const MrlMeta* meta_ = nullptr;
    MrlPageHost host_{};
    PagedOptions options_{};
    const Kernels* kernels_ = nullptr;
    RowQuery row_query_{};
    LineQuery line_query_{};
    Walk walk_;
    LineLengths lengths_;
    std::size_t effort_ = 0, keep_ = 0;  // of this walk: `wider_` times the options'
    std::size_t pool_keep_ = 0, hops_ = 0;
    float margin_ = 0;
    std::size_t wider_ = 1;
    bool refine_ = false, gathers_ = false, codes_ = false, crowd_ = false;
    float worst_ = 0;       // that a candidate of a scan may be
    std::size_t full_ = 0;  // candidates of a scan, at which they are cut
    std::uint32_t batches_ = 0;
    std::size_t scored_before_ = 0;  // by the walks before this one
    State state_ = State::done;

    MrlPageRequest request_{};
    bool copied_ = false;     // the request was answered with copies
    bool must_copy_ = false;  // pages moved while they were read
    std::uint32_t pages_[kBatch], offsets_[kBatch], frames_[kBatch];
    std::vector<std::uint8_t> copies_;

    std::uint32_t popped_[kBatch / kDegree], met_[kBatch + 16];
    alignas(64) std::uint32_t links_[kBatch];
    std::uint32_t through_[kBatch], n_through_ = 0, next_through_ = 0;  // not allowed, met anew
    std::uint32_t followed_[kThroughAtOnce], n_followed_ = 0, all_followed_ = 0;  // of these
    std::uint32_t n_popped_ = 0, n_met_ = 0;
    std::uint32_t scanned_[kScanned], n_scanned_ = 0;  // slots
    std::uint32_t next_ =
        0;  // of what is looked at from end to end: the tail, candidates, all slots
    std::vector<Candidate> candidates_;
    std::vector<PagedHit> hits_;
};

}  // namespace mrl
