// Pages that come and go.
//
// A new generation of the graph leaves the pages of the one before it to searches that are under
// way. They are used again when every transaction that may have begun such a search is over, as a
// B-tree's deleted pages are; a VACUUM looks. The free space map only hints at such pages: a page
// is taken when its label says so too.
#include "mrl.h"

#include "access/generic_xlog.h"
#include "access/transam.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

MrlMetaChange mrl_begin_meta_change(Relation rel) {
    MrlMetaChange change = {.buffer = ReadBuffer(rel, 0)};

    LockBuffer(change.buffer, BUFFER_LOCK_EXCLUSIVE);
    change.log = GenericXLogStart(rel);
    change.meta = mrl_meta_of(GenericXLogRegisterBuffer(change.log, change.buffer, 0));
    return change;
}

void mrl_end_meta_change(MrlMetaChange* change) {
    GenericXLogFinish(change->log);
    UnlockReleaseBuffer(change->buffer);
}

// A further page at the end of a file, exclusively locked. alone: nobody else can know the file.
Buffer mrl_extend(Relation rel, ForkNumber fork, bool alone) {
#if PG_VERSION_NUM >= 160000
    return ExtendBufferedRel(BMR_REL(rel), fork, NULL,
                             EB_LOCK_FIRST | (alone ? EB_SKIP_EXTENSION_LOCK : 0));
#else
    Buffer buffer;

    alone = alone || RELATION_IS_LOCAL(rel);
    if (!alone) LockRelationForExtension(rel, ExclusiveLock);
    buffer = ReadBufferExtended(rel, fork, P_NEW, RBM_NORMAL, NULL);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    if (!alone) UnlockRelationForExtension(rel, ExclusiveLock);
    return buffer;
#endif
}

// A page to be written anew, exclusively locked.
Buffer mrl_new_page(Relation rel) {
    BlockNumber block;

    while ((block = GetFreeIndexPage(rel)) != InvalidBlockNumber) {
        Buffer buffer = ReadBuffer(rel, block);

        if (ConditionalLockBuffer(buffer)) {
            const struct MrlLabel* label = mrl_label(BufferGetPage(buffer));

            if (label->magic == MRL_MAGIC && label->section == MRL_UNUSED) return buffer;
            LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
        }
        ReleaseBuffer(buffer);
    }
    return mrl_extend(rel, MAIN_FORKNUM, false);
}

// Gives a page back; returns the one that its label names as the next.
static BlockNumber give_back(Relation rel, BlockNumber block) {
    Buffer buffer = ReadBuffer(rel, block);
    GenericXLogState* log;
    struct MrlLabel* label;
    BlockNumber next;

    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    log = GenericXLogStart(rel);
    label = mrl_label(GenericXLogRegisterBuffer(log, buffer, 0));
    next = label->next;
    label->section = MRL_UNUSED;
    GenericXLogFinish(log);
    UnlockReleaseBuffer(buffer);
    RecordFreeIndexPage(rel, block);
    return next;
}

static void give_back_section(Relation rel, BlockNumber chain) {
    uint32* blocks = palloc(sizeof(uint32) * MRL_DIRECTORY);

    while (chain != 0) {
        Buffer buffer = ReadBuffer(rel, chain);

        LockBuffer(buffer, BUFFER_LOCK_SHARE);
        memcpy(blocks, (char*)BufferGetPage(buffer) + MRL_PAGE_HEAD, MRL_PAGE_ROOM);
        UnlockReleaseBuffer(buffer);
        for (int i = 0; i < MRL_DIRECTORY && blocks[i] != 0; ++i) give_back(rel, blocks[i]);
        chain = give_back(rel, chain);
    }
    pfree(blocks);
}

// Gives back what the last generation left, when nobody can be reading it any more. The first page
// forgets it before: what a crash interrupts is lost, and never given back twice.
void mrl_reuse_retired(Relation rel, Relation heap) {
    struct MrlMeta was = mrl_open(rel)->meta;
    MrlMetaChange change;

    if (was.retired_xid == 0 ||
        !GlobalVisCheckRemovableFullXid(heap, FullTransactionIdFromU64(was.retired_xid)))
        return;
    change = mrl_begin_meta_change(rel);
    change.meta->retired_xid = 0;
    change.meta->retired_blob = change.meta->retired_entries = 0;
    change.meta->retired_chain[MRL_LINKS] = change.meta->retired_chain[MRL_LINES] = 0;
    mrl_end_meta_change(&change);
    give_back_section(rel, was.retired_chain[MRL_LINKS]);
    give_back_section(rel, was.retired_chain[MRL_LINES]);
    for (BlockNumber blob = was.retired_blob; blob != 0;) blob = give_back(rel, blob);
    for (BlockNumber page = was.retired_entries; page != 0;) page = give_back(rel, page);
    IndexFreeSpaceMapVacuum(rel);
}
