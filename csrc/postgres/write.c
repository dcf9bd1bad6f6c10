// Writing a built index: all its pages, one after another, into an empty file.
#include "mrl.h"

#include "access/xloginsert.h"
#include "miscadmin.h"

void mrl_init_page(Page page, int section, uint32 number) {
    PageInit(page, BLCKSZ, 0);
    ((PageHeader)page)->pd_lower =
        ((PageHeader)page)->pd_upper;  // no hole: generic WAL would write zeros there
    *mrl_label(page) = (struct MrlLabel){
        .magic = MRL_MAGIC, .format = MRL_FORMAT, .section = (uint16)section, .number = number};
}

static Buffer new_page(Relation rel, ForkNumber fork, int section, uint32 number) {
    Buffer buffer;

    CHECK_FOR_INTERRUPTS();
    buffer = mrl_extend(rel, fork, true);
    mrl_init_page(BufferGetPage(buffer), section, number);
    MarkBufferDirty(buffer);
    return buffer;
}

// The directory of a section whose pages follow one another from `begin`.
static void write_directory(Relation rel, ForkNumber fork, struct MrlMeta* meta, int section,
                            BlockNumber begin) {
    for (uint32 number = 0; number * MRL_DIRECTORY < meta->pages[section]; ++number) {
        Buffer buffer = new_page(rel, fork, MRL_CHAIN, number);
        BlockNumber block = BufferGetBlockNumber(buffer);
        uint32 first = number * MRL_DIRECTORY,
               end = Min(meta->pages[section], first + MRL_DIRECTORY);
        uint32* blocks = (uint32*)((char*)BufferGetPage(buffer) + MRL_PAGE_HEAD);

        for (uint32 i = first; i < end; ++i) blocks[i - first] = begin + i;
        mrl_label(BufferGetPage(buffer))->of = (uint32)section;
        if (end < meta->pages[section]) mrl_label(BufferGetPage(buffer))->next = block + 1;
        if (number == 0) meta->first_chain[section] = block;
        meta->last_chain[section] = block;
        UnlockReleaseBuffer(buffer);
    }
}

void mrl_write_index(Relation rel, ForkNumber fork, const MrlBuild* build) {
    struct MrlMeta meta = *mrl_build_meta(build);
    Buffer meta_buffer = new_page(rel, fork, MRL_META, 0);

    if (BufferGetBlockNumber(meta_buffer) != 0)
        elog(ERROR, "index \"%s\" is not empty", RelationGetRelationName(rel));
    LockBuffer(meta_buffer, BUFFER_LOCK_UNLOCK);
    meta.blob_begin = 1;
    for (uint32 at = 0; at < meta.blob_bytes; at += MRL_PAGE_ROOM) {
        Buffer buffer = new_page(rel, fork, MRL_BLOB, at / MRL_PAGE_ROOM);

        memcpy((char*)BufferGetPage(buffer) + MRL_PAGE_HEAD, mrl_build_blob(build) + at,
               Min(MRL_PAGE_ROOM, meta.blob_bytes - at));
        if (at + MRL_PAGE_ROOM < meta.blob_bytes)
            mrl_label(BufferGetPage(buffer))->next = BufferGetBlockNumber(buffer) + 1;
        UnlockReleaseBuffer(buffer);
    }
    for (int section = 0; section < MRL_SECTIONS; ++section) {
        BlockNumber begin = 0;

        for (uint32 number = 0; number < meta.pages[section]; ++number) {
            Buffer buffer = new_page(rel, fork, section, number);

            if (number == 0) begin = BufferGetBlockNumber(buffer);
            mrl_build_page(build, section, number, (uint8*)BufferGetPage(buffer));
            UnlockReleaseBuffer(buffer);
        }
        write_directory(rel, fork, &meta, section, begin);
    }
    LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);
    memcpy((char*)BufferGetPage(meta_buffer) + MRL_PAGE_HEAD, &meta, sizeof meta);
    MarkBufferDirty(meta_buffer);
    UnlockReleaseBuffer(meta_buffer);
    // An unlogged index is made anew from its init fork after a crash, and that fork must be there
    // on a standby too.
    if (RelationNeedsWAL(rel) || fork == INIT_FORKNUM)
        log_newpage_range(rel, fork, 0, RelationGetNumberOfBlocksInFork(rel, fork), false);
}
