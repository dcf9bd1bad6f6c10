// Which pages an index uses, and those that nobody knows any more.
//
// A crash in the middle of a new generation, or while the old one's pages are given back, leaves
// pages that belong to nothing. VACUUM finds them: what is neither used nor free is given back. A
// page that an insert is just adding belongs to nothing either, so pages are looked at first, and
// what is used is read again then: an insert holds the first page until its page is used.
#include "mrl.h"

#include "access/generic_xlog.h"
#include "miscadmin.h"
#include "storage/freespace.h"
#include "storage/indexfsm.h"

static inline bool is_used(const MrlPageSet* set, BlockNumber block) {
    return (set->bits[block / 8] >> (block % 8) & 1) != 0;
}

// Returns false for a page that is used already, or is none.
static bool use_page(MrlPageSet* set, BlockNumber block) {
    if (block >= set->blocks || is_used(set, block)) {
        set->wrong = block;
        return false;
    }
    set->bits[block / 8] |= (uint8)(1 << block % 8);
    ++set->used;
    return true;
}

// A chain of pages of one kind; those of the directory name others.
static bool use_chain(Relation rel, MrlPageSet* set, BlockNumber block, int section) {
    PGAlignedBlock page;

    for (uint32 number = 0; block != 0; ++number) {
        const uint32* blocks = (const uint32*)(page.data + MRL_PAGE_HEAD);

        CHECK_FOR_INTERRUPTS();
        if (!use_page(set, block)) return false;
        mrl_copy_page(rel, block, section, number, page.data);
        for (int i = 0; section == MRL_CHAIN && i < MRL_DIRECTORY && blocks[i] != 0; ++i)
            if (!use_page(set, blocks[i])) return false;
        block = mrl_label((Page)page.data)->next;
    }
    return true;
}

// The pages that an index uses as its first page is now. Where one is used twice, or is beyond the
// file, returns false, and set->wrong is that page.
bool mrl_find_used_pages(Relation rel, MrlPageSet* set) {
    Buffer buffer = ReadBuffer(rel, 0);
    struct MrlMeta meta;

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    meta = *mrl_meta_of(BufferGetPage(buffer));
    *set = (MrlPageSet){.blocks = RelationGetNumberOfBlocks(rel)};
    UnlockReleaseBuffer(buffer);
    set->bits = MemoryContextAllocExtended(CurrentMemoryContext, (Size)set->blocks / 8 + 1,
                                           MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    use_page(set, 0);
    for (int section = 0; section < MRL_SECTIONS; ++section)
        if (!use_chain(rel, set, meta.first_chain[section], MRL_CHAIN)) return false;
    if (meta.retired_xid != 0)
        for (int section = MRL_LINKS; section <= MRL_LINES; ++section)
            if (!use_chain(rel, set, meta.retired_chain[section], MRL_CHAIN)) return false;
    return (meta.blob_bytes == 0 || use_chain(rel, set, meta.blob_begin, MRL_BLOB)) &&
           use_chain(rel, set, meta.retired_blob, MRL_BLOB) &&
           use_chain(rel, set, meta.first_entries, MRL_ENTRIES) &&
           use_chain(rel, set, meta.retired_entries, MRL_ENTRIES);
}

static bool is_free(Relation rel, BlockNumber block) {
    Buffer buffer = ReadBuffer(rel, block);
    const struct MrlLabel* label = mrl_label(BufferGetPage(buffer));
    bool free;

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    free = label->magic == MRL_MAGIC && label->section == MRL_UNUSED;
    UnlockReleaseBuffer(buffer);
    return free;
}

// Makes a page that belongs to nothing a free one.
static void free_page(Relation rel, BlockNumber block) {
    Buffer buffer = ReadBuffer(rel, block);
    GenericXLogState* log;

    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    log = GenericXLogStart(rel);
    mrl_init_page(GenericXLogRegisterBuffer(log, buffer, GENERIC_XLOG_FULL_IMAGE), MRL_UNUSED, 0);
    GenericXLogFinish(log);
    UnlockReleaseBuffer(buffer);
}

// Pages, of those that are not in use, that are not free either. Free ones that the free space map
// has lost are in it again.
static uint32 find_strays(Relation rel, const MrlPageSet* set, BlockNumber* strays) {
    uint32 n = 0;

    for (BlockNumber block = 0; block < set->blocks; ++block) {
        if (is_used(set, block) || GetRecordedFreeSpace(rel, block) != 0) continue;
        CHECK_FOR_INTERRUPTS();
        if (is_free(rel, block))
            RecordFreeIndexPage(rel, block);
        else
            strays[n++] = block;
    }
    return n;
}

// Counts the pages that belong to nothing; the caller lets nobody write.
uint32 mrl_count_lost_pages(Relation rel, const MrlPageSet* set) {
    uint32 n = 0;

    for (BlockNumber block = 0; block < set->blocks; ++block) {
        CHECK_FOR_INTERRUPTS();
        n += !is_used(set, block) && !is_free(rel, block);
    }
    return n;
}

// Gives them back. The caller holds the lock of linking, so no generation is being written.
void mrl_free_lost_pages(Relation rel) {
    MrlPageSet set, now;
    BlockNumber* strays;
    uint32 n, freed = 0;

    if (!mrl_find_used_pages(rel, &set)) return;  // damaged: mrl_check_index says so
    strays = MemoryContextAllocHuge(CurrentMemoryContext,
                                    sizeof(BlockNumber) * (Size)(set.blocks - set.used + 1));
    n = find_strays(rel, &set, strays);
    if (n != 0 && mrl_find_used_pages(rel, &now)) {
        for (uint32 i = 0; i < n; ++i) {
            if (is_used(&now, strays[i])) continue;
            free_page(rel, strays[i]);
            RecordFreeIndexPage(rel, strays[i]);
            ++freed;
        }
        if (freed != 0) IndexFreeSpaceMapVacuum(rel);
        pfree(now.bits);
    }
    pfree(set.bits);
    pfree(strays);
}
