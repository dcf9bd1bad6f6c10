// What the files of a scan share.
#pragma once

#include "filter.h"
#include "waiting.h"

#include "access/relscan.h"
#include "utils/tuplesort.h"

typedef enum { BY_FILTER, BY_WALK, BY_LINES, BY_DISTANCE, ENDED } Phase;

// A candidate that comes soon.
#define MRL_AHEAD 16
#define MRL_MOST_CODES 8192    // candidates of any round but the last
#define MRL_LONGEST_WALK 4096  // hops
#define MRL_LEAST_K 10         // answers that a walk ends behind
typedef struct MrlAhead {
    struct MrlTail tail;
    bool known;        // the tail
    const char* page;  // of the table, or NULL
    OffsetNumber offset;
    bool passes;  // the filter, by what INCLUDE columns say
} MrlAhead;

typedef struct MrlScan {
    MemoryContext context;  // of one rescan
    MrlIndex* index;        // as long as `opened` is the count of mrl_opens
    uint64 opened;
    const MrlNote* note;  // what the plan says of it, or NULL
    MrlFilter* filter;    // what INCLUDE columns answer of its filter, or NULL
    MrlAllowed allowed;   // the slots that it lets through, when all have been asked
    FmgrInfo* distance;
    Oid collation;
    Datum query;
    const float* query_values;
    Phase phase;
    bool started;
    bool unordered;  // every distance is NULL or NaN
    uint32 slots;    // of the index, when the scan began
    uint32 generation;
    size_t effort, keep;
    size_t k;      // answers that a walk ends behind, or 0: few
    double share;  // of the rows that pass the plan's filter
    double sound;  // share of a walk's candidates that it finds surely
    int64 visited;
    int64 returned;
    bool all_seen;        // every slot is a candidate
    uint32 read, passed;  // in this round
    double last;          // distance that went out

    MrlHit* hits;  // candidates, by estimate
    size_t n_hits, next_hit;
    size_t most_hits;
    uint64* met;  // a bit for each slot that was a candidate before; NULL in the first round

    WaitingRows waiting;  // read, not yet returned
    Waiting row_out;      // the one that was returned last

    bool peeks;       // vectors are read in place where that can be (heap.c)
    size_t ahead_of;  // the hit that ahead[0] is of
    MrlAhead ahead[MRL_AHEAD];
    char* copy;                  // of a row
    TupleTableSlot* copied_row;  // the same for the plan's filter
    bool peeks_toast;            // toasted vectors are read in place, too (toast.c)
    bool has_toast;              // the next is what it is
    RelFileLocator toast;        // where they are

    Tuplesortstate* sort;
    TupleTableSlot* sorted;

    MemoryContext row_context;  // of one row's reading
    IndexFetchTableData* fetch;
    TupleTableSlot* row;
    IndexInfo* info;  // of an expression index
    EState* estate;
} MrlScan;

static inline bool was_met(const MrlScan* scan, uint32 slot) {
    return scan->met != NULL && slot < scan->slots &&
           (scan->met[slot / 64] >> (slot % 64) & 1) != 0;
}

// limit.c
MrlFilter* mrl_filter_of(const MrlNote* note, IndexScanDesc desc);
double mrl_share_of(const MrlNote* note, double slots);
double mrl_rows_asked_for(const MrlNote* note, double slots, double share, double* most);
IndexScanDesc mrl_scan_that_returned(Oid toast, Oid value);
void mrl_scan_ends(IndexScanDesc desc);

// volatile.c
bool mrl_is_volatile(Node* condition, const EState* state);

// width.c
void mrl_widen_first_walk(IndexScanDesc desc);
bool mrl_filters_first(const MrlScan* scan);
void mrl_filter_first(IndexScanDesc desc);
bool mrl_scans_lines(const MrlScan* scan);
bool mrl_scores_passing(const MrlScan* scan);

// heap.c
typedef enum { MRL_PEEKED, MRL_GONE, MRL_UNSEEN } MrlPeeked;
bool mrl_peeks_at_heap(IndexScanDesc desc, MrlIndex* index);
void mrl_remember_heap(IndexScanDesc desc, MrlIndex* index);
bool mrl_next_tail(IndexScanDesc desc, struct MrlTail* tail);
MrlPeeked mrl_peek_row(IndexScanDesc desc, MrlIndex* index, Waiting* row);
void mrl_pin_returned(IndexScanDesc desc, MrlIndex* index, ItemPointer tid);

// toast.c
Oid mrl_toasted_value(Datum vector);
bool mrl_peeks_at_toast(IndexScanDesc desc, MrlIndex* index);
struct varlena* mrl_peek_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted);
void mrl_fetch_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted);
struct varlena* mrl_read_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted);

// scan_rows.c
MrlIndex* mrl_scan_open(IndexScanDesc desc);
MrlIndex* mrl_scan_index(IndexScanDesc desc);
bool mrl_may_pass(IndexScanDesc desc, uint32 slot);
bool mrl_read_row(IndexScanDesc desc, const struct MrlTail* tail, Waiting* row);
void mrl_sort_rest(IndexScanDesc desc);
bool mrl_next_sorted(MrlScan* scan, Waiting* row);
