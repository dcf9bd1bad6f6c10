// A scan: walks find candidates, the table has the last word.
//
// The index estimates distances; the vectors themselves are read from the table, and rows are
// returned in the order of their true distances: a row goes out when nothing that is still to be
// read can be nearer. The executor looks at each by its snapshot. So row-level security, deletions
// and old snapshots are PostgreSQL's business alone.
//
// The access method is not told how many rows will be asked for. When a walk's candidates are used
// up, and more are wanted, the next walk makes twice the effort; when walking would look at half of
// the index, all lines are looked at, and rows are visited in the order of what they say, up to
// mrl.max_scan_tuples; then all that is left is sorted by true distance. So no row that matches is
// ever missing. Rows that a later round finds may be nearer than rows that went out before;
// mrl.strict_order leaves them out. Where the plan says how many rows are asked for (limit.c), the
// first walk is wide enough for them, and no later round is needed.
#include "scan.h"

#include <math.h>

#include "access/relscan.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define LEAST_KEEP 20   // candidates of a walk
#define LINE_LAG 64     // rows that wait while lines alone order them: their estimates are coarse
#define LAG_SHARE 0.25  // of the rows read, too: the farther they are, the closer to each other
#define FEW_DIMS 16     // rows lie closer to each other there than their codes tell apart
#define FEW_DIMS_KEEP 256

// Candidates

static inline void set_met(MrlScan* scan, uint32 slot) {
    if (slot < scan->slots) scan->met[slot / 64] |= UINT64CONST(1) << (slot % 64);
}

// Remembers the candidates that were read, so that the next round does not return them again.
static void remember_hits(MrlScan* scan) {
    if (scan->met == NULL)
        scan->met =
            MemoryContextAllocExtended(scan->context, sizeof(uint64) * ((Size)scan->slots / 64 + 1),
                                       MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    for (size_t i = 0; i < scan->next_hit; ++i) set_met(scan, scan->hits[i].slot);
}

// Takes the hits of a search, without those of earlier rounds.
static void take_hits(MrlScan* scan, MrlIndex* index) {
    size_t n;
    const MrlHit* hits = mrl_search_hits(index->reader, &n);

    if (n > scan->most_hits) {
        if (scan->hits != NULL) pfree(scan->hits);
        scan->hits = MemoryContextAllocHuge(scan->context, sizeof(MrlHit) * n);
        scan->most_hits = n;
    }
    scan->all_seen = scan->phase == BY_WALK && mrl_scans_lines(scan) && n < scan->keep;
    scan->n_hits = scan->next_hit = 0;
    scan->read = scan->passed = 0;
    for (size_t i = 0; i < n; ++i)
        if (!was_met(scan, hits[i].slot)) scan->hits[scan->n_hits++] = hits[i];
    // By estimate they rise, but where lengths differ a later one may be nearer than one before it.
    for (size_t i = scan->n_hits; i > 1; --i)
        scan->hits[i - 2].nearest = Min(scan->hits[i - 2].nearest, scan->hits[i - 1].nearest);
}

// A walk, or a look at all lines where a walk would see half of them.
static void walk(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    // The first walk goes by what was opened just now.
    MrlIndex* index = scan->visited == 0 ? mrl_scan_index(desc) : mrl_scan_open(desc);
    size_t keep = index->meta.dims <= FEW_DIMS ? Max(scan->keep, FEW_DIMS_KEEP) : scan->keep;

    index = mrl_search(desc->indexRelation, index, scan->query_values,
                       (MrlSearch){.kind = mrl_scans_lines(scan) ? MRL_SCAN_CODES : MRL_WALK,
                                   .effort = scan->effort,
                                   .keep = keep,
                                   .k = Max(MRL_LEAST_K, scan->k),
                                   .allowed = scan->allowed});
    take_hits(scan, index);
}

static void scan_lines(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    MrlIndex* index = mrl_scan_open(desc);
    size_t left = Max(mrl_max_scan_tuples - scan->visited, 0);

    // What was met before may be among the best, and is taken out.
    index = mrl_search(desc->indexRelation, index, scan->query_values,
                       (MrlSearch){.kind = MRL_SCAN,
                                   .keep = (size_t)Min(scan->slots, left + scan->visited),
                                   .allowed = scan->allowed});
    take_hits(scan, index);
    scan->n_hits = Min(scan->n_hits, left);
}

// Where INCLUDE columns answer of the filter: all that pass are candidates, or those of a walk that
// keeps to them.
static void search_passing(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    uint32 *slots, n = 0;
    MrlIndex* index;

    if (scan->allowed.words == NULL) mrl_filter_first(desc);
    if (!mrl_scores_passing(scan)) {
        if (scan->phase == BY_LINES)
            scan_lines(desc);
        else
            walk(desc);
        return;
    }
    scan->phase = BY_FILTER;
    scan->n_hits = scan->next_hit = 0;
    if (scan->allowed.count == 0) return;
    slots = palloc(sizeof(uint32) * scan->allowed.count);
    for (uint32 i = 0; i <= (scan->allowed.slots - 1) / 64; ++i)
        for (uint64 word = scan->allowed.words[i]; word != 0; word &= word - 1)
            slots[n++] = i * 64 + (uint32)pg_rightmost_one_pos64(word);
    index = mrl_search(desc->indexRelation, mrl_scan_open(desc), scan->query_values,
                       (MrlSearch){.kind = MRL_SCORE, .keep = n, .slots = slots});
    pfree(slots);
    take_hits(scan, index);
}

// How many of the rows that pass wait while lines alone order them.
static double line_lag(const MrlScan* scan) {
    return (LINE_LAG + LAG_SHARE * scan->read) * (scan->passed + 1) / (scan->read + 1);
}

// Reads candidates until the nearest of those that wait is nearer than any that is still to be
// read. Returns whether one waits.
static bool read_candidates(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;

    while (scan->next_hit < scan->n_hits) {
        const MrlHit* hit = &scan->hits[scan->next_hit];
        struct MrlTail tail;
        Waiting row;

        if (scan->phase == BY_LINES
                ? scan->waiting.n > line_lag(scan)
                : scan->waiting.n > 0 && scan->waiting.rows[0].distance <= hit->nearest)
            break;
        CHECK_FOR_INTERRUPTS();
        ++scan->read;
        if (mrl_next_tail(desc, &tail) && mrl_read_row(desc, &tail, &row)) {
            ++scan->passed;
            waiting_push(&scan->waiting, scan->context, row);
        }
        ++scan->next_hit;
    }
    return scan->waiting.n > 0;
}

// The next round, when the candidates of the last one are used up. Returns false when there is
// none.
static bool next_round(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;

    switch (scan->phase) {
        case BY_WALK:
            remember_hits(scan);
            scan->effort *= 2;
            scan->keep *= 2;
            scan->share = Min(scan->share, (scan->passed + 1.0) / (scan->read + 1.0));
            if (mrl_filters_first(scan) || mrl_scores_passing(scan)) {
                search_passing(desc);
                return true;
            }
            if (scan->effort <= MRL_LONGEST_WALK && scan->keep <= MRL_MOST_CODES &&
                scan->visited < mrl_max_scan_tuples) {
                walk(desc);
                return true;
            }
            scan->phase = BY_LINES;
            scan_lines(desc);
            return true;
        case BY_LINES:
            remember_hits(scan);
            scan->phase = BY_DISTANCE;
            mrl_sort_rest(desc);
            return true;
        case BY_FILTER:
        case BY_DISTANCE:
        case ENDED:
            break;
    }
    scan->phase = ENDED;
    return false;
}

static void begin_search(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    Relation rel = desc->indexRelation;
    const MrlType* type = mrl_index_type(rel);
    MemoryContext before = MemoryContextSwitchTo(scan->context);
    struct varlena* query;
    float* values;

    if (desc->orderByData == NULL)
        elog(ERROR, "cannot scan index \"%s\" without order", RelationGetRelationName(rel));
    // A row that vacuum removes while its TID is in our hands is invisible to every MVCC snapshot,
    // and so is what takes its place.
    if (!IsMVCCSnapshot(desc->xs_snapshot))
        elog(ERROR, "non-MVCC snapshots are not supported by mrl indexes");
    mrl_check_age(rel, desc->xs_snapshot);
    if (scan->fetch == NULL) {
        MemoryContext outer = MemoryContextSwitchTo(GetMemoryChunkContext(scan));

        scan->fetch = table_index_fetch_begin(desc->heapRelation);
        scan->row = table_slot_create(desc->heapRelation, NULL);
        if (rel->rd_index->indkey.values[0] == 0) {
            scan->info = BuildIndexInfo(rel);
            scan->estate = CreateExecutorState();
        }
        MemoryContextSwitchTo(outer);
    }
    mrl_scan_open(desc);
    scan->note = mrl_note_of(desc);
    scan->filter = mrl_filter_of(scan->note, desc);
    if (scan->filter != NULL)
        mrl_check_included(rel, mrl_scan_index(desc), mrl_included_of(rel).bytes);
    scan->last = -get_float8_infinity();
    if ((desc->orderByData->sk_flags & SK_ISNULL) != 0) {
        scan->unordered = true;
    } else {
        query = PG_DETOAST_DATUM(desc->orderByData->sk_argument);
        scan->query = PointerGetDatum(query);
        values = palloc(sizeof(float) * type->dims(query));
        type->read(query, values);
        scan->query_values = values;
        mrl_check_width((int)mrl_scan_index(desc)->meta.dims, type->dims(query));
        scan->unordered =
            type->metric == MRL_COSINE && !mrl_has_direction(values, type->dims(query));
    }
    scan->peeks = !scan->unordered && mrl_peeks_at_heap(desc, mrl_scan_index(desc));
    scan->peeks_toast = scan->peeks && mrl_peeks_at_toast(desc, mrl_scan_index(desc));
    // Without a projection there is no estimate worth the name, and there are few rows.
    if (scan->unordered || mrl_scan_index(desc)->meta.fitted < MRL_LEAST_FITTED) {
        scan->phase = BY_DISTANCE;
        mrl_sort_rest(desc);
    } else {
        mrl_widen_first_walk(desc);
        if (mrl_filters_first(scan))
            search_passing(desc);
        else if (scan->phase == BY_LINES)
            scan_lines(desc);
        else
            walk(desc);
    }
    MemoryContextSwitchTo(before);
}

// Whether as many rows went out as a walk of this effort finds surely: the nearer half of its
// candidates, fewer where many of them are gone or do not pass the filter.
static bool walked_out(const MrlScan* scan) {
    double share = scan->read < 8 ? 1 : (double)scan->passed / scan->read;

    return scan->phase == BY_WALK && !scan->all_seen &&
           scan->returned >= scan->sound * share * scan->keep;
}

// What is known of the keys of a row that goes out: the first, and of others a bound.
static void put_order(IndexScanDesc desc, double distance) {
    const MrlScan* scan = desc->opaque;
    const double least = -get_float8_infinity();

    for (int i = 0; i < desc->numberOfOrderBys; ++i)
        desc->xs_orderbyvals[i] = Float8GetDatum(i == 0 && !scan->unordered ? distance : least);
}

bool mrl_gettuple(IndexScanDesc desc, ScanDirection direction) {
    MrlScan* scan = desc->opaque;

    Assert(ScanDirectionIsForward(direction));
    if (!scan->started) begin_search(desc);
    desc->xs_recheck = false;
    // By a second key the executor sorts those that are as near.
    desc->xs_recheckorderby = desc->numberOfOrderBys > 1;
    for (;;) {
        if (scan->phase == ENDED) return false;
        if (scan->phase == BY_DISTANCE) {
            if (!mrl_next_sorted(scan, &scan->row_out)) {
                scan->phase = ENDED;
                return false;
            }
        } else if (read_candidates(desc) && !walked_out(scan)) {
            scan->row_out = waiting_pop(&scan->waiting);
        } else {
            next_round(desc);
            continue;
        }
        if (scan->row_out.distance < scan->last && mrl_strict_order) continue;
        scan->last = Max(scan->last, scan->row_out.distance);
        ++scan->returned;
        desc->xs_heaptid = scan->row_out.tid;
        if (desc->xs_recheckorderby) put_order(desc, scan->row_out.distance);
        if (scan->peeks) mrl_pin_returned(desc, mrl_scan_index(desc), &desc->xs_heaptid);
        return true;
    }
}

IndexScanDesc mrl_beginscan(Relation index, int nkeys, int norderbys) {
    IndexScanDesc desc = RelationGetIndexScan(index, nkeys, norderbys);
    MrlScan* scan = palloc0(sizeof *scan);

    scan->context = AllocSetContextCreate(CurrentMemoryContext, "mrl scan", ALLOCSET_DEFAULT_SIZES);
    scan->row_context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl row", ALLOCSET_SMALL_SIZES);
    scan->distance = index_getprocinfo(index, 1, MRL_DISTANCE_PROC);
    scan->collation = index->rd_indcollation[0];
    desc->opaque = scan;
    if (norderbys > 1) {
        desc->xs_orderbyvals = palloc0(sizeof(Datum) * (Size)norderbys);
        desc->xs_orderbynulls = palloc0(sizeof(bool) * (Size)norderbys);
    }
    return desc;
}

void mrl_rescan(IndexScanDesc desc, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys) {
    MrlScan* scan = desc->opaque;
    MrlScan kept = {.context = scan->context,
                    .row_context = scan->row_context,
                    .distance = scan->distance,
                    .collation = scan->collation,
                    .fetch = scan->fetch,
                    .row = scan->row,
                    .copy = scan->copy,
                    .copied_row = scan->copied_row,
                    .info = scan->info,
                    .estate = scan->estate};

    if (scan->sorted != NULL) ExecDropSingleTupleTableSlot(scan->sorted);
    if (scan->sort != NULL) tuplesort_end(scan->sort);
    if (scan->fetch != NULL) table_index_fetch_reset(scan->fetch);
    *scan = kept;
    MemoryContextReset(scan->context);
    if (keys != NULL && desc->numberOfKeys > 0)
        memmove(desc->keyData, keys, desc->numberOfKeys * sizeof(ScanKeyData));
    if (orderbys != NULL && desc->numberOfOrderBys > 0)
        memmove(desc->orderByData, orderbys, desc->numberOfOrderBys * sizeof(ScanKeyData));
}

void mrl_endscan(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;

    mrl_scan_ends(desc);
    if (scan->sorted != NULL) ExecDropSingleTupleTableSlot(scan->sorted);
    if (scan->sort != NULL) tuplesort_end(scan->sort);
    if (scan->fetch != NULL) table_index_fetch_end(scan->fetch);
    if (scan->row != NULL) ExecDropSingleTupleTableSlot(scan->row);
    if (scan->copied_row != NULL) ExecDropSingleTupleTableSlot(scan->copied_row);
    if (scan->estate != NULL) FreeExecutorState(scan->estate);
    MemoryContextDelete(scan->row_context);
    MemoryContextDelete(scan->context);
    if (scan->copy != NULL) pfree(scan->copy);
    pfree(scan);
    desc->opaque = NULL;
}
