// CREATE INDEX: the table is read into memory as int8 codes, the graph is built by threads, the
// pages are written.
#include "mrl.h"

#include <math.h>
#include <pthread.h>

#include "access/tableam.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

#define CHECKED_ROWS 1024  // between two looks at the memory

enum { PHASE_TABLE = 2, PHASE_GRAPH, PHASE_PAGES };

typedef struct Building {
    Relation index;
    const MrlType* type;
    int width;
    MrlBuild* build;
    float* values;
    int64 rows;
    pthread_t thread;  // the backend's own
} Building;

static void free_build(void* build) { mrl_build_free(build); }

static void check_memory(const Building* state) {
    Size bytes = mrl_build_bytes(state->build, state->rows),
         allowed = (Size)maintenance_work_mem * 1024;

    if (bytes > allowed)
        ereport(
            ERROR,
            (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
             errmsg("index \"%s\" needs more than maintenance_work_mem to be built: %zu MB for its "
                    "first " INT64_FORMAT " rows",
                    RelationGetRelationName(state->index), (bytes >> 20) + 1, state->rows),
             errhint("SET maintenance_work_mem to %d bytes a row, about, and a hundred megabytes.",
                     (int)(mrl_build_bytes(state->build, 1000000) / 1000000))));
}

static void add_row(Relation index, ItemPointer tid, Datum* values, bool* isnull, bool alive,
                    void* state) {
    Building* building = state;
    struct varlena* value;
    uint16 words[3];

    if (isnull[0]) return;
    value = PG_DETOAST_DATUM(values[0]);
    mrl_check_width(building->width, building->type->dims(value));
    building->type->read(value, building->values);
    if ((Pointer)value != DatumGetPointer(values[0])) pfree(value);
    // A zero vector has no direction: as with pgvector, it is not in an index for cosine, and only
    // exact scans find it.
    if (building->type->metric == MRL_COSINE &&
        !mrl_has_direction(building->values, building->width))
        return;
    mrl_tid_to_words(tid, words);
    mrl_check_status(mrl_build_add(building->build, building->values, words), "reading the table");
    if (++building->rows % CHECKED_ROWS == 0) check_memory(building);
}

// Called by any of the build's threads, one at a time. Only the backend's own may touch what is
// PostgreSQL's; the flag is read by all.
static bool report_progress(void* state, double done, double total) {
    const Building* building = state;

    if (pthread_equal(pthread_self(), building->thread) && total > 1) {
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, building->rows);
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE,
                                     (int64)((double)building->rows * done / total));
    }
    return InterruptPending && (QueryCancelPending || ProcDiePending);
}

MrlBuild* mrl_begin_build(Relation index, int workers) {
    const MrlOptions* options = (const MrlOptions*)index->rd_options;
    MrlBuildOptions with = {mrl_index_type(index)->metric, mrl_index_width(index),
                            options == NULL ? 0 : options->prefix, workers + 1,
                            options == NULL ? 0 : (float)options->recall};
    MemoryContextCallback* callback = palloc0(sizeof *callback);
    MrlBuild* build;

    if (with.prefix > with.dims)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the index was asked for dims = %u of vectors of %u dimensions",
                               with.prefix, with.dims)));
    mrl_check_status(mrl_build_begin(&with, &build), "beginning to build");
    callback->func = free_build;
    callback->arg = build;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return build;
}

static void begin_building(Relation index, Building* building, int workers) {
    building->index = index;
    building->type = mrl_index_type(index);
    building->width = mrl_index_width(index);
    building->values = palloc(sizeof(float) * building->width);
    building->thread = pthread_self();
    building->build = mrl_begin_build(index, workers);
}

IndexBuildResult* mrl_build(Relation heap, Relation index, IndexInfo* info) {
    IndexBuildResult* result = palloc0(sizeof *result);
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl build", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    Building building = {0};

    begin_building(index, &building, max_parallel_maintenance_workers);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_TABLE);
    result->heap_tuples =
        table_index_build_scan(heap, index, info, true, true, add_row, &building, NULL);
    check_memory(&building);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_GRAPH);
    mrl_check_status(mrl_build_graph(building.build, report_progress, &building),
                     "building the graph");
    mrl_warn_of_recall(index, mrl_build_evidence(building.build));
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_PAGES);
    mrl_write_index(index, MAIN_FORKNUM, building.build);
    result->index_tuples = (double)building.rows;
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return result;
}

void mrl_buildempty(Relation index) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl build", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    Building building = {0};

    begin_building(index, &building, 0);
    mrl_check_status(mrl_build_graph(building.build, report_progress, &building),
                     "building the graph");
    mrl_write_index(index, INIT_FORKNUM, building.build);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}
