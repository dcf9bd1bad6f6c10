// Pages: what a backend remembers of an index, and reading with and without pins.
//
// A page that was found in a buffer is read there without a pin: the buffer's tag (all of it) and
// BM_VALID are looked at before and after, with fences between, and what was read counts only when
// nothing had changed. Pinning costs 130–700 ns a page, looking 4–36. As nobody sees such reads, a
// sixteenth of the pages, each time another one, are pinned for a moment, so that the clock sweep
// knows them to be in use. Temporary tables have buffers elsewhere, and another major version may
// keep other descriptors: there, and where the setting mrl.page_access says so, items are copied
// under a pin and a lock.
#include "in_place.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define TOUCHED_SHARE 15       // of the pages that a search reads, one in 16 is touched (a mask)
#define MOST_TOUCHED 64        // in a search
#define STEADY_ATTEMPTS 3      // pages that are gone again so often in a row are copied
#define MOST_INDEXES 256       // that a backend remembers
#define MOST_FRAMES (1 << 25)  // lines in all buffers are numbered in 32 bits

static HTAB* indexes = NULL;
uint64 mrl_opens = 0;

typedef struct Host {
    MrlIndex* index;
    uint32 touched[MOST_TOUCHED];  // section << 28 | page
    uint32 n_touched;
} Host;

void mrl_init_pages(void) {
    HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(MrlIndex)};

    indexes = hash_create("mrl indexes", 16, &control, HASH_ELEM | HASH_BLOBS);
}

// Opening

static void read_meta(Relation rel, struct MrlMeta* meta) {
    Buffer buffer = ReadBuffer(rel, 0);
    Page page = BufferGetPage(buffer);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    mrl_check_label(rel, page, 0, MRL_META, 0);
    memcpy(meta, mrl_meta_of(page), mrl_meta_bytes(mrl_meta_of(page)));
    UnlockReleaseBuffer(buffer);
}

static void read_reader(Relation rel, MrlIndex* index) {
    const struct MrlMeta* meta = &index->meta;
    uint8* blob = MemoryContextAllocHuge(CurrentMemoryContext, Max(meta->blob_bytes, 1));
    PGAlignedBlock page;
    BlockNumber block = meta->blob_begin;
    MrlStatus status;

    for (uint32 at = 0; at < meta->blob_bytes; at += MRL_PAGE_ROOM) {
        mrl_copy_page(rel, block, MRL_BLOB, at / MRL_PAGE_ROOM, page.data);
        block = mrl_label((Page)page.data)->next;
        memcpy(blob + at, page.data + MRL_PAGE_HEAD, Min(MRL_PAGE_ROOM, meta->blob_bytes - at));
    }
    status = mrl_reader_open(meta, blob, &index->reader);
    pfree(blob);
    mrl_check_status(status, psprintf("opening index \"%s\"", RelationGetRelationName(rel)));
}

// Learns where pages are that came since the directory was last read.
static void read_directory(Relation rel, MrlIndex* index, int section) {
    uint32 known = index->known[section], pages = index->meta.pages[section];
    PGAlignedBlock page;

    if (known >= pages) return;
    if (index->pages[section] == NULL) {
        index->pages[section] =
            MemoryContextAllocHuge(index->context, sizeof(MrlPageRef) * (Size)pages);
        index->chain[section] = index->meta.first_chain[section];
    } else {
        index->pages[section] =
            repalloc_huge(index->pages[section], sizeof(MrlPageRef) * (Size)pages);
    }
    while (known < pages) {
        uint32 number = known / MRL_DIRECTORY, end = Min(pages, (number + 1) * MRL_DIRECTORY);
        const uint32* blocks = (const uint32*)(page.data + MRL_PAGE_HEAD);

        if (known != 0 && known % MRL_DIRECTORY == 0) {
            mrl_copy_page(rel, index->chain[section], MRL_CHAIN, number - 1, page.data);
            index->chain[section] = mrl_label((Page)page.data)->next;
        }
        mrl_copy_page(rel, index->chain[section], MRL_CHAIN, number, page.data);
        for (; known < end; ++known)
            index->pages[section][known] =
                (MrlPageRef){blocks[known % MRL_DIRECTORY], InvalidBuffer, 0};
        index->known[section] = known;
    }
}

static void forget(MrlIndex* index) {
    Oid relid = index->relid;

    mrl_reader_free(index->reader);
    if (index->context != NULL) MemoryContextDelete(index->context);
    hash_search(indexes, &relid, HASH_REMOVE, NULL);
}

static void forget_all(void) {
    HASH_SEQ_STATUS all;
    MrlIndex* index;

    hash_seq_init(&all, indexes);
    while ((index = hash_seq_search(&all)) != NULL) forget(index);
}

MrlIndex* mrl_open(Relation rel) {
    Oid relid = RelationGetRelid(rel);
    MrlIndex* index = hash_search(indexes, &relid, HASH_FIND, NULL);
    struct MrlMeta meta;
    bool found;

    ++mrl_opens;
    read_meta(rel, &meta);
    if (index != NULL && (index->reader == NULL || index->meta.generation != meta.generation ||
                          !RelFileLocatorEquals(index->locator, rel->rd_locator))) {
        forget(index);
        index = NULL;
    }
    if (index == NULL) {
        if (hash_get_num_entries(indexes) >= MOST_INDEXES) forget_all();
        index = hash_search(indexes, &relid, HASH_ENTER, &found);
        memset((char*)index + sizeof(Oid), 0, sizeof(MrlIndex) - sizeof(Oid));
        index->locator = rel->rd_locator;
        index->meta = meta;
        index->context = AllocSetContextCreate(TopMemoryContext, "mrl index", ALLOCSET_SMALL_SIZES);
        read_reader(rel, index);
    }
    index->meta = meta;
    for (int section = 0; section < MRL_SECTIONS; ++section) read_directory(rel, index, section);
    mrl_read_entries(rel, index);
    return index;
}

// Reading in place

static inline bool is_there(const MrlIndex* index, const MrlPageRef* ref) {
    return mrl_state_of(&index->locator, ref->block, ref->buffer) != 0;
}

// Pages that were written one after the other lie so in buffers, mostly: one that was never looked
// for may be as far from its number as the one that was found last. So a connection's first search
// asks the table of buffers for few of them.
static bool is_guessed(const MrlIndex* index, MrlPageRef* ref) {
    const int64 guess = (int64)ref->block + index->shift;

    if (guess < 1 || guess > NBuffers ||
        mrl_state_of(&index->locator, ref->block, (Buffer)guess) == 0)
        return false;
    ref->buffer = (Buffer)guess;
    return true;
}

// A page of a section where it was last, or NULL. What is read of it counts if it is still there
// afterwards.
const char* mrl_begin_peek(Relation rel, const MrlIndex* index, int section, uint32 number) {
    const MrlPageRef* ref = &index->pages[section][number];

    if (!mrl_reads_in_place(rel) || number >= index->known[section] || ref->buffer <= 0 ||
        !is_there(index, ref))
        return NULL;
    pg_read_barrier();
    return (const char*)BufferGetPage(ref->buffer);
}

bool mrl_end_peek(const MrlIndex* index, int section, uint32 number) {
    pg_read_barrier();
    return is_there(index, &index->pages[section][number]);
}

static uint32 find_pages(void* self, int section, const uint32* pages, uint32 n, uint32* frames) {
    Host* host = self;
    MrlIndex* index = host->index;
    uint32 missing = 0;

    for (uint32 i = 0; i < n; ++i) {
        MrlPageRef* ref = &index->pages[section][pages[i]];

        frames[i] = 0;
        if (pages[i] >= index->known[section] ||
            !(ref->buffer > 0 ? is_there(index, ref) : is_guessed(index, ref))) {
            ++missing;
            continue;
        }
        frames[i] = ref->buffer;
        if (((pages[i] + index->searches) & TOUCHED_SHARE) == 0 &&
            ref->touched != index->searches && host->n_touched < MOST_TOUCHED) {
            ref->touched = index->searches;
            host->touched[host->n_touched++] = (uint32)section << 28 | pages[i];
        }
    }
    pg_read_barrier();
    return missing;
}

static bool unmoved_pages(void* self, int section, const uint32* pages, uint32 n,
                          const uint32* frames) {
    Host* host = self;
    MrlIndex* index = host->index;

    pg_read_barrier();
    for (uint32 i = 0; i < n; ++i) {
        const MrlPageRef* ref = &index->pages[section][pages[i]];

        if (ref->buffer != (Buffer)frames[i] || !is_there(index, ref)) {
            ++index->repeated;
            return false;
        }
    }
    return true;
}

static void expect_row(void* self, const struct MrlTail* tail) {
    mrl_expect_row(((Host*)self)->index, tail);
}

static MrlPageRef* ref_of(Relation rel, MrlIndex* index, int section, uint32 number) {
    if (number >= index->known[section])
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\": section %d has no page %u",
                               RelationGetRelationName(rel), section, number),
                        errhint("REINDEX it.")));
    return &index->pages[section][number];
}

// Pins a page, which may have come since the index was opened; where it was last is where it is
// looked for first.
Buffer mrl_pin_page(Relation rel, MrlIndex* index, int section, uint32 number) {
    MrlPageRef* ref;

    if (number >= index->known[section]) read_directory(rel, index, section);
    ref = ref_of(rel, index, section, number);
    if (ref->buffer == InvalidBuffer && !RelationUsesLocalBuffers(rel)) is_guessed(index, ref);
    if (ref->buffer == InvalidBuffer ||
        !ReadRecentBuffer(rel->rd_locator, MAIN_FORKNUM, ref->block, ref->buffer)) {
        ref->buffer = ReadBuffer(rel, ref->block);
        index->shift = (int64)ref->buffer - ref->block;
    }
    return ref->buffer;
}

// The same, with a share lock, and its label looked at.
Buffer mrl_lock_page(Relation rel, MrlIndex* index, int section, uint32 number) {
    Buffer buffer = mrl_pin_page(rel, index, section, number);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    mrl_check_label(rel, BufferGetPage(buffer), index->pages[section][number].block, section,
                    number);
    return buffer;
}

// Whether another generation has taken the place of the one that is being read. A server that
// writes keeps the old one's pages until nobody reads them (space.c); a standby does not know who
// reads.
static bool was_replaced(Relation rel, const MrlIndex* index) {
    struct MrlMeta meta;

    if (!RecoveryInProgress()) return false;
    read_meta(rel, &meta);
    return meta.generation != index->meta.generation;
}

// As mrl_lock_page; InvalidBuffer where the page has become another one's.
static Buffer lock_if_same(Relation rel, MrlIndex* index, int section, uint32 number) {
    Buffer buffer = mrl_pin_page(rel, index, section, number);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    if (mrl_has_label(BufferGetPage(buffer), section, number)) return buffer;
    UnlockReleaseBuffer(buffer);
    return was_replaced(rel, index) ? InvalidBuffer : mrl_lock_page(rel, index, section, number);
}

// Brings pages into buffers, all that are missing at once. One that was in a buffer already is
// looked for there. Returns false where one is no more what it was.
static bool read_pages(Relation rel, MrlIndex* index, const struct MrlPageRequest* request) {
    Buffer* recent = palloc0(sizeof(Buffer) * request->n);
    bool same = true;

    for (int reading = 0; reading < 2; ++reading) {
        for (uint32 i = 0; i < request->n && same; ++i) {
            MrlPageRef* ref = ref_of(rel, index, request->section, request->pages[i]);

            if (ref->buffer > 0 && is_there(index, ref)) continue;
            if (reading) {
                Buffer buffer;

                if (BufferIsValid(recent[i])) ref->buffer = recent[i];
                buffer = lock_if_same(rel, index, request->section, request->pages[i]);
                same = buffer != InvalidBuffer;
                if (same) UnlockReleaseBuffer(buffer);
            } else {
                recent[i] = PrefetchBuffer(rel, MAIN_FORKNUM, ref->block).recent_buffer;
            }
        }
    }
    pfree(recent);
    return same;
}

static bool copy_items(Relation rel, MrlIndex* index, const struct MrlPageRequest* request) {
    Buffer buffer = InvalidBuffer;

    for (uint32 i = 0; i < request->n; ++i) {
        if (i == 0 || request->pages[i] != request->pages[i - 1]) {
            if (i != 0) UnlockReleaseBuffer(buffer);
            buffer = lock_if_same(rel, index, request->section, request->pages[i]);
            if (buffer == InvalidBuffer) return false;
        }
        memcpy(request->copies + (Size)i * request->bytes,
               (char*)BufferGetPage(buffer) + request->offsets[i], request->bytes);
    }
    if (request->n != 0) UnlockReleaseBuffer(buffer);
    return true;
}

static void touch_pages(Relation rel, Host* host) {
    for (uint32 i = 0; i < host->n_touched; ++i) {
        const MrlPageRef* ref =
            &host->index->pages[host->touched[i] >> 28][host->touched[i] & 0xfffffff];

        if (ReadRecentBuffer(rel->rd_locator, MAIN_FORKNUM, ref->block, ref->buffer))
            ReleaseBuffer(ref->buffer);
    }
}

// Returns false when a standby's index became another generation meanwhile.
static bool search_once(Relation rel, MrlIndex* index, const float* query, MrlSearch search) {
    bool in_place = mrl_reads_in_place(rel) && NBuffers < MOST_FRAMES;
    Host host = {.index = index};
    struct MrlPageHost pages = {&host, (const uint8*)BufferBlocks, in_place ? find_pages : NULL,
                                unmoved_pages, expect_row};
    MrlAnswer answer = MRL_READ;
    MrlStatus status;
    int attempts = 0;

    ++index->searches;
    mrl_check_status(mrl_search_begin(index->reader, &index->meta, &pages, query, search),
                     "beginning a search");
    while ((status = mrl_search_step(index->reader, answer)) == MRL_PAGES || status == MRL_PAUSED) {
        const struct MrlPageRequest* request = mrl_search_request(index->reader);

        CHECK_FOR_INTERRUPTS();
        if (status == MRL_PAUSED) {
            answer = MRL_READ;
        } else if (request->copies != NULL) {
            if (!copy_items(rel, index, request)) return false;
            answer = MRL_COPIED;
            attempts = 0;
        } else if (++attempts > STEADY_ATTEMPTS) {
            answer = MRL_UNSTEADY;
        } else {
            if (!read_pages(rel, index, request)) return false;
            answer = MRL_READ;
        }
    }
    mrl_check_status(status, "searching");
    touch_pages(rel, &host);
    return !was_replaced(rel, index);
}

// A whole search; the hits are the reader's. Returns the index as it is then.
MrlIndex* mrl_search(Relation rel, MrlIndex* index, const float* query, MrlSearch search) {
    while (!search_once(rel, index, query, search)) index = mrl_open(rel);
    return index;
}

void mrl_read_tail(Relation rel, MrlIndex* index, uint32 slot, struct MrlTail* tail) {
    uint32 each = index->meta.rows_per_page;
    Buffer buffer = mrl_lock_page(rel, index, MRL_ROWS, slot / each);

    memcpy(tail, (char*)BufferGetPage(buffer) + mrl_tail_at(&index->meta, slot % each),
           sizeof *tail);
    UnlockReleaseBuffer(buffer);
}

// The same without a lock. Returns false where the page is not where it was last, or not quiet.
bool mrl_peek_tail(Relation rel, const MrlIndex* index, uint32 slot, struct MrlTail* tail) {
    uint32 each = index->meta.rows_per_page;
    const MrlPageRef* ref = &index->pages[MRL_ROWS][slot / each];
    XLogRecPtr lsn;

    if (!mrl_reads_in_place(rel) || !RelationNeedsWAL(rel) ||
        slot / each >= index->known[MRL_ROWS] || ref->buffer <= 0 ||
        !mrl_begin_quiet(&index->locator, ref->block, ref->buffer, &lsn))
        return false;
    memcpy(tail, BufferGetPage(ref->buffer) + mrl_tail_at(&index->meta, slot % each), sizeof *tail);
    return mrl_was_quiet(&index->locator, ref->block, ref->buffer, lsn);
}
