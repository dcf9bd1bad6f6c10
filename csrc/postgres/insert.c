// Writing: a new row is appended, and waits, in no graph yet; every search looks at those that
// wait, a line each.
//
// A row takes a slot that is free, or the next. One writer at a time holds the meta page. What a
// row changes (its code and tail, its line, its included values, the count of slots) is one WAL
// record, so that after a crash it is there whole or not at all; a page that is added is known to
// the directory before anything is put in it.
#include "included.h"

#include "access/generic_xlog.h"
#include "utils/memutils.h"

#define MOST_WAITING 1024  // rows; searches look at each of them

// Adds a page to a section, with what a page of no rows says. The meta page is locked by the
// caller.
static void add_page(Relation rel, Buffer meta_buffer, int section) {
    uint32 number = mrl_meta_of(BufferGetPage(meta_buffer))->pages[section],
           place = number % MRL_DIRECTORY;
    Buffer buffer = mrl_new_page(rel), chain, last = InvalidBuffer;
    BlockNumber block = BufferGetBlockNumber(buffer);
    GenericXLogState* log;
    struct MrlMeta* meta;
    Page page;

    chain = place == 0
                ? mrl_new_page(rel)
                : ReadBuffer(rel, mrl_meta_of(BufferGetPage(meta_buffer))->last_chain[section]);
    if (place != 0) LockBuffer(chain, BUFFER_LOCK_EXCLUSIVE);
    log = GenericXLogStart(rel);
    meta = mrl_meta_of(GenericXLogRegisterBuffer(log, meta_buffer, 0));
    page = GenericXLogRegisterBuffer(log, buffer, GENERIC_XLOG_FULL_IMAGE);
    mrl_init_page(page, section, number);
    memset((char*)page + MRL_PAGE_HEAD, section == MRL_LINKS ? 0xff : 0, MRL_PAGE_ROOM);
    page = GenericXLogRegisterBuffer(log, chain, place == 0 ? GENERIC_XLOG_FULL_IMAGE : 0);
    if (place == 0) {
        mrl_init_page(page, MRL_CHAIN, number / MRL_DIRECTORY);
        mrl_label(page)->of = (uint32)section;
        if (number == 0) {
            meta->first_chain[section] = BufferGetBlockNumber(chain);
        } else {
            last = ReadBuffer(rel, meta->last_chain[section]);
            LockBuffer(last, BUFFER_LOCK_EXCLUSIVE);
            mrl_label(GenericXLogRegisterBuffer(log, last, 0))->next = BufferGetBlockNumber(chain);
        }
        meta->last_chain[section] = BufferGetBlockNumber(chain);
    }
    ((uint32*)((char*)page + MRL_PAGE_HEAD))[place] = block;
    ++meta->pages[section];
    GenericXLogFinish(log);
    UnlockReleaseBuffer(buffer);
    UnlockReleaseBuffer(chain);
    if (last != InvalidBuffer) UnlockReleaseBuffer(last);
}

static void copy_meta(MrlIndex* index, Buffer meta_buffer) {
    const struct MrlMeta* meta = mrl_meta_of(BufferGetPage(meta_buffer));

    memcpy(&index->meta, meta, mrl_meta_bytes(meta));
}

// Puts a row behind the others, and links some of those that wait when they are many.
// item: of its INCLUDE columns, or NULL. How wide vectors are was settled when the index was made:
// its parameters, and the column's type, may have changed since.
void mrl_append(Relation rel, const float* vector, int dims, ItemPointer tid, const uint8* item) {
    MrlIndex* index = mrl_open(rel);
    struct MrlTail tail = {0};
    uint8 *code = palloc(index->meta.code_stride), line[MRL_ITEM_BYTES];
    Buffer meta_buffer, rows, lines, included = InvalidBuffer;
    GenericXLogState* log;
    struct MrlMeta* meta;
    struct MrlTail* row_tail;
    bool again;  // a slot that is used again
    uint32 slot, items = 0;
    MrlIncluded columns = {0};
    char* page;

    mrl_check_width((int)index->meta.dims, dims);
    meta_buffer = ReadBuffer(rel, 0);
    for (;;) {
        mrl_check_status(mrl_encode(index->reader, vector, code, line, &tail), "inserting");
        LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);
        if (mrl_meta_of(BufferGetPage(meta_buffer))->generation == index->meta.generation) break;
        LockBuffer(meta_buffer, BUFFER_LOCK_UNLOCK);  // by another projection by now
        index = mrl_open(rel);
    }
    copy_meta(index, meta_buffer);
    if (item != NULL) columns = mrl_included_of(rel);
    mrl_check_included(rel, index, columns.bytes);
    mrl_tid_to_words(tid, tail.tid);
    again = index->meta.first_free != 0 && index->meta.reused < MRL_MOST_REUSED;
    slot = again ? index->meta.first_free - 1 : index->meta.slots;
    if (slot == PG_UINT32_MAX - 1)
        ereport(ERROR, (errmsg("index \"%s\" is full", RelationGetRelationName(rel))));
    if (slot / index->meta.rows_per_page >= index->meta.pages[MRL_ROWS])
        add_page(rel, meta_buffer, MRL_ROWS);
    for (int section = MRL_LINKS; section <= MRL_LINES; ++section)
        if (slot / MRL_ITEMS >= index->meta.pages[section]) add_page(rel, meta_buffer, section);
    if (item != NULL) {
        items = mrl_items_per_page(index->meta.included_bytes);
        if (slot / items >= index->meta.pages[MRL_INCLUDED])
            add_page(rel, meta_buffer, MRL_INCLUDED);
    }
    copy_meta(index, meta_buffer);
    rows = mrl_pin_page(rel, index, MRL_ROWS, slot / index->meta.rows_per_page);
    lines = mrl_pin_page(rel, index, MRL_LINES, slot / MRL_ITEMS);
    if (item != NULL) included = mrl_pin_page(rel, index, MRL_INCLUDED, slot / items);
    LockBuffer(rows, BUFFER_LOCK_EXCLUSIVE);
    LockBuffer(lines, BUFFER_LOCK_EXCLUSIVE);
    if (item != NULL) LockBuffer(included, BUFFER_LOCK_EXCLUSIVE);
    log = GenericXLogStart(rel);
    page = (char*)GenericXLogRegisterBuffer(log, rows, 0);
    meta = mrl_meta_of(GenericXLogRegisterBuffer(log, meta_buffer, 0));
    row_tail = (struct MrlTail*)(page + mrl_tail_at(meta, slot % meta->rows_per_page));
    if (again) {
        meta->first_free = mrl_next_free(row_tail);
        --meta->free;
        meta->reused_slots[meta->reused++] = slot;
    } else {
        meta->slots = slot + 1;
    }
    memcpy(
        page + MRL_PAGE_HEAD + (Size)(slot % index->meta.rows_per_page) * index->meta.code_stride,
        code, index->meta.code_stride);
    *row_tail = tail;
    page = (char*)GenericXLogRegisterBuffer(log, lines, 0);
    memcpy(page + MRL_PAGE_HEAD + (Size)(slot % MRL_ITEMS) * MRL_ITEM_BYTES, line, sizeof line);
    if (item != NULL)
        mrl_put_item(&columns, (char*)GenericXLogRegisterBuffer(log, included, 0), slot % items,
                     item);
    index->meta.slots = meta->slots;
    index->meta.reused = meta->reused;
    GenericXLogFinish(log);
    UnlockReleaseBuffer(rows);
    UnlockReleaseBuffer(lines);
    if (item != NULL) UnlockReleaseBuffer(included);
    UnlockReleaseBuffer(meta_buffer);
    if (index->meta.linked != 0 && mrl_waiting(&index->meta) > MOST_WAITING)
        mrl_link_waiting(rel, MOST_WAITING / 2, false);
    else if (index->meta.slots % MRL_FIRST_FIT == 0 && mrl_refit_due(&index->meta, false))
        mrl_link_waiting(rel, MOST_WAITING / 2, false);
}

bool mrl_insert(Relation rel, Datum* values, bool* isnull, ItemPointer tid, Relation heap,
                IndexUniqueCheck unique, bool unchanged, IndexInfo* info) {
    const MrlType* type = mrl_index_type(rel);
    MemoryContext context, before;
    struct varlena* value;
    float* vector;

    if (isnull[0]) return false;
    context = AllocSetContextCreate(CurrentMemoryContext, "mrl insert", ALLOCSET_SMALL_SIZES);
    before = MemoryContextSwitchTo(context);
    value = PG_DETOAST_DATUM(values[0]);
    vector = palloc(sizeof(float) * type->dims(value));
    type->read(value, vector);
    if (type->metric != MRL_COSINE || mrl_has_direction(vector, type->dims(value)))
        mrl_append(rel, vector, type->dims(value), tid, mrl_form_item(rel, values, isnull));
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return false;
}
