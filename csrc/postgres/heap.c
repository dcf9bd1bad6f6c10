// The vector of a table's row, read in place.
//
// Whether a row is visible is asked by the executor, of the few that are returned. What orders the
// candidates is their distances, and a row's vector is the same for everybody: an index entry's
// row, or the last of its HOT chain. So it is copied out of the buffer where its page was last,
// with no pin, no lock and no look into the table of buffers; and as all candidates are known, the
// memory of the next ones is fetched meanwhile. A filter is asked of the copy, where the row's
// header says that the snapshot sees it: a filter may tell what it was asked of, or fail on it.
//
// What cannot be read so, or is not plain (compressed, updated in place, in a table without WAL or
// of another access method), is read through the table's access method.
#include "in_place.h"
#include "scan.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/memutils.h"

#define ROWS_AHEAD 4       // candidates whose rows are fetched, of those whose pages are
#define TOASTED_AHEAD 2    // the same of their toasted vectors
#define MOST_FETCHED 4096  // bytes of each
#define LINE_BYTES 64
#define MOST_PAGES (1 << 19)  // of a table that a backend remembers
#define LEAST_PAGES (1 << 8)
#define MOST_POINTERS ((BLCKSZ - SizeOfPageHeaderData) / sizeof(ItemIdData))

// Where a page of the table was last. Pages that share a place take turns.
static inline MrlHeapPage* place_of(const MrlIndex* index, BlockNumber block) {
    return &index->heap_pages[block & index->heap_mask];
}

static inline Buffer buffer_of(const MrlIndex* index, BlockNumber block) {
    if (index->heap_pages == NULL || place_of(index, block)->block != block) return InvalidBuffer;
    return place_of(index, block)->buffer;
}

// Memory of zeros that is had page by page, as it is written to. It is freed with the context.
void* mrl_alloc_zeros(MemoryContext context, Size bytes) {
    MemoryContextCallback* callback = MemoryContextAllocZero(context, sizeof *callback);
    void* memory = calloc(1, bytes);

    if (memory == NULL) ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    callback->func = free;
    callback->arg = memory;
    MemoryContextRegisterResetCallback(context, callback);
    return memory;
}

bool mrl_peeks_at_heap(IndexScanDesc desc, MrlIndex* index) {
    MrlScan* scan = desc->opaque;
    Relation heap = desc->heapRelation;

    if (!mrl_reads_in_place(heap) || !RelationNeedsWAL(heap) ||
        heap->rd_tableam != GetHeapamTableAmRoutine() || scan->info != NULL)
        return false;
    // A row that is read in place, and does not pass the filter, would be locked by nobody.
    if (IsolationIsSerializable()) return false;
    if (index->heap_pages == NULL) {
        uint32 pages = LEAST_PAGES;

        while (pages < MOST_PAGES && pages < index->meta.slots) pages *= 2;
        index->heap_pages = mrl_alloc_zeros(index->context, sizeof(MrlHeapPage) * (Size)pages);
        index->heap_mask = pages - 1;
    }
    if (scan->copy == NULL) scan->copy = MemoryContextAlloc(GetMemoryChunkContext(scan), BLCKSZ);
    if (scan->copied_row == NULL && mrl_note_filters(scan->note)) {
        MemoryContext before = MemoryContextSwitchTo(GetMemoryChunkContext(scan));

        scan->copied_row = MakeSingleTupleTableSlot(RelationGetDescr(heap), &TTSOpsHeapTuple);
        MemoryContextSwitchTo(before);
    }
    return true;
}

void mrl_remember_heap(IndexScanDesc desc, MrlIndex* index) {
    MrlScan* scan = desc->opaque;

    // The index may have been opened anew since the scan began.
    if (!scan->peeks || index->heap_pages == NULL || !TTS_IS_BUFFERTUPLE(scan->row)) return;
    *place_of(index, ItemPointerGetBlockNumber(&scan->row->tts_tid)) =
        (MrlHeapPage){ItemPointerGetBlockNumber(&scan->row->tts_tid),
                      ((BufferHeapTupleTableSlot*)scan->row)->buffer};
}

static void fetch_page(const char* page, Buffer buffer, OffsetNumber offset) {
    __builtin_prefetch(GetBufferDescriptor(buffer - 1));
    __builtin_prefetch(page);
    __builtin_prefetch(&((const PageHeaderData*)page)->pd_linp[offset]);
}

// Begins to fetch the page of a row that a walk has met.
void mrl_expect_row(const MrlIndex* index, const struct MrlTail* tail) {
    ItemPointerData tid;
    Buffer buffer;

    mrl_words_to_tid(tail->tid, &tid);
    buffer = buffer_of(index, ItemPointerGetBlockNumberNoCheck(&tid));
    if (buffer > 0)
        fetch_page(BufferGetPage(buffer), buffer,
                   Min(ItemPointerGetOffsetNumberNoCheck(&tid), MOST_POINTERS));
}

// The line pointer of a row, or of the row that it leads to. NULL where there cannot be one: the
// page may be any by now.
static inline const ItemIdData* pointer_of(const char* page, OffsetNumber offset) {
    const ItemIdData* pointers = ((const PageHeaderData*)page)->pd_linp;

    for (int step = 0; step < 2; ++step) {
        if (offset < FirstOffsetNumber || offset > MOST_POINTERS) return NULL;
        if (!ItemIdIsRedirected(&pointers[offset - 1])) return &pointers[offset - 1];
        offset = ItemIdGetRedirect(&pointers[offset - 1]);
    }
    return NULL;
}

// Copies a row into scan->copy. Returns how many bytes it has, 0 where there is none, -1 where the
// page cannot say it.
static int copy_row(MrlScan* scan, const char* page, OffsetNumber offset) {
    const ItemIdData* pointer = pointer_of(page, offset);
    ItemIdData item;

    if (pointer == NULL) return -1;
    item = *pointer;
    if (!ItemIdIsUsed(&item) || ItemIdIsDead(&item)) return 0;
    if (!ItemIdIsNormal(&item) || item.lp_off + item.lp_len > BLCKSZ ||
        item.lp_len < SizeofHeapTupleHeader)
        return -1;
    memcpy(scan->copy, page + item.lp_off, item.lp_len);
    return (int)item.lp_len;
}

// Whether a snapshot sees a row, by what the row's header alone says for sure.
static bool surely_sees(const Snapshot snapshot, const HeapTupleHeader row) {
    return (row->t_infomask & HEAP_XMAX_INVALID) != 0 &&
           (HeapTupleHeaderXminFrozen(row) ||
            (HeapTupleHeaderXminCommitted(row) &&
             TransactionIdPrecedes(HeapTupleHeaderGetRawXmin(row), snapshot->xmin)));
}

// Whether a copied row passes the plan's filter; MRL_UNSEEN where it may not be asked of it.
static MrlPeeked ask_filter(IndexScanDesc desc, HeapTuple row) {
    MrlScan* scan = desc->opaque;
    bool passes;

    if (!mrl_note_filters(scan->note)) return MRL_PEEKED;
    if (scan->copied_row == NULL || !surely_sees(desc->xs_snapshot, row->t_data)) return MRL_UNSEEN;
    passes =
        mrl_row_passes(scan->note, ExecStoreHeapTuple(row, scan->copied_row, false /* to free */));
    ExecClearTuple(scan->copied_row);
    return passes ? MRL_PEEKED : MRL_GONE;
}

// A row as it is now, in scan->copy. Returns MRL_UNSEEN where the page cannot say it.
static MrlPeeked copy_whole(IndexScanDesc desc, const MrlIndex* index, ItemPointer tid,
                            HeapTuple row) {
    MrlScan* scan = desc->opaque;
    const RelFileLocator* locator = &desc->heapRelation->rd_locator;
    const BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
    const Buffer buffer = buffer_of(index, block);
    XLogRecPtr lsn;
    int bytes;

    if (buffer <= 0 || !mrl_begin_quiet(locator, block, buffer, &lsn)) return MRL_UNSEEN;
    bytes = copy_row(scan, BufferGetPage(buffer), ItemPointerGetOffsetNumberNoCheck(tid));
    if (bytes < 0 || !mrl_was_quiet(locator, block, buffer, lsn)) return MRL_UNSEEN;
    if (bytes == 0) return MRL_GONE;
    *row = (HeapTupleData){(uint32)bytes, *tid, RelationGetRelid(desc->heapRelation),
                           (HeapTupleHeader)scan->copy};
    // What comes after it in its chain may have another vector, if the index is younger.
    return (row->t_data->t_infomask2 & HEAP_HOT_UPDATED) != 0 ? MRL_UNSEEN : MRL_PEEKED;
}

// Of a copied row the vector, which may be toasted.
static Datum vector_of(IndexScanDesc desc, HeapTuple row, bool* null) {
    return heap_getattr(row, desc->indexRelation->rd_index->indkey.values[0],
                        RelationGetDescr(desc->heapRelation), null);
}

// Begins to fetch a row whose page is on its way.
static void fetch_row(const MrlAhead* row) {
    const ItemIdData* pointer = row->page == NULL ? NULL : pointer_of(row->page, row->offset);
    const char* memory;

    if (pointer == NULL || !ItemIdIsNormal(pointer)) return;
    memory = row->page + ItemIdGetOffset(pointer);
    for (Size at = 0; at < Min(ItemIdGetLength(pointer), MOST_FETCHED); at += LINE_BYTES)
        __builtin_prefetch(memory + at);
}

// Begins to fetch the toasted vector of a row that is there by now.
static void fetch_toasted(IndexScanDesc desc, MrlIndex* index, const MrlAhead* row) {
    ItemPointerData tid;
    HeapTupleData copy;
    Datum value;
    bool null;

    if (row->page == NULL) return;
    mrl_words_to_tid(row->tail.tid, &tid);
    if (copy_whole(desc, index, &tid, &copy) != MRL_PEEKED) return;
    value = vector_of(desc, &copy, &null);
    if (!null && VARATT_IS_EXTERNAL(DatumGetPointer(value))) mrl_fetch_toasted(desc, index, value);
}

// Reads the tails of the next candidates that pass the filter, as far as the index knows, and
// begins to fetch the pages of their rows.
static void look_ahead(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    MrlIndex* index = mrl_scan_index(desc);
    const MrlHit* hits = &scan->hits[scan->next_hit];
    const size_t n = Min(MRL_AHEAD, scan->n_hits - scan->next_hit);

    scan->ahead_of = scan->next_hit;
    if (scan->filter != NULL && scan->allowed.words == NULL)
        for (size_t i = 0; i < n; ++i) mrl_expect_asked(scan->filter, index, hits[i].slot);
    for (size_t i = 0; i < n; ++i) scan->ahead[i].passes = mrl_may_pass(desc, hits[i].slot);
    index = mrl_scan_index(desc);  // whatever the filter did
    for (size_t i = 0; i < n; ++i) {
        MrlAhead* row = &scan->ahead[i];
        ItemPointerData tid;
        Buffer buffer;

        row->page = NULL;
        row->known =
            row->passes && mrl_peek_tail(desc->indexRelation, index, hits[i].slot, &row->tail);
        if (!row->known) continue;
        mrl_words_to_tid(row->tail.tid, &tid);
        buffer = buffer_of(index, ItemPointerGetBlockNumberNoCheck(&tid));
        if (buffer <= 0) continue;
        row->page = BufferGetPage(buffer);
        row->offset = Min(ItemPointerGetOffsetNumberNoCheck(&tid), MOST_POINTERS);
        fetch_page(row->page, buffer, row->offset);
    }
    for (size_t i = 0; i < Min(n, ROWS_AHEAD); ++i) fetch_row(&scan->ahead[i]);
}

// The tail of the next candidate, and what comes after it on its way to the caches. Returns false
// when it does not pass the filter, by what INCLUDE columns say.
bool mrl_next_tail(IndexScanDesc desc, struct MrlTail* tail) {
    MrlScan* scan = desc->opaque;
    size_t i;

    if (scan->peeks) {
        if (scan->next_hit == 0 || scan->next_hit >= scan->ahead_of + MRL_AHEAD) look_ahead(desc);
        i = scan->next_hit - scan->ahead_of;
        if (scan->next_hit + ROWS_AHEAD < scan->n_hits && i + ROWS_AHEAD < MRL_AHEAD)
            fetch_row(&scan->ahead[i + ROWS_AHEAD]);
        if (scan->peeks_toast && !mrl_note_filters(scan->note) &&
            scan->next_hit + TOASTED_AHEAD < scan->n_hits && i + TOASTED_AHEAD < MRL_AHEAD)
            fetch_toasted(desc, mrl_scan_index(desc), &scan->ahead[i + TOASTED_AHEAD]);
        if (scan->ahead[i].known) {
            *tail = scan->ahead[i].tail;
            return true;
        }
        if (!scan->ahead[i].passes) return false;
    } else if (!mrl_may_pass(desc, scan->hits[scan->next_hit].slot)) {
        return false;
    }
    mrl_read_tail(desc->indexRelation, mrl_scan_index(desc), scan->hits[scan->next_hit].slot, tail);
    return true;
}

// Pins the page of a row that is returned, where it was last: the executor's look at the row begins
// with the page that the scan's fetch has pinned, and asks the table of buffers for no other.
void mrl_pin_returned(IndexScanDesc desc, MrlIndex* index, ItemPointer tid) {
    IndexFetchHeapData* fetch = (IndexFetchHeapData*)desc->xs_heapfetch;
    const BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
    const Buffer buffer = buffer_of(index, block);

    if (fetch == NULL || buffer <= 0 || buffer == fetch->xs_cbuf ||
        !ReadRecentBuffer(desc->heapRelation->rd_locator, MAIN_FORKNUM, block, buffer))
        return;
    if (BufferIsValid(fetch->xs_cbuf)) ReleaseBuffer(fetch->xs_cbuf);
    fetch->xs_cbuf = buffer;
    heap_page_prune_opt(desc->heapRelation, buffer);
}

// Reads a candidate: its TID is row->tid.
MrlPeeked mrl_peek_row(IndexScanDesc desc, MrlIndex* index, Waiting* row) {
    MrlScan* scan = desc->opaque;
    HeapTupleData copy;
    MrlPeeked peeked = copy_whole(desc, index, &row->tid, &copy);
    struct varlena* vector;
    MemoryContext before;
    Datum value;
    bool null;

    if (peeked == MRL_PEEKED) peeked = ask_filter(desc, &copy);
    if (peeked != MRL_PEEKED) return peeked;
    index = mrl_scan_index(desc);  // whatever the filter did
    value = vector_of(desc, &copy, &null);
    if (null) return MRL_GONE;
    before = MemoryContextSwitchTo(scan->row_context);
    vector = VARATT_IS_EXTERNAL(DatumGetPointer(value)) ? mrl_peek_toasted(desc, index, value)
                                                        : PG_DETOAST_DATUM(value);
    // A row that nobody sees yet, in the place of one that is gone, may have any width.
    if (vector == NULL ||
        mrl_index_type(desc->indexRelation)->dims(vector) != (int)index->meta.dims)
        peeked = MRL_UNSEEN;
    else
        row->distance = DatumGetFloat8(FunctionCall2Coll(scan->distance, scan->collation,
                                                         PointerGetDatum(vector), scan->query));
    row->value = mrl_toasted_value(value);
    MemoryContextSwitchTo(before);
    MemoryContextReset(scan->row_context);
    return peeked;
}
