// Linking: rows that wait are taken into the graph, a batch at a time, by whoever finds many of
// them.
//
// Links to a batch's rows are written before the count of linked slots says that they are in the
// graph, and a search follows no link to a slot beyond that count. So a crash in between leaves
// links that nobody follows, and the next linker, who begins with the same rows, finds them made.
#include "mrl.h"

#include "access/generic_xlog.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#define BATCH 256      // rows linked together
#define MANY 4096      // rows that wait: more come only as fast as they are linked
#define AT_ONCE 2048   // rows that one insert links, at most, of what waited behind a VACUUM
#define LINKER_PAGE 1  // an insert holds its lock while it links; page 0's keeps out other linkers

static void free_linker(void* linker) { mrl_link_free(linker); }

static MrlLinker* begin_linker(MrlIndex* index) {
    MemoryContextCallback* callback = palloc0(sizeof *callback);
    MrlLinker* linker;

    mrl_check_status(mrl_link_begin(index->reader, &index->meta, &linker), "linking rows");
    callback->func = free_linker;
    callback->arg = linker;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return linker;
}

// Walks to the place of a row that waits.
static void walk_to(Relation rel, MrlIndex* index, MrlLinker* linker, uint32 slot) {
    uint32 each = index->meta.rows_per_page, stride = index->meta.code_stride;
    Buffer buffer = mrl_lock_page(rel, index, MRL_ROWS, slot / each);
    const uint8* page = (const uint8*)BufferGetPage(buffer);
    float* vector = palloc(sizeof(float) * index->meta.dims);
    struct MrlTail tail;

    memcpy(&tail, page + mrl_tail_at(&index->meta, slot % each), sizeof tail);
    mrl_decode(index->reader, page + MRL_PAGE_HEAD + (Size)(slot % each) * stride, &tail, vector);
    UnlockReleaseBuffer(buffer);
    mrl_search(rel, index, vector, (MrlSearch){.kind = MRL_GATHER});
    mrl_check_status(mrl_link_add(linker, slot, index->reader), "linking rows");
    pfree(vector);
}

// Calls `take` with the items of slots, which rise: each page is locked once.
static void read_items(Relation rel, MrlIndex* index, MrlLinker* linker, int section,
                       const uint32* slots, size_t n) {
    Buffer buffer = InvalidBuffer;
    MrlStatus status = MRL_DONE;

    for (size_t i = 0; i < n; ++i) {
        const uint8* item;

        if (i == 0 || slots[i] / MRL_ITEMS != slots[i - 1] / MRL_ITEMS) {
            if (buffer != InvalidBuffer) UnlockReleaseBuffer(buffer);
            CHECK_FOR_INTERRUPTS();
            buffer = mrl_lock_page(rel, index, section, slots[i] / MRL_ITEMS);
        }
        item = (const uint8*)BufferGetPage(buffer) + MRL_PAGE_HEAD +
               (Size)(slots[i] % MRL_ITEMS) * MRL_ITEM_BYTES;
        if (section == MRL_LINES) {
            mrl_link_give_line(linker, slots[i], item);
        } else if (status == MRL_DONE) {
            status = mrl_link_give_links(linker, slots[i], (const uint32*)item);
        }
    }
    if (buffer != InvalidBuffer) UnlockReleaseBuffer(buffer);
    mrl_check_status(status, "linking rows");
}

static void read_missing_lines(Relation rel, MrlIndex* index, MrlLinker* linker) {
    const uint32* slots;
    size_t n;

    mrl_check_status(mrl_link_missing(linker, &slots, &n), "linking rows");
    read_items(rel, index, linker, MRL_LINES, slots, n);
}

// Writes the links that changed, a WAL record for each page.
static void write_links(Relation rel, MrlIndex* index, const MrlLinker* linker, size_t changes) {
    for (size_t i = 0; i < changes;) {
        uint32 slot, number;
        const uint32* links = mrl_link_change(linker, i, &slot);
        Buffer buffer = mrl_pin_page(rel, index, MRL_LINKS, slot / MRL_ITEMS);
        GenericXLogState* log;
        Page page;

        CHECK_FOR_INTERRUPTS();
        LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
        log = GenericXLogStart(rel);
        page = GenericXLogRegisterBuffer(log, buffer, 0);
        for (number = slot / MRL_ITEMS; slot / MRL_ITEMS == number;) {
            memcpy((char*)page + MRL_PAGE_HEAD + (Size)(slot % MRL_ITEMS) * MRL_ITEM_BYTES, links,
                   MRL_ITEM_BYTES);
            if (++i == changes) break;
            links = mrl_link_change(linker, i, &slot);
        }
        GenericXLogFinish(log);
        UnlockReleaseBuffer(buffer);
    }
}

// Says that rows are in the graph; some of them are entries of walks from now on.
static void set_linked(Relation rel, const MrlIndex* index, uint32 linked, uint32 reused) {
    uint32 first = index->meta.linked, batch = reused + linked - first, entries[BATCH];
    uint32 due = (uint32)Min(batch, mrl_reader_entries_due(index->reader, mrl_live(&index->meta)));
    MrlMetaChange change = mrl_begin_meta_change(rel);
    MrlEntryPages pages;

    for (uint32 i = 0; i < due; ++i) {
        uint32 row = i * batch / due;

        entries[i] = row < reused ? change.meta->reused_slots[row] : first + row - reused;
    }
    pages = mrl_append_entries(rel, &change, entries, due);
    change.meta->reused -= reused;
    memmove(change.meta->reused_slots, change.meta->reused_slots + reused,
            sizeof(uint32) * change.meta->reused);
    change.meta->linked = linked;
    change.meta->added += batch;
    mrl_end_meta_change(&change);
    mrl_end_entries(&pages);
}

static void link_batch(Relation rel, MrlIndex* index) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl linking", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    uint32 reused = Min(index->meta.reused, BATCH), first = index->meta.linked,
           end = Min(index->meta.slots, first + BATCH - reused);
    MrlLinker* linker = begin_linker(index);
    const uint32* targets;
    size_t n;

    for (uint32 i = 0; i < reused; ++i) walk_to(rel, index, linker, index->meta.reused_slots[i]);
    for (uint32 slot = first; slot < end; ++slot) walk_to(rel, index, linker, slot);
    read_missing_lines(rel, index, linker);
    mrl_check_status(mrl_link_prune(linker, &targets, &n), "linking rows");
    read_items(rel, index, linker, MRL_LINKS, targets, n);
    read_missing_lines(rel, index, linker);
    mrl_check_status(mrl_link_end(linker, &n), "linking rows");
    write_links(rel, index, linker, n);
    set_linked(rel, index, end, reused);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}

// Links what waits beyond so many rows, but not what comes meanwhile, which may be without end;
// fits the projection again first, where that is due. An insert leaves it to another backend that
// does so already; it waits for another insert where rows come faster than that one links them.
void mrl_link_waiting(Relation rel, uint32 most, bool vacuum) {
    int workers =
        vacuum && MyBackendType != B_AUTOVAC_WORKER ? max_parallel_maintenance_workers : 0;
    int64 left;

    if (vacuum)
        LockPage(rel, 0, ExclusiveLock);
    else if (!ConditionalLockPage(rel, 0, ExclusiveLock)) {
        if (mrl_waiting(&mrl_open(rel)->meta) > MANY) {
            LockPage(rel, LINKER_PAGE, ShareLock);
            UnlockPage(rel, LINKER_PAGE, ShareLock);
        }
        return;
    }
    if (mrl_refit_due(&mrl_open(rel)->meta, vacuum) && !mrl_refit(rel, workers) && vacuum)
        ereport(
            NOTICE,
            (errmsg("index \"%s\" of %u rows was fitted to %u, and %u are dead; to fit it again "
                    "maintenance_work_mem is too small",
                    RelationGetRelationName(rel), mrl_open(rel)->meta.slots,
                    mrl_open(rel)->meta.fitted, mrl_open(rel)->meta.dead),
             errhint("REINDEX it with a larger maintenance_work_mem.")));
    if (vacuum) mrl_free_lost_pages(rel);
    if (!vacuum) LockPage(rel, LINKER_PAGE, ExclusiveLock);
    left = (int64)mrl_waiting(&mrl_open(rel)->meta) - most;
    if (most != 0) left = Min(left, AT_ONCE);
    for (; left > 0; left -= BATCH) {
        MrlIndex* index = mrl_open(rel);

        if (index->meta.linked == 0 || mrl_waiting(&index->meta) <= most) break;
        link_batch(rel, index);
    }
    if (!vacuum) UnlockPage(rel, LINKER_PAGE, ExclusiveLock);
    UnlockPage(rel, 0, ExclusiveLock);
}
