// Toasted vectors, read in place like the rows that they are of (heap.c).
//
// A value is some chunks, each a row of the TOAST table that says whose it is and which. Where they
// are is remembered when they are read through their index; a chunk that lies there still, on a
// quiet page, needs neither index nor pin. What is remembered is a hint: the chunk itself says
// whether it is the right one, and a value is never changed, only deleted as a whole.
#include "in_place.h"
#include "scan.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define LEAST_CHUNKS (1 << 8)
#define MOST_CHUNKS (1 << 18)  // that a backend remembers
#define CHUNKS_A_ROW 2         // of memory for them: vectors of 500 to 1,000 dims have so many
#define LINE_BYTES 64

// The columns of a TOAST table, of which none is NULL: the two numbers, the bytes.
typedef struct ChunkRow {
    Oid value;
    int32 number;
    char bytes[FLEXIBLE_ARRAY_MEMBER];  // a varlena
} ChunkRow;

static inline MrlChunk* place_of(const MrlIndex* index, Oid value, int32 number) {
    return &index->chunks[(value * CHUNKS_A_ROW + (uint32)number) & index->chunk_mask];
}

static inline int chunks_of(const struct varatt_external* pointer) {
    return (int)((VARATT_EXTERNAL_GET_EXTSIZE(*pointer) - 1) / TOAST_MAX_CHUNK_SIZE) + 1;
}

static inline bool is_at(const MrlChunk* place, Oid value, int32 number) {
    return place->value == value && place->number == number && place->buffer > 0;
}

// The number of a value in its TOAST table, or InvalidOid.
Oid mrl_toasted_value(Datum vector) {
    struct varatt_external pointer;

    if (!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(vector))) return InvalidOid;
    VARATT_EXTERNAL_GET_POINTER(pointer, DatumGetPointer(vector));
    return pointer.va_valueid;
}

// Whether values of a table may be read in place.
bool mrl_peeks_at_toast(IndexScanDesc desc, MrlIndex* index) {
    if (!OidIsValid(desc->heapRelation->rd_rel->reltoastrelid)) return false;
    if (index->chunks == NULL) {
        uint32 chunks = LEAST_CHUNKS;

        while (chunks < MOST_CHUNKS && chunks / CHUNKS_A_ROW < index->meta.slots) chunks *= 2;
        index->chunks = mrl_alloc_zeros(index->context, sizeof(MrlChunk) * (Size)chunks);
        index->chunk_mask = chunks - 1;
    }
    return true;
}

// The pointer of a value that is stored as chunks, as it is. Returns false for any other.
static bool is_plain(Datum value, struct varatt_external* pointer) {
    if (!VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value))) return false;
    VARATT_EXTERNAL_GET_POINTER(*pointer, DatumGetPointer(value));
    return !VARATT_EXTERNAL_IS_COMPRESSED(*pointer);
}

// Whether a value may be read in place: a search that meets one asks where its TOAST table is.
static bool is_peeked_at(IndexScanDesc desc, const MrlIndex* index, Datum value,
                         struct varatt_external* pointer) {
    MrlScan* scan = desc->opaque;

    if (!scan->peeks_toast || index->chunks == NULL || !is_plain(value, pointer)) return false;
    if (!scan->has_toast) {
        Relation rel = table_open(desc->heapRelation->rd_rel->reltoastrelid, AccessShareLock);

        scan->toast = rel->rd_locator;
        scan->has_toast = true;
        table_close(rel, AccessShareLock);
    }
    return true;
}

static struct varlena* new_value(const struct varatt_external* pointer) {
    struct varlena* value = palloc(VARATT_EXTERNAL_GET_EXTSIZE(*pointer) + VARHDRSZ);

    SET_VARSIZE(value, VARATT_EXTERNAL_GET_EXTSIZE(*pointer) + VARHDRSZ);
    return value;
}

// The bytes of a chunk of a value: their number where `row` is it, else -1.
static inline int32 bytes_of(const ChunkRow* row, Size room, Oid value, int32 number,
                             int32 expected) {
    return row->value == value && row->number == number && VARATT_IS_4B_U(row->bytes) &&
                   VARSIZE_4B(row->bytes) == (Size)expected + VARHDRSZ &&
                   room >= offsetof(ChunkRow, bytes) + VARHDRSZ + expected
               ? expected
               : -1;
}

static inline int32 expected_bytes(const struct varatt_external* pointer, int32 number) {
    return Min((int32)TOAST_MAX_CHUNK_SIZE,
               (int32)VARATT_EXTERNAL_GET_EXTSIZE(*pointer) - number * (int32)TOAST_MAX_CHUNK_SIZE);
}

// A row of a page that may be any by now. Returns NULL where there cannot be one.
static const ChunkRow* row_at(const char* page, OffsetNumber offset, Size* room) {
    const ItemIdData item = ((const PageHeaderData*)page)->pd_linp[offset - 1];
    const HeapTupleHeaderData* row = (const HeapTupleHeaderData*)(page + item.lp_off);
    const Size head = MAXALIGN(SizeofHeapTupleHeader);

    if (!ItemIdIsNormal(&item) || item.lp_off + item.lp_len > BLCKSZ ||
        item.lp_len < head + offsetof(ChunkRow, bytes) + VARHDRSZ || row->t_hoff != head)
        return NULL;
    *room = item.lp_len - head;
    return (const ChunkRow*)((const char*)row + head);
}

static bool copy_chunk(const MrlScan* scan, const MrlChunk* place,
                       const struct varatt_external* pointer, int32 number, char* to) {
    const int32 expected = expected_bytes(pointer, number);
    const ChunkRow* row;
    XLogRecPtr lsn;
    Size room = 0;

    if (!is_at(place, pointer->va_valueid, number) ||
        !mrl_begin_quiet(&scan->toast, place->block, place->buffer, &lsn))
        return false;
    row = row_at(BufferGetPage(place->buffer), place->offset, &room);
    if (row == NULL || bytes_of(row, room, pointer->va_valueid, number, expected) < 0) return false;
    memcpy(to, row->bytes + VARHDRSZ, expected);
    return mrl_was_quiet(&scan->toast, place->block, place->buffer, lsn);
}

// The value of a toasted vector, or NULL where it cannot be read in place.
struct varlena* mrl_peek_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted) {
    const MrlScan* scan = desc->opaque;
    struct varatt_external pointer;
    struct varlena* value;

    if (!is_peeked_at(desc, index, toasted, &pointer)) return NULL;
    value = new_value(&pointer);
    for (int32 number = 0; number < chunks_of(&pointer); ++number)
        if (!copy_chunk(scan, place_of(index, pointer.va_valueid, number), &pointer, number,
                        VARDATA(value) + (Size)number * TOAST_MAX_CHUNK_SIZE))
            return NULL;
    return value;
}

// Begins to fetch the chunks of a vector into the caches.
void mrl_fetch_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted) {
    struct varatt_external pointer;

    if (!is_peeked_at(desc, index, toasted, &pointer)) return;
    for (int32 number = 0; number < chunks_of(&pointer); ++number) {
        const MrlChunk* place = place_of(index, pointer.va_valueid, number);
        const ChunkRow* row;
        Size room = 0;

        if (!is_at(place, pointer.va_valueid, number)) continue;
        row = row_at(BufferGetPage(place->buffer), place->offset, &room);
        for (Size at = 0; row != NULL && at < room; at += LINE_BYTES)
            __builtin_prefetch((const char*)row + at);
    }
}

static Snapshot snapshot_of_toast(SnapshotData* kept) {
#if PG_VERSION_NUM >= 180000
    return get_toast_snapshot();
#else
    init_toast_snapshot(kept);
    return kept;
#endif
}

// Reads the chunks through their index, and remembers where they are. Returns how many there were.
static int read_chunks(MrlIndex* index, Relation rel, const struct varatt_external* pointer,
                       struct varlena* value) {
    Relation* indexes;
    SnapshotData kept;
    ScanKeyData key;
    SysScanDesc chunks;
    HeapTuple row;
    int count, valid = toast_open_indexes(rel, AccessShareLock, &indexes, &count), read = 0;

    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pointer->va_valueid));
    chunks = systable_beginscan_ordered(rel, indexes[valid], snapshot_of_toast(&kept), 1, &key);
    while ((row = systable_getnext_ordered(chunks, ForwardScanDirection)) != NULL) {
        const ChunkRow* chunk = (const ChunkRow*)((char*)row->t_data + row->t_data->t_hoff);
        const BlockNumber block = ItemPointerGetBlockNumber(&row->t_self);
        int32 bytes;

        if (read >= chunks_of(pointer)) break;
        bytes = bytes_of(chunk, row->t_len - row->t_data->t_hoff, pointer->va_valueid, read,
                         expected_bytes(pointer, read));
        if (bytes < 0) break;
        memcpy(VARDATA(value) + (Size)read * TOAST_MAX_CHUNK_SIZE, chunk->bytes + VARHDRSZ, bytes);
        *place_of(index, pointer->va_valueid, read) =
            (MrlChunk){pointer->va_valueid, read, block,
                       PrefetchBuffer(rel, MAIN_FORKNUM, block).recent_buffer,
                       ItemPointerGetOffsetNumber(&row->t_self)};
        ++read;
    }
    systable_endscan_ordered(chunks);
    toast_close_indexes(indexes, count, AccessShareLock);
    return read;
}

// The same value through the TOAST table's index, so that it is read in place the next time. NULL
// where that is another's business: what is not toasted, or not plain, or not whole.
struct varlena* mrl_read_toasted(IndexScanDesc desc, MrlIndex* index, Datum toasted) {
    struct varatt_external pointer;
    struct varlena* value;
    Relation rel;
    int read;

    if (!is_peeked_at(desc, index, toasted, &pointer)) return NULL;
    value = new_value(&pointer);
    rel = table_open(pointer.va_toastrelid, AccessShareLock);
    read = read_chunks(index, rel, &pointer, value);
    table_close(rel, AccessShareLock);
    return read == chunks_of(&pointer) ? value : NULL;
}
