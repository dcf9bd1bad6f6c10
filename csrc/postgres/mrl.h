// What the files of the extension share.
#pragma once

#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/tableam.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "engine.h"

#if PG_VERSION_NUM < 150000
#error "the access method mrl needs PostgreSQL 15 or newer"
#endif

StaticAssertDecl(BLCKSZ == MRL_PAGE_BYTES, "the access method mrl needs blocks of 8 kB");

// PostgreSQL 15 has other names for where a relation is stored.
#if PG_VERSION_NUM < 160000
#define RelFileLocator RelFileNode
#define RelFileLocatorEquals RelFileNodeEquals
#define rd_locator rd_node
#endif

// What is read without a pin is a buffer's tag and state. A major version is let in once these were
// looked at.
#define MRL_READS_UNPINNED (PG_VERSION_NUM < 190000)

// Support functions of an operator class.
#define MRL_DISTANCE_PROC 1
#define MRL_TYPE_PROC 2

// Settings
enum { MRL_UNPINNED, MRL_PINNED };
extern int mrl_effort;        // 0: as it was measured
extern int mrl_least_effort;  // where it is as measured
extern double mrl_recall;
extern int mrl_page_access;
extern int mrl_max_scan_tuples;
extern bool mrl_strict_order;

// Storage parameters of an index.
typedef struct MrlOptions {
    int32 vl_len_;
    int width;      // dims of a column whose type does not say them
    int prefix;     // dims that lines are made from, or 0
    int effort;     // in place of the setting and of what was measured, or 0
    double recall;  // that searches are to reach, or 0
} MrlOptions;

// types.c: what an operator class indexes.
typedef struct MrlType {
    MrlMetric metric;
    int most_dims;
    int (*dims)(const void* value);
    void (*read)(const void* value, float* floats);
} MrlType;
const MrlType* mrl_index_type(Relation index);
int mrl_index_width(Relation index);
uint32 mrl_index_prefix(Relation index);
void mrl_check_width(int width, int dims);

// pages.c: an index as this backend knows it. Valid until the next mrl_open of any index.
typedef struct MrlPageRef {
    BlockNumber block;
    Buffer buffer;   // where the page was last, or InvalidBuffer
    uint32 touched;  // by which search it was shown to the clock sweep
} MrlPageRef;

// Where a page of the table was last.
typedef struct MrlHeapPage {
    BlockNumber block;
    Buffer buffer;  // or InvalidBuffer
} MrlHeapPage;

// Where a chunk of a toasted value was last.
typedef struct MrlChunk {
    Oid value;  // or InvalidOid
    int32 number;
    BlockNumber block;
    Buffer buffer;
    OffsetNumber offset;
} MrlChunk;

typedef struct MrlIndex {
    Oid relid;  // key
    RelFileLocator locator;
    struct MrlMeta meta;  // as of mrl_open
    MrlReader* reader;
    MrlPageRef* pages[MRL_SECTIONS];
    uint32 known[MRL_SECTIONS];       // pages that are in `pages`
    int64 shift;                      // from the block of a page that was found to its buffer
    BlockNumber chain[MRL_SECTIONS];  // of the directory: where the last of them is listed
    uint32 entries;                   // of those that the pages list: how many the reader has
    BlockNumber entry_page;           // where the last of them is listed
    MrlHeapPage* heap_pages;          // by the last bits of their numbers, or NULL
    uint32 heap_mask;
    MrlChunk* chunks;  // by the last bits of their values and numbers, or NULL
    uint32 chunk_mask;
    MemoryContext context;
    uint32 searches;
    uint64 repeated;  // batches that were read again, as their pages had moved
} MrlIndex;

void mrl_init_pages(void);
MrlIndex* mrl_open(Relation rel);
extern uint64 mrl_opens;  // counts them
Buffer mrl_lock_page(Relation rel, MrlIndex* index, int section, uint32 number);
Buffer mrl_pin_page(Relation rel, MrlIndex* index, int section, uint32 number);
const char* mrl_begin_peek(Relation rel, const MrlIndex* index, int section, uint32 number);
bool mrl_end_peek(const MrlIndex* index, int section, uint32 number);
bool mrl_peek_tail(Relation rel, const MrlIndex* index, uint32 slot, struct MrlTail* tail);
void mrl_read_tail(Relation rel, MrlIndex* index, uint32 slot, struct MrlTail* tail);
void mrl_init_page(Page page, int section, uint32 number);
MrlIndex* mrl_search(Relation rel, MrlIndex* index, const float* query, MrlSearch search);
void mrl_check_status(MrlStatus status, const char* doing);
void mrl_write_index(Relation rel, ForkNumber fork, const MrlBuild* build);

// heap.c
void* mrl_alloc_zeros(MemoryContext context, Size bytes);
void mrl_expect_row(const MrlIndex* index, const struct MrlTail* tail);

// labels.c
struct MrlLabel* mrl_label(Page page);
bool mrl_has_label(Page page, int section, uint32 number);
void mrl_check_label(Relation rel, Page page, BlockNumber block, int section, uint32 number);
void mrl_copy_page(Relation rel, BlockNumber block, int section, uint32 number, char* page);

// build.c: an empty build for the columns of an index. It is freed with the current memory context,
// so on errors too.
MrlBuild* mrl_begin_build(Relation index, uint32 dims, uint32 prefix, int workers);

// space.c: pages that come and go, and what the first page says.
typedef struct MrlMetaChange {
    Buffer buffer;
    struct GenericXLogState* log;
    struct MrlMeta* meta;  // to be changed
} MrlMetaChange;
MrlMetaChange mrl_begin_meta_change(Relation rel);
void mrl_end_meta_change(MrlMetaChange* change);
Buffer mrl_extend(Relation rel, ForkNumber fork, bool alone);
Buffer mrl_new_page(Relation rel);
void mrl_reuse_retired(Relation rel, Relation heap);

// entries.c
typedef struct MrlEntryPages {
    Buffer last, added;
} MrlEntryPages;
MrlEntryPages mrl_append_entries(Relation rel, MrlMetaChange* change, const uint32* slots,
                                 uint32 n);
void mrl_end_entries(MrlEntryPages* pages);
void mrl_read_entries(Relation rel, MrlIndex* index);

// account.c
typedef struct MrlPageSet {
    BlockNumber blocks, used;  // pages in all, and of the set
    BlockNumber wrong;         // that is used twice, or is beyond the file
    uint8* bits;
} MrlPageSet;
bool mrl_find_used_pages(Relation rel, MrlPageSet* set);
uint32 mrl_count_lost_pages(Relation rel, const MrlPageSet* set);
void mrl_free_lost_pages(Relation rel);

// refit.c: the caller holds the lock of linking.
bool mrl_refit_due(const struct MrlMeta* meta, bool vacuum);
bool mrl_refit(Relation rel, int workers);

// insert.c
void mrl_append(Relation rel, const float* vector, int dims, ItemPointer tid, const uint8* item);

// included.c: NULL where no columns are included.
uint8* mrl_form_item(Relation index, const Datum* values, const bool* isnull);

// link.c
void mrl_link_waiting(Relation rel, uint32 most, bool vacuum);

// check.c
Relation mrl_open_named(Oid oid, LOCKMODE lock);

// promise.c
size_t mrl_default_effort(const MrlIndex* index);
size_t mrl_effort_of(Relation rel, const MrlIndex* index);
void mrl_warn_of_recall(Relation rel, const MrlBuild* build);

// recovery.c: on a standby. The check raises an error.
bool mrl_is_younger(Relation index, Snapshot snapshot);
void mrl_check_age(Relation index, Snapshot snapshot);

// limit.c
typedef struct MrlNote MrlNote;
void mrl_init_limit(void);
const MrlNote* mrl_note_of(IndexScanDesc scan);
double mrl_rows_to_visit(double k, double factor);
bool mrl_note_filters(const MrlNote* note);
bool mrl_row_passes(const MrlNote* note, TupleTableSlot* row);

// distances.c
void mrl_init_distances(void);

// The access method.
IndexBuildResult* mrl_build(Relation heap, Relation index, struct IndexInfo* info);
void mrl_buildempty(Relation index);
bool mrl_insert(Relation index, Datum* values, bool* isnull, ItemPointer tid, Relation heap,
                IndexUniqueCheck unique, bool unchanged, struct IndexInfo* info);
IndexBulkDeleteResult* mrl_bulkdelete(IndexVacuumInfo* info, IndexBulkDeleteResult* stats,
                                      IndexBulkDeleteCallback callback, void* state);
IndexBulkDeleteResult* mrl_vacuumcleanup(IndexVacuumInfo* info, IndexBulkDeleteResult* stats);
void mrl_costestimate(struct PlannerInfo* root, struct IndexPath* path, double loop_count,
                      Cost* startup, Cost* total, Selectivity* selectivity, double* correlation,
                      double* pages);
IndexScanDesc mrl_beginscan(Relation index, int nkeys, int norderbys);
void mrl_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
bool mrl_gettuple(IndexScanDesc scan, ScanDirection direction);
void mrl_endscan(IndexScanDesc scan);

static inline struct MrlMeta* mrl_meta_of(Page page) {
    return (struct MrlMeta*)((char*)page + MRL_PAGE_HEAD);
}
// What is in use of a first page's contents.
static inline Size mrl_meta_bytes(const struct MrlMeta* meta) {
    return offsetof(struct MrlMeta, reused_slots) +
           sizeof(uint32) * Min(meta->reused, MRL_MOST_REUSED);
}
static inline uint32 mrl_live(const struct MrlMeta* meta) {
    return meta->slots - Min(meta->slots, meta->dead + meta->free);
}
static inline uint32 mrl_waiting(const struct MrlMeta* meta) {
    return meta->slots - meta->linked + meta->reused;
}
// A free slot's tail names the next free one (and one), or 0.
static inline void mrl_set_next_free(struct MrlTail* tail, uint32 next) {
    tail->tid[0] = (uint16)next;
    tail->tid[1] = (uint16)(next >> 16);
    tail->tid[2] = 0;
}
static inline uint32 mrl_next_free(const struct MrlTail* tail) {
    return tail->tid[0] | (uint32)tail->tid[1] << 16;
}
static inline void mrl_tid_to_words(ItemPointer tid, uint16 words[3]) {
    words[0] = tid->ip_blkid.bi_hi;
    words[1] = tid->ip_blkid.bi_lo;
    words[2] = tid->ip_posid;
}
static inline void mrl_words_to_tid(const uint16 words[3], ItemPointer tid) {
    tid->ip_blkid.bi_hi = words[0];
    tid->ip_blkid.bi_lo = words[1];
    tid->ip_posid = words[2];
}
