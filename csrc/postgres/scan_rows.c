// Rows of the table for a scan: the distance of one, and all that are left, sorted.
#include "scan.h"

#include "catalog/index.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

MrlIndex* mrl_scan_open(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    MrlIndex* index = mrl_open(desc->indexRelation);

    scan->index = index;
    scan->opened = mrl_opens;
    if (!scan->started) {
        scan->slots = index->meta.slots;
        scan->generation = index->meta.generation;
        scan->started = true;
    }
    return index;
}

// The same, as it was when it was opened last: its rows do not move while the scan holds its lock.
// Whatever a filter or a distance runs may have opened indexes meanwhile.
MrlIndex* mrl_scan_index(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;

    return scan->index != NULL && scan->opened == mrl_opens ? scan->index : mrl_scan_open(desc);
}

// The vector of the row that is in scan->row.
static Datum read_value(IndexScanDesc desc, bool* null) {
    MrlScan* scan = desc->opaque;
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];

    if (scan->info == NULL)
        return slot_getattr(scan->row, desc->indexRelation->rd_index->indkey.values[0], null);
    ResetPerTupleExprContext(scan->estate);
    GetPerTupleExprContext(scan->estate)->ecxt_scantuple = scan->row;
    FormIndexDatum(scan->info, scan->row, scan->estate, values, nulls);
    *null = nulls[0];
    return values[0];
}

// Whether a slot's row may pass the filter, by what INCLUDE columns say.
bool mrl_may_pass(IndexScanDesc desc, uint32 slot) {
    MrlScan* scan = desc->opaque;

    if (scan->filter == NULL) return true;
    if (scan->allowed.words == NULL) {
        if (mrl_slot_may_pass(scan->filter, desc->indexRelation, mrl_scan_index(desc), slot))
            return true;
        mrl_count_filtered(scan->filter, 1);
        return false;
    }
    return slot < scan->allowed.slots && (scan->allowed.words[slot / 64] >> (slot % 64) & 1) != 0;
}

// The row with this tail. Returns false when the scan's snapshot surely sees none, or when it does
// not pass the plan's filter. The executor looks at what is returned by the snapshot itself.
bool mrl_read_row(IndexScanDesc desc, const struct MrlTail* tail, Waiting* row) {
    MrlScan* scan = desc->opaque;
    ItemPointerData version;
    bool again = false, null;
    MemoryContext before;
    Datum value;

    if ((tail->flags & (MRL_ROW_DEAD | MRL_ROW_FREE)) != 0) return false;
    mrl_words_to_tid(tail->tid, &row->tid);
    version = row->tid;
    ++scan->visited;
    if (scan->peeks) {
        MrlPeeked peeked = mrl_peek_row(desc, mrl_scan_index(desc), row);

        if (peeked != MRL_UNSEEN) return peeked == MRL_PEEKED;
    }
    if (!table_index_fetch_tuple(scan->fetch, &version, desc->xs_snapshot, scan->row, &again, NULL))
        return false;
    mrl_remember_heap(desc, mrl_scan_index(desc));
    if (!mrl_row_passes(scan->note, scan->row)) return false;
    before = MemoryContextSwitchTo(scan->row_context);
    value = read_value(desc, &null);
    row->value = null ? InvalidOid : mrl_toasted_value(value);
    if (!null && scan->peeks_toast && VARATT_IS_EXTERNAL(DatumGetPointer(value))) {
        struct varlena* vector = mrl_read_toasted(desc, mrl_scan_index(desc), value);

        if (vector != NULL) value = PointerGetDatum(vector);
    }
    row->distance = null || scan->unordered
                        ? 0
                        : DatumGetFloat8(FunctionCall2Coll(scan->distance, scan->collation, value,
                                                           scan->query));
    MemoryContextSwitchTo(before);
    MemoryContextReset(scan->row_context);
    return !null;
}

// All rows that were no candidates, sorted by distance.
void mrl_sort_rest(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    uint32 slots = mrl_scan_open(desc)->meta.slots;
    AttrNumber keys[] = {1};
    Oid operators[] = {Float8LessOperator};
    Oid collations[] = {InvalidOid};
    bool nulls_first[] = {false};
    MemoryContext before = MemoryContextSwitchTo(scan->context);
    TupleDesc columns = CreateTemplateTupleDesc(2);
    TupleTableSlot* in;

    TupleDescInitEntry(columns, 1, "distance", FLOAT8OID, -1, 0);
    TupleDescInitEntry(columns, 2, "row", TIDOID, -1, 0);
    scan->sort = tuplesort_begin_heap(columns, 1, keys, operators, collations, nulls_first,
                                      work_mem, NULL, TUPLESORT_NONE);
    scan->sorted = MakeSingleTupleTableSlot(columns, &TTSOpsMinimalTuple);
    in = MakeSingleTupleTableSlot(columns, &TTSOpsVirtual);
    for (uint32 slot = 0; slot < slots; ++slot) {
        struct MrlTail tail;
        Waiting row;

        CHECK_FOR_INTERRUPTS();
        if (was_met(scan, slot) || !mrl_may_pass(desc, slot)) continue;
        mrl_read_tail(desc->indexRelation, mrl_scan_index(desc), slot, &tail);
        if (!mrl_read_row(desc, &tail, &row)) continue;
        ExecClearTuple(in);
        in->tts_values[0] = Float8GetDatum(row.distance);
        in->tts_values[1] = PointerGetDatum(&row.tid);
        in->tts_isnull[0] = in->tts_isnull[1] = false;
        ExecStoreVirtualTuple(in);
        tuplesort_puttupleslot(scan->sort, in);
    }
    tuplesort_performsort(scan->sort);
    MemoryContextSwitchTo(before);
}

bool mrl_next_sorted(MrlScan* scan, Waiting* row) {
    bool null;

    if (!tuplesort_gettupleslot(scan->sort, true, false, scan->sorted, NULL)) return false;
    row->distance = DatumGetFloat8(slot_getattr(scan->sorted, 1, &null));
    row->tid = *(ItemPointer)DatumGetPointer(slot_getattr(scan->sorted, 2, &null));
    row->value = InvalidOid;
    return true;
}
