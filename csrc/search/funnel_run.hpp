// One thread's run of a plan over some queries: its stages are in funnel_stages.cpp, what becomes
// of the last in funnel_hits.cpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "funnel.hpp"
#include "scan.hpp"
#include "stage_codes.hpp"
#include "turn.hpp"

namespace mrl {

class FunnelRun {
  public:
    FunnelRun(const Store& store, const CheckedPlan& plan, const SearchRequest& request,
              Scratch& scratch, FairLock& lock)
        : turn_(lock),
          store_(store),
          plan_(plan),
          request_(request),
          scratch_(scratch),
          query_(scratch.query),
          candidates_(scratch.candidates),
          filter_(store.filter(request.selection)),
          began_(std::chrono::steady_clock::now()) {}

    void run(std::size_t number, const float* query, const TakeHits& take);
    // The first stage of some queries at once.
    void run_tiles(std::size_t first, std::size_t n, const float* queries, const TakeHits& take);

    StageCounts counts{};

  private:
    const std::vector<Stage>& stages() const { return plan_.stages(); }
    const RowFilter* filter() const { return filtered_ ? &filter_ : nullptr; }
    void cut(std::size_t keep) { keep_best(kernels_, candidates_, keep); }
    void to_rows() {
        for (Candidate& candidate : candidates_) candidate.row = store_.row_of(candidate.row);
    }

    // What there is when a scan begins. Rows that come later are not of it: searches hold up all
    // changes but that.
    struct Look {
        std::size_t given;
        std::size_t rows;
        std::uint64_t epoch;
    };

    Look look();
    Look looked() const { return {turn_.given(), rows_, store_.epoch}; }  // as it was then
    // The rows that came since, in numbers or in slots.
    const std::vector<std::uint32_t>& rows_since(const Look& then, bool by_slot);
    bool is_gone(std::uint32_t row, const Look& then) const;
    // Makes the candidates of a scan that gave way those of a scan of the rows as they are now:
    // what a row was is what it is, until it is deleted.
    void catch_up(const StageCodes& codes, const Look& then);
    void count(std::size_t stage, std::size_t rows_in, std::size_t rows_out);

    void first_stage();
    // The only stage: it ends the search by itself, with true distances.
    void list_allowed();
    bool few_allowed() const;
    // Fills the candidates; returns how many rows were read.
    std::size_t shortlist(std::size_t keep);
    std::size_t walk(std::size_t keep);
    // Scores of all rows by the first stage, of which those stay that it cannot tell from the k-th
    // best.
    std::size_t scan_crowd();
    // The difference of two scores of a stage, near this one, that says nothing; 0 where that is
    // not known.
    float resolution(std::size_t number, float score) const;
    // The slots that no link leads to yet, beside what a walk met: by what it was scored by.
    void scan_waiting(bool by_both_planes, std::size_t keep);
    std::size_t scan_selection(const Selection& selection, std::size_t keep);
    std::size_t scan_all(std::size_t keep);
    void scan_codes(Scanned scanned, Scanned others, std::size_t keep, const RowFilter* filter);
    void later_stage(std::size_t number);
    // A stage and the one after it wait for memory and for little else: the vectors of those that
    // will likely be left are on their way while codes are compared.
    void fetch_ahead(std::size_t keep);
    // Scores what is left, slots where the codes go by slot.
    void score(const StageCodes& codes);

    // Notes that a stage has left out rows that its codes say are farther than the candidates.
    void leave_out(const StageCodes& codes);
    // Whether no row that was left out can be nearer than the last hit.
    bool is_proven() const;

    void finish_query(std::size_t number, const TakeHits& take);
    // The true distances of what is left, best first, ties by key; NaN last, as PostgreSQL sorts
    // it.
    void finish(std::size_t keep);
    // Adds rows to the hits, with their distances.
    void measure(const std::vector<std::uint32_t>& rows);

    Turn turn_;
    const Store& store_;
    const CheckedPlan& plan_;
    const SearchRequest& request_;
    Scratch& scratch_;
    StageQuery& query_;
    std::vector<Candidate>& candidates_;
    const Kernels& kernels_ = kernels();
    RowFilter filter_;
    bool looked_ = false;
    bool filtered_ = false;    // by a selection, by deletions or by a hidden row
    std::size_t allowed_ = 0;  // rows, about, that may be in an answer
    std::size_t rows_ = 0;     // that there were at the last look
    std::size_t waiting_ = 0;
    std::size_t wider_ = 1;  // times the plan's hops and rows kept (crowd.hpp)
    // What the codes of rows say at least of all that was left out, as a score; -infinity: of some
    // of it they say nothing.
    float left_out_ = kInfinity;
    std::chrono::steady_clock::time_point began_;
};

}  // namespace mrl
