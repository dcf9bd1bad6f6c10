// mrl_check_index(): whether an index is what it should be. Writers wait meanwhile.
//
// Every page has its label and belongs to one thing; every link and every entry leads to a slot
// that has a row; free slots are a list of their own; each row of the table stands in the index
// once. The first thing that is wrong is an ERROR. What a crash may leave, and VACUUM takes away,
// is a WARNING: pages that belong to nothing, and counts that are behind.
#include "included.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct Placed {
    ItemPointerData tid;
    uint32 slot;
} Placed;

typedef struct Checking {
    Relation rel;
    MrlIndex* index;  // as long as `opened` is the count of mrl_opens
    uint64 opened;
    uint8* flags;  // of each slot
    uint32* next;  // of each free slot
    Placed* rows;  // those that live, by their TIDs then
    uint32 live, dead, free;
    float* vector;
    MrlIncluded included;
    uint8* item;
} Checking;

#define DAMAGED(checking, ...)                                                           \
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),                                    \
                    errmsg("index \"%s\": %s", RelationGetRelationName((checking)->rel), \
                           psprintf(__VA_ARGS__)),                                       \
                    errhint("REINDEX it.")))

static int compare_rows(const void* a, const void* b) {
    return ItemPointerCompare((ItemPointer) & ((const Placed*)a)->tid,
                              (ItemPointer) & ((const Placed*)b)->tid);
}

static void check_meta(const Checking* checking) {
    const struct MrlMeta* meta = &checking->index->meta;
    uint32 bytes = checking->included.bytes;
    uint32 each[MRL_SECTIONS] = {MRL_ITEMS, MRL_ITEMS, meta->rows_per_page,
                                 bytes == 0 ? 0 : mrl_items_per_page(bytes)};

    if (meta->linked > meta->slots || meta->reused > MRL_MOST_REUSED ||
        (meta->first_free == 0) != (meta->free == 0))
        DAMAGED(checking, "%u slots, %u linked, %u used again, %u free do not go together",
                meta->slots, meta->linked, meta->reused, meta->free);
    mrl_check_included(checking->rel, checking->index, bytes);
    for (int section = 0; section < (bytes == 0 ? MRL_INCLUDED : MRL_SECTIONS); ++section)
        if ((uint64)meta->pages[section] * each[section] < meta->slots)
            DAMAGED(checking, "section %d has %u pages for %u slots", section, meta->pages[section],
                    meta->slots);
}

static void check_pages(const Checking* checking) {
    MrlPageSet set;
    uint32 lost;

    if (!mrl_find_used_pages(checking->rel, &set))
        DAMAGED(checking, "block %u is used twice or is not in the file", set.wrong);
    lost = mrl_count_lost_pages(checking->rel, &set);
    if (lost != 0)
        ereport(WARNING, (errmsg("index \"%s\": %u pages belong to nothing",
                                 RelationGetRelationName(checking->rel), lost),
                          errhint("VACUUM makes them free.")));
    pfree(set.bits);
}

// Reads every row's tail.
static void read_rows(Checking* checking) {
    MrlIndex* index = checking->index;
    uint32 each = index->meta.rows_per_page, slots = index->meta.slots;

    checking->flags = MemoryContextAllocHuge(CurrentMemoryContext, (Size)slots + 1);
    checking->next =
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * ((Size)slots + 1));
    checking->rows =
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Placed) * ((Size)slots + 1));
    for (uint32 first = 0; first < slots; first += each) {
        Buffer buffer;

        CHECK_FOR_INTERRUPTS();
        buffer = mrl_lock_page(checking->rel, index, MRL_ROWS, first / each);
        for (uint32 slot = first; slot < Min(slots, first + each); ++slot) {
            struct MrlTail tail;

            memcpy(&tail, (char*)BufferGetPage(buffer) + mrl_tail_at(&index->meta, slot - first),
                   sizeof tail);
            checking->flags[slot] = (uint8)tail.flags;
            checking->next[slot] = mrl_next_free(&tail);
            if ((tail.flags & MRL_ROW_FREE) != 0) {
                ++checking->free;
            } else if ((tail.flags & MRL_ROW_DEAD) != 0) {
                ++checking->dead;
            } else {
                Placed* row = &checking->rows[checking->live];

                row->slot = slot;
                mrl_words_to_tid(tail.tid, &row->tid);
                if (!ItemPointerIsValid(&row->tid)) DAMAGED(checking, "slot %u has no row", slot);
                ++checking->live;
            }
        }
        UnlockReleaseBuffer(buffer);
    }
    qsort(checking->rows, checking->live, sizeof(Placed), compare_rows);
    for (uint32 i = 1; i < checking->live; ++i)
        if (compare_rows(&checking->rows[i - 1], &checking->rows[i]) == 0)
            DAMAGED(checking, "row (%u,%u) stands in it twice",
                    ItemPointerGetBlockNumber(&checking->rows[i].tid),
                    ItemPointerGetOffsetNumber(&checking->rows[i].tid));
}

#define SEEN 0x80  // beside a row's flags

// Free slots and those that are used again.
static void check_slots(const Checking* checking) {
    const struct MrlMeta* meta = &checking->index->meta;
    uint32 free = 0;

    for (uint32 at = meta->first_free; at != 0; at = checking->next[at - 1], ++free) {
        if (at > meta->slots || (checking->flags[at - 1] & MRL_ROW_FREE) == 0 ||
            (checking->flags[at - 1] & SEEN) != 0)
            DAMAGED(checking, "slot %u is wrongly in the list of free slots", at - 1);
        checking->flags[at - 1] |= SEEN;
    }
    if (free != meta->free)
        DAMAGED(checking, "%u slots are in the list of free slots, which counts %u", free,
                meta->free);
    for (uint32 i = 0; i < meta->reused; ++i) {
        uint32 slot = meta->reused_slots[i];

        if (slot >= meta->slots || (checking->flags[slot] & (MRL_ROW_FREE | SEEN)) != 0)
            DAMAGED(checking, "slot %u is wrongly among those that are used again", slot);
        checking->flags[slot] |= SEEN;
    }
    if (checking->dead != meta->dead)
        ereport(WARNING,
                (errmsg("index \"%s\": %u rows are dead, and it counts %u",
                        RelationGetRelationName(checking->rel), checking->dead, meta->dead),
                 errhint("VACUUM counts them again.")));
}

static void check_link(const Checking* checking, uint32 slot, uint32 to) {
    const struct MrlMeta* meta = &checking->index->meta;

    if (to >= meta->slots || to == slot)
        DAMAGED(checking, "slot %u links to %u, of %u slots", slot, to, meta->slots);
    if ((checking->flags[to] & MRL_ROW_FREE) != 0)
        DAMAGED(checking, "slot %u links to slot %u, which is free", slot, to);
}

static void check_links(const Checking* checking) {
    MrlIndex* index = checking->index;

    for (uint32 first = 0; first < index->meta.slots; first += MRL_ITEMS) {
        Buffer buffer = mrl_lock_page(checking->rel, index, MRL_LINKS, first / MRL_ITEMS);
        const uint32* links = (const uint32*)((char*)BufferGetPage(buffer) + MRL_PAGE_HEAD);
        uint32 end = Min(index->meta.linked, first + MRL_ITEMS);

        CHECK_FOR_INTERRUPTS();
        for (uint32 slot = first; slot < end; ++slot, links += MRL_ITEM_BYTES / sizeof(uint32)) {
            // Links of slots that are in no graph mean nothing yet.
            if ((checking->flags[slot] & (MRL_ROW_FREE | SEEN)) != 0) continue;
            for (uint32 e = 0; e < MRL_ITEM_BYTES / sizeof(uint32) && links[e] != PG_UINT32_MAX;
                 ++e) {
                check_link(checking, slot, links[e]);
                for (uint32 before = 0; before < e; ++before)
                    if (links[before] == links[e])
                        DAMAGED(checking, "slot %u links to slot %u twice", slot, links[e]);
            }
        }
        UnlockReleaseBuffer(buffer);
        // Lines can be anything: they are looked at for their pages.
        UnlockReleaseBuffer(mrl_lock_page(checking->rel, index, MRL_LINES, first / MRL_ITEMS));
    }
}

static void check_entries(const Checking* checking) {
    size_t n;
    const uint32_t* slots = mrl_reader_entries(checking->index->reader, &n);

    // One whose rows had all gone when its graph was made has slots, and nothing to walk to.
    if (n == 0 && checking->index->meta.fitted >= MRL_LEAST_FITTED)
        DAMAGED(checking, "no walk begins anywhere");
    for (size_t i = 0; i < n; ++i)
        if (slots[i] >= checking->index->meta.linked ||
            (checking->flags[slots[i]] & MRL_ROW_FREE) != 0)
            DAMAGED(checking, "entry %zu is slot %u, which is in no graph", i, slots[i]);
}

// Whether the item of a row says what the table does.
static void check_item(Checking* checking, const Placed* row, const Datum* values,
                       const bool* isnull) {
    uint8* should = mrl_form_item(checking->rel, values, isnull);

    if (should == NULL) return;
    if (checking->opened != mrl_opens) {  // by an expression of this index or its predicate
        checking->index = mrl_open(checking->rel);
        checking->opened = mrl_opens;
    }
    mrl_read_item(checking->rel, checking->index, &checking->included.pieces, row->slot,
                  checking->item);
    if (memcmp(should, checking->item, checking->index->meta.included_bytes) != 0)
        DAMAGED(checking, "the included columns of slot %u are not those of row (%u,%u)", row->slot,
                ItemPointerGetBlockNumber(&row->tid), ItemPointerGetOffsetNumber(&row->tid));
    pfree(should);
}

// A row of the table.
static void find_row(Relation rel, ItemPointer tid, Datum* values, bool* isnull, bool alive,
                     void* state) {
    Checking* checking = state;
    const MrlType* type = mrl_index_type(rel);
    const Placed key = {.tid = *tid}, *row;
    struct varlena* value;
    bool indexed;

    if (isnull[0]) return;
    value = PG_DETOAST_DATUM(values[0]);
    type->read(value, checking->vector);
    indexed = type->metric != MRL_COSINE || mrl_has_direction(checking->vector, type->dims(value));
    if ((Pointer)value != DatumGetPointer(values[0])) pfree(value);
    if (!indexed) return;
    row = bsearch(&key, checking->rows, checking->live, sizeof key, compare_rows);
    if (row == NULL)
        DAMAGED(checking, "row (%u,%u) of table \"%s\" is not in it",
                ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid),
                get_rel_name(rel->rd_index->indrelid));
    check_item(checking, row, values, isnull);
}

static void check_heap(Checking* checking, Relation heap) {
    Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
    IndexInfo* info = BuildIndexInfo(checking->rel);
    TableScanDesc scan = table_beginscan_strat(heap, snapshot, 0, NULL, true, true);

    if (checking->rel->rd_index->indcheckxmin &&
        !TransactionIdPrecedes(HeapTupleHeaderGetXmin(checking->rel->rd_indextuple->t_data),
                               snapshot->xmin))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("index \"%s\" cannot be compared with its table by this snapshot",
                               RelationGetRelationName(checking->rel))));
    info->ii_Concurrent = true;  // by the scan's snapshot
    info->ii_Unique = false;
    info->ii_ExclusionOps = NULL;
    checking->vector = palloc(sizeof(float) * MRL_MOST_DIMS);
    checking->item = palloc0(Max(checking->index->meta.included_bytes, 1));
    table_index_build_scan(heap, checking->rel, info, true, false, find_row, checking, scan);
    UnregisterSnapshot(snapshot);
}

// Opens what a user names as an index of kind mrl; NULL where it went meanwhile, as one that is
// replaced does between its name and its number.
Relation mrl_open_named(Oid oid, LOCKMODE lock) {
    Relation rel = try_relation_open(oid, lock);

    if (rel == NULL) return NULL;
    if (rel->rd_rel->relkind != RELKIND_INDEX || rel->rd_indam->amgettuple != mrl_gettuple)
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                 errmsg("\"%s\" is not an index of kind mrl", RelationGetRelationName(rel))));
    if (RELATION_IS_OTHER_TEMP(rel))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("\"%s\" is a temporary index of another session",
                               RelationGetRelationName(rel))));
    return rel;
}

static void check_owner(Oid oid) {
#if PG_VERSION_NUM >= 160000
    bool owner = object_ownercheck(RelationRelationId, oid, GetUserId());
#else
    bool owner = pg_class_ownercheck(oid, GetUserId());
#endif

    if (!owner) aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, get_rel_name(oid));
}

static Checking check(Relation rel, Relation heap, bool with_heap) {
    Checking checking = {.rel = rel, .index = mrl_open(rel), .included = mrl_included_of(rel)};

    checking.opened = mrl_opens;

    check_meta(&checking);
    check_pages(&checking);
    read_rows(&checking);
    check_slots(&checking);
    check_links(&checking);
    check_entries(&checking);
    if (with_heap) check_heap(&checking, heap);
    return checking;
}

// Returns the number of rows that live in the index.
PG_FUNCTION_INFO_V1(mrl_check_index);
Datum mrl_check_index(PG_FUNCTION_ARGS) {
    Oid oid = PG_GETARG_OID(0), user, owner;
    // A standby has no writers but the recovery, and no such locks.
    LOCKMODE lock = RecoveryInProgress() ? AccessShareLock : ShareLock;
    Relation heap, rel;
    int context, nest;
    int64 live;

    if (get_rel_relkind(oid) != RELKIND_INDEX)
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("relation %u is not an index", oid)));
    check_owner(oid);
    heap = table_open(IndexGetRelation(oid, false), lock);
    rel = mrl_open_named(oid, lock);
    if (rel == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("index %u is gone", oid)));
    // Expressions and predicates are the owner's code.
    owner = heap->rd_rel->relowner;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION);
    nest = NewGUCNestLevel();
    live = check(rel, heap, PG_GETARG_BOOL(1)).live;
    AtEOXact_GUC(false, nest);
    SetUserIdAndSecContext(user, context);
    index_close(rel, lock);
    table_close(heap, lock);
    PG_RETURN_INT64(live);
}

// What an index says of itself.
PG_FUNCTION_INFO_V1(mrl_index_info);
Datum mrl_index_info(PG_FUNCTION_ARGS) {
    Relation rel = mrl_open_named(PG_GETARG_OID(0), AccessShareLock);
    MrlIndex* index;
    const struct MrlMeta* meta;
    TupleDesc columns;
    const MrlChosen* chosen;
    Datum values[14];
    bool nulls[14] = {false};
    size_t entries;
    int n = 0;

    if (rel == NULL) PG_RETURN_NULL();
    index = mrl_open(rel);
    meta = &index->meta;
    chosen = mrl_reader_chosen(index->reader);
    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "mrl_index_info returns a row");
    mrl_reader_entries(index->reader, &entries);
    values[n++] = Int64GetDatum(mrl_live(meta));
    values[n++] = Int64GetDatum(meta->dead);
    values[n++] = Int64GetDatum(mrl_waiting(meta));
    values[n++] = Int64GetDatum(meta->free);
    values[n++] = Int64GetDatum((int64)RelationGetNumberOfBlocks(rel) * BLCKSZ);
    values[n++] = Int32GetDatum((int32)meta->dims);
    values[n++] = Int32GetDatum((int32)(meta->prefix != 0 ? meta->prefix : meta->dims));
    values[n++] = Int64GetDatum((int64)entries);
    values[n++] = Int64GetDatum(meta->generation);
    values[n++] = Int64GetDatum(meta->fitted);
    values[n++] = Int32GetDatum((int32)mrl_effort_of(rel, index));
    values[n++] = Int32GetDatum((int32)mrl_default_effort(index));
    nulls[n] = nulls[n + 1] = chosen->queries == 0;
    values[n++] = Float8GetDatum(chosen->recall);
    values[n++] = Int32GetDatum((int32)chosen->queries);
    index_close(rel, AccessShareLock);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls)));
}
