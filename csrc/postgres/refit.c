// Another generation of an index: projection, lines and links anew, from the rows that are in it by
// now, while searches and inserts go on.
//
// An index is often made on an empty table, and a projection that was fitted on a few rows is none.
// The insert that brings the 1,024th row fits the first; VACUUM fits another when
// every fourth row was linked since, as a graph of linked rows finds a little less than a built
// one: .004 to .008 at efforts 130 to 24 with three rows in ten. Rows stay in their slots, so a
// scan that is under way may end in another generation than it began in. New pages are written
// beside the old ones, and nobody knows them until the first page does: one WAL record is the
// change. Rows that came meanwhile wait again, with lines by the new projection.
#include "mrl.h"

#include "access/generic_xlog.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define ADDED_SHARE 4  // of the rows, that were linked since the last fit: every fourth
#define DEAD_SHARE 5   // of the slots, that are dead: every fifth
#define LEAST_DEAD 64  // of them
#define FEW_BEHIND 64  // rows that are encoded while writers wait

typedef struct Refit {
    Relation rel;
    MrlIndex* index;
    MrlBuild* build;
    MrlReader* reader;    // of the new generation
    uint32 slots;         // when it began: those of the new graph
    uint32* slot_of_row;  // in the build
    uint32 rows;
    uint8* lines;  // of slots that came later
    uint32 encoded, most_encoded;
    uint32* blocks[2];  // of links and lines
} Refit;

bool mrl_refit_due(const struct MrlMeta* meta, bool vacuum) {
    uint32 live = mrl_live(meta);

    if (meta->retired_xid != 0) return false;
    if (vacuum && meta->dead >= LEAST_DEAD && meta->dead >= meta->slots / DEAD_SHARE) return true;
    return live >= MRL_FIRST_FIT &&
           (meta->fitted < MRL_LEAST_FITTED ||
            (vacuum && meta->added + mrl_waiting(meta) >= live / ADDED_SHARE));
}

static bool is_cancelled(void* state, double done, double total) {
    return InterruptPending && (QueryCancelPending || ProcDiePending);
}

// The vectors of one page of rows, from `first` on; returns those that live.
static uint32 read_vectors(const Refit* refit, uint32 number, uint32 first, uint32 end,
                           float* vectors, uint32* slots) {
    const struct MrlMeta* meta = &refit->index->meta;
    Buffer buffer = mrl_lock_page(refit->rel, refit->index, MRL_ROWS, number);
    const char* page = (const char*)BufferGetPage(buffer);
    uint32 n = 0;

    for (uint32 slot = first; slot < end; ++slot) {
        uint32 place = slot % meta->rows_per_page;
        struct MrlTail tail;

        memcpy(&tail, page + mrl_tail_at(meta, place), sizeof tail);
        if ((tail.flags & (MRL_ROW_DEAD | MRL_ROW_FREE)) != 0) continue;
        mrl_decode(refit->index->reader,
                   (const uint8*)page + MRL_PAGE_HEAD + (Size)place * meta->code_stride, &tail,
                   vectors + (Size)n * meta->dims);
        slots[n++] = slot;
    }
    UnlockReleaseBuffer(buffer);
    return n;
}

// Takes the free slots out of reach of inserts. Those that were used again before have their rows.
static void hide_free_slots(Relation rel) {
    MrlMetaChange change = mrl_begin_meta_change(rel);

    change.meta->first_free = change.meta->free = 0;
    mrl_end_meta_change(&change);
}

// Frees the slots of one page that the new graph does not lead to. `place` is where its rows are
// among those of the build.
static void free_page_slots(const Refit* refit, uint32 number, uint32* place) {
    const struct MrlMeta* meta = &refit->index->meta;
    uint32 first = number * meta->rows_per_page,
           end = Min(refit->slots, first + meta->rows_per_page), rows = 0, dead = 0;
    Buffer buffer;
    MrlMetaChange change;
    Page page;

    while (*place + rows < refit->rows && refit->slot_of_row[*place + rows] < end) ++rows;
    if (rows == end - first) {
        *place += rows;
        return;
    }
    buffer = mrl_pin_page(refit->rel, refit->index, MRL_ROWS, number);
    change = mrl_begin_meta_change(refit->rel);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    page = GenericXLogRegisterBuffer(change.log, buffer, 0);
    for (uint32 slot = first; slot < end; ++slot) {
        struct MrlTail* tail =
            (struct MrlTail*)((char*)page + mrl_tail_at(meta, slot % meta->rows_per_page));

        if (*place < refit->rows && refit->slot_of_row[*place] == slot) {
            ++*place;
            continue;
        }
        dead += (tail->flags & MRL_ROW_FREE) == 0;
        tail->flags = MRL_ROW_DEAD | MRL_ROW_FREE;
        mrl_set_next_free(tail, change.meta->first_free);
        change.meta->first_free = slot + 1;
        ++change.meta->free;
    }
    change.meta->dead -= Min(change.meta->dead, dead);
    mrl_end_meta_change(&change);
    UnlockReleaseBuffer(buffer);
}

static void free_slots(const Refit* refit) {
    uint32 each = refit->index->meta.rows_per_page, place = 0;

    for (uint32 number = 0; number * each < refit->slots; ++number) {
        CHECK_FOR_INTERRUPTS();
        free_page_slots(refit, number, &place);
    }
}

static void read_rows(Refit* refit) {
    const struct MrlMeta* meta = &refit->index->meta;
    uint32 each = meta->rows_per_page, *slots = palloc(sizeof(uint32) * each);
    float* vectors = palloc(sizeof(float) * meta->dims * each);
    const uint16 no_tid[3] = {0};

    refit->slot_of_row =
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * (Size)refit->slots);
    for (uint32 first = 0; first < refit->slots; first += each) {
        uint32 n = read_vectors(refit, first / each, first, Min(refit->slots, first + each),
                                vectors, slots);

        CHECK_FOR_INTERRUPTS();
        for (uint32 i = 0; i < n; ++i) {
            mrl_check_status(
                mrl_build_add(refit->build, vectors + (Size)i * meta->dims, no_tid, NULL),
                "fitting an index again");
            refit->slot_of_row[refit->rows++] = slots[i];
        }
    }
    pfree(vectors);
    pfree(slots);
}

// Lines of the rows that came since, up to a count of slots.
static void encode_later(Refit* refit, uint32 slots) {
    const struct MrlMeta* meta = &refit->index->meta;
    uint32 each = meta->rows_per_page, *which = palloc(sizeof(uint32) * each);
    float* vectors = palloc(sizeof(float) * meta->dims * each);
    uint8* code = palloc(meta->code_stride);
    uint32 from = refit->slots + refit->encoded;

    if (slots - refit->slots > refit->most_encoded) {
        refit->most_encoded = 2 * (slots - refit->slots);
        refit->lines = repalloc_huge(refit->lines, (Size)refit->most_encoded * MRL_ITEM_BYTES);
    }
    for (uint32 first = from; first < slots;) {
        uint32 end = Min(slots, (first / each + 1) * each),
               n = read_vectors(refit, first / each, first, end, vectors, which);

        memset(refit->lines + (Size)(first - refit->slots) * MRL_ITEM_BYTES, 0,
               (Size)(end - first) * MRL_ITEM_BYTES);
        for (uint32 i = 0; i < n; ++i) {
            struct MrlTail tail;

            mrl_check_status(
                mrl_encode(refit->reader, vectors + (Size)i * meta->dims, code,
                           refit->lines + (Size)(which[i] - refit->slots) * MRL_ITEM_BYTES, &tail),
                "fitting an index again");
        }
        first = end;
    }
    refit->encoded = slots - refit->slots;
    pfree(code);
    pfree(vectors);
    pfree(which);
}

// Writes a page that nobody knows yet; returns its block.
static BlockNumber write_page(Relation rel, Page page, BlockNumber next) {
    Buffer buffer = mrl_new_page(rel);
    BlockNumber block = BufferGetBlockNumber(buffer);

    mrl_label(page)->next = next;
    START_CRIT_SECTION();
    memcpy(BufferGetPage(buffer), page, BLCKSZ);
    MarkBufferDirty(buffer);
    if (RelationNeedsWAL(rel)) log_newpage_buffer(buffer, false);
    END_CRIT_SECTION();
    UnlockReleaseBuffer(buffer);
    return block;
}

static BlockNumber write_blob(const Refit* refit) {
    uint32 bytes = mrl_build_meta(refit->build)->blob_bytes;
    PGAlignedBlock page;
    BlockNumber next = 0;

    for (uint32 number = (bytes + MRL_PAGE_ROOM - 1) / MRL_PAGE_ROOM; number-- > 0;) {
        mrl_init_page((Page)page.data, MRL_BLOB, number);
        memcpy(page.data + MRL_PAGE_HEAD,
               mrl_build_blob(refit->build) + (Size)number * MRL_PAGE_ROOM,
               Min(MRL_PAGE_ROOM, bytes - number * MRL_PAGE_ROOM));
        next = write_page(refit->rel, (Page)page.data, next);
    }
    return next;
}

// Pages [first, end) of links or lines.
static void write_items(Refit* refit, int section, uint32 first, uint32 end) {
    uint32 slots = refit->slots + refit->encoded;
    PGAlignedBlock page;

    if (end == 0) return;
    refit->blocks[section] =
        refit->blocks[section] == NULL
            ? MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * (Size)end)
            : repalloc_huge(refit->blocks[section], sizeof(uint32) * (Size)end);
    for (uint32 number = first; number < end; ++number) {
        mrl_init_page((Page)page.data, section, number);
        mrl_build_page(refit->build, section, number, (uint8*)page.data);
        for (uint32 slot = Max(refit->slots, number * MRL_ITEMS);
             section == MRL_LINES && slot < Min(slots, (number + 1) * MRL_ITEMS); ++slot)
            memcpy(page.data + MRL_PAGE_HEAD + (Size)(slot % MRL_ITEMS) * MRL_ITEM_BYTES,
                   refit->lines + (Size)(slot - refit->slots) * MRL_ITEM_BYTES, MRL_ITEM_BYTES);
        refit->blocks[section][number] = write_page(refit->rel, (Page)page.data, 0);
    }
}

// The directory of a section, from its end, so that each page can name the next.
static void write_directory(const Refit* refit, struct MrlMeta* meta, int section, uint32 pages) {
    PGAlignedBlock page;
    BlockNumber next = 0;

    meta->pages[section] = pages;
    meta->last_chain[section] = 0;
    for (uint32 number = (pages + MRL_DIRECTORY - 1) / MRL_DIRECTORY; number-- > 0;) {
        uint32 first = number * MRL_DIRECTORY;

        mrl_init_page((Page)page.data, MRL_CHAIN, number);
        mrl_label((Page)page.data)->of = (uint32)section;
        memcpy(page.data + MRL_PAGE_HEAD, refit->blocks[section] + first,
               sizeof(uint32) * Min(MRL_DIRECTORY, pages - first));
        next = write_page(refit->rel, (Page)page.data, next);
        if (meta->last_chain[section] == 0) meta->last_chain[section] = next;
    }
    meta->first_chain[section] = next;
}

static inline uint32 pages_of(uint32 slots) { return (slots + MRL_ITEMS - 1) / MRL_ITEMS; }

static void write_generation(Refit* refit) {
    Relation rel = refit->rel;
    const struct MrlMeta* built = mrl_build_meta(refit->build);
    uint32 whole = refit->slots / MRL_ITEMS;  // pages that no later row is in
    BlockNumber blob = write_blob(refit);
    MrlMetaChange change;
    struct MrlMeta was, now;

    for (int section = MRL_LINKS; section <= MRL_LINES; ++section)
        write_items(refit, section, 0, whole);
    for (;;) {
        uint32 slots = mrl_open(rel)->meta.slots;

        if (slots - refit->slots - refit->encoded <= FEW_BEHIND) break;
        encode_later(refit, slots);
    }
    // Writers wait from here on.
    change = mrl_begin_meta_change(rel);
    was = now = *change.meta;
    refit->index->meta = was;
    encode_later(refit, was.slots);
    for (int section = MRL_LINKS; section <= MRL_LINES; ++section) {
        uint32 pages = Max(pages_of(was.slots), was.slots == 0 ? 0 : whole);

        write_items(refit, section, whole, pages);
        write_directory(refit, &now, section, pages);
        now.retired_chain[section] = was.first_chain[section];
    }
    now.generation = was.generation + 1;
    now.linked = refit->slots;
    now.reused = 0;  // they are in the graph
    now.fitted = refit->rows;
    now.added = 0;
    now.unit = built->unit;
    now.longest_square = Max(was.longest_square, built->longest_square);
    now.blob_begin = blob;
    now.blob_bytes = built->blob_bytes;
    now.retired_blob = was.blob_begin;
    now.retired_entries = was.first_entries;
    now.first_entries = now.last_entries = now.entries = 0;
    now.retired_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
    *change.meta = now;
    mrl_end_meta_change(&change);
}

static void free_reader(void* reader) { mrl_reader_free(reader); }

static void open_reader(Refit* refit) {
    MemoryContextCallback* callback = palloc0(sizeof *callback);

    mrl_check_status(
        mrl_reader_open(mrl_build_meta(refit->build), mrl_build_blob(refit->build), &refit->reader),
        "fitting an index again");
    callback->func = free_reader;
    callback->arg = refit->reader;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

// Returns false, with nothing done, when the memory that may be taken is too little.
bool mrl_refit(Relation rel, int workers) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl refit", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    Refit refit = {.rel = rel, .index = mrl_open(rel), .lines = palloc(MRL_ITEM_BYTES)};
    const struct MrlMeta* meta = &refit.index->meta;
    uint32 prefix = mrl_index_prefix(rel);
    bool fits;

    // What ALTER INDEX said since then holds as far as vectors of the index's width can be had so.
    if (prefix > meta->dims) prefix = meta->prefix;
    refit.build = mrl_begin_build(rel, meta->dims, prefix, workers);
    fits =
        mrl_build_bytes(refit.build, refit.index->meta.slots) <= (Size)maintenance_work_mem * 1024;
    if (fits) {
        hide_free_slots(rel);
        refit.index = mrl_open(rel);
        refit.slots = refit.index->meta.slots;
        read_rows(&refit);
        mrl_check_status(mrl_build_graph(refit.build, is_cancelled, NULL),
                         "fitting an index again");
        mrl_check_status(mrl_build_place(refit.build, refit.slot_of_row, refit.slots),
                         "fitting an index again");
        open_reader(&refit);
        write_generation(&refit);
        free_slots(&refit);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return fits;
}
