// VACUUM: rows that are gone are marked dead. Their slots stay in the graph, as walks pass through
// them.
#include "mrl.h"

#include "access/generic_xlog.h"
#include "commands/vacuum.h"
#include "miscadmin.h"

typedef struct Counted {
    uint32 marked;  // now
    uint32 dead;    // by now
    double live;
} Counted;

// Marks what the callback calls dead in one page of rows, and counts.
static void mark_page(Relation rel, MrlIndex* index, uint32 number,
                      IndexBulkDeleteCallback callback, void* callback_state, Counted* counted) {
    uint32 each = index->meta.rows_per_page, first = number * each,
           end = Min(index->meta.slots, first + each);
    Buffer buffer = mrl_pin_page(rel, index, MRL_ROWS, number);
    GenericXLogState* log = NULL;
    Page page;

    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    page = BufferGetPage(buffer);
    for (uint32 slot = first; slot < end; ++slot) {
        struct MrlTail* tail =
            (struct MrlTail*)((char*)page + mrl_tail_at(&index->meta, slot - first));
        ItemPointerData tid;

        if ((tail->flags & MRL_ROW_FREE) != 0) continue;
        if ((tail->flags & MRL_ROW_DEAD) != 0) {
            ++counted->dead;
            continue;
        }
        mrl_words_to_tid(tail->tid, &tid);
        if (!callback(&tid, callback_state)) {
            counted->live += 1;
            continue;
        }
        if (log == NULL) {
            log = GenericXLogStart(rel);
            page = GenericXLogRegisterBuffer(log, buffer, 0);
            tail = (struct MrlTail*)((char*)page + mrl_tail_at(&index->meta, slot - first));
        }
        tail->flags |= MRL_ROW_DEAD;
        ++counted->marked;
        ++counted->dead;
    }
    if (log != NULL) GenericXLogFinish(log);
    UnlockReleaseBuffer(buffer);
}

// A crash may have come between marks and their count, so all of them are counted each time.
static void set_dead(Relation rel, uint32 dead) {
    MrlMetaChange change = mrl_begin_meta_change(rel);

    change.meta->dead = dead;
    mrl_end_meta_change(&change);
}

IndexBulkDeleteResult* mrl_bulkdelete(IndexVacuumInfo* info, IndexBulkDeleteResult* stats,
                                      IndexBulkDeleteCallback callback, void* callback_state) {
    Relation rel = info->index;
    MrlIndex* index = mrl_open(rel);
    Counted counted = {0};

    if (stats == NULL) stats = palloc0(sizeof *stats);
    for (uint32 number = 0; number < index->meta.pages[MRL_ROWS]; ++number) {
        vacuum_delay_point(
#if PG_VERSION_NUM >= 180000
            false
#endif
        );
        mark_page(rel, index, number, callback, callback_state, &counted);
    }
    if (counted.dead != index->meta.dead) set_dead(rel, counted.dead);
    stats->num_index_tuples = counted.live;
    stats->tuples_removed += counted.marked;
    stats->num_pages = RelationGetNumberOfBlocks(rel);
    return stats;
}

IndexBulkDeleteResult* mrl_vacuumcleanup(IndexVacuumInfo* info, IndexBulkDeleteResult* stats) {
    if (info->analyze_only) return stats;
#if PG_VERSION_NUM >= 160000
    mrl_reuse_retired(info->index, info->heaprel);
#else
    mrl_reuse_retired(info->index, NULL);  // by the horizon of all tables
#endif
    mrl_link_waiting(info->index, 0, true);
    if (stats == NULL) {
        MrlIndex* index = mrl_open(info->index);

        stats = palloc0(sizeof *stats);
        stats->num_index_tuples = mrl_live(&index->meta);
    }
    stats->num_pages = RelationGetNumberOfBlocks(info->index);
    return stats;
}
