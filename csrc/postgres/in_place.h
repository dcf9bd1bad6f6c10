// Reading a buffer without a pin: whether it holds a page, and is not being changed.
#pragma once

#include "mrl.h"

#include "storage/buf_internals.h"

static inline bool mrl_is_of(const BufferTag* tag, const RelFileLocator* locator) {
#if PG_VERSION_NUM >= 160000
    return tag->relNumber == locator->relNumber && tag->dbOid == locator->dbOid &&
           tag->spcOid == locator->spcOid;
#else
    return RelFileNodeEquals(tag->rnode, *locator);
#endif
}

// Whether a buffer holds a block of a relation. Returns its state, or 0.
static inline uint32 mrl_state_of(const RelFileLocator* locator, BlockNumber block, Buffer buffer) {
#if MRL_READS_UNPINNED
    BufferDesc* descriptor = GetBufferDescriptor(buffer - 1);
    const BufferTag* tag = &descriptor->tag;
    const uint32 valid = BM_VALID | BM_TAG_VALID;
    uint32 state;

    if (tag->blockNum != block || !mrl_is_of(tag, locator) || tag->forkNum != MAIN_FORKNUM)
        return 0;
    state = pg_atomic_read_u32(&descriptor->state);
    return (state & valid) == valid ? state : 0;
#else
    return 0;
#endif
}

// A quiet page: before and after it was read, its buffer was pinned by nobody, and it had the same
// LSN. Whoever changes a page pins it, and sets its LSN before the pin goes, if its changes are
// written to WAL at all. So what was read between these two was not being changed.
static inline bool mrl_begin_quiet(const RelFileLocator* locator, BlockNumber block, Buffer buffer,
                                   XLogRecPtr* lsn) {
    uint32 state = mrl_state_of(locator, block, buffer);

    pg_read_barrier();
    *lsn = PageGetLSN(BufferGetPage(buffer));
    pg_read_barrier();
    return state != 0 && BUF_STATE_GET_REFCOUNT(state) == 0;
}

static inline bool mrl_was_quiet(const RelFileLocator* locator, BlockNumber block, Buffer buffer,
                                 XLogRecPtr lsn) {
    uint32 state;

    pg_read_barrier();
    if (PageGetLSN(BufferGetPage(buffer)) != lsn) return false;
    pg_read_barrier();
    state = mrl_state_of(locator, block, buffer);
    return state != 0 && BUF_STATE_GET_REFCOUNT(state) == 0;
}

static inline bool mrl_reads_in_place(Relation rel) {
    return MRL_READS_UNPINNED && mrl_page_access == MRL_UNPINNED && !RelationUsesLocalBuffers(rel);
}
