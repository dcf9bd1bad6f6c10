// CREATE INDEX: the table is read into memory as int8 codes, the graph is built by threads, the
// pages are written.
//
// When maintenance_work_mem is full, what was read so far becomes the graph, and all rows that
// follow are inserted into it: slower, in no more memory than an insert takes.
#include "included.h"

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

enum { PHASE_TABLE = 2, PHASE_GRAPH, PHASE_PAGES, PHASE_REST };

typedef struct Building {
    Relation index;
    const MrlType* type;
    int width;
    MrlBuild* build;        // NULL: its pages are written, and rows are inserted
    MemoryContext context;  // of the build
    MemoryContext row;      // of one insert
    float* values;
    int64 rows;
    pthread_t thread;  // the backend's own
} Building;

static void free_build(void* build) { mrl_build_free(build); }

static bool report_progress(void* state, double done, double total);

// Makes the graph of the rows that were read.
static void write_graph(Building* building) {
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_GRAPH);
    mrl_check_status(mrl_build_graph(building->build, report_progress, building),
                     "building the graph");
    mrl_warn_of_recall(building->index, building->build);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_PAGES);
    mrl_write_index(building->index, MAIN_FORKNUM, building->build);
    building->build = NULL;
    MemoryContextDelete(building->context);
}

// A graph is to have some rows at least, or it is no graph.
static void check_memory(Building* building) {
    Size allowed = (Size)maintenance_work_mem * 1024,
         least = mrl_build_bytes(building->build, MRL_FIRST_FIT);

    if (least > allowed)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("to build index \"%s\" maintenance_work_mem must be %zu MB at least",
                               RelationGetRelationName(building->index), (least >> 20) + 1)));
    if (mrl_build_bytes(building->build, building->rows + CHECKED_ROWS) <= allowed) return;
    ereport(NOTICE,
            (errmsg("index \"%s\": maintenance_work_mem is full with " INT64_FORMAT
                    " rows; those that follow are inserted one after another",
                    RelationGetRelationName(building->index), building->rows),
             errhint("SET maintenance_work_mem to %d bytes a row, about, and a hundred megabytes.",
                     (int)(mrl_build_bytes(building->build, 1000000) / 1000000))));
    write_graph(building);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_REST);
}

static void insert_row(const Building* building, ItemPointer tid, const uint8* item) {
    MemoryContext before = MemoryContextSwitchTo(building->row);

    CHECK_FOR_INTERRUPTS();
    mrl_append(building->index, building->values, building->width, tid, item);
    MemoryContextSwitchTo(before);
    MemoryContextReset(building->row);
    if (building->rows % CHECKED_ROWS == 0)
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, building->rows);
}

static void add_row(Relation index, ItemPointer tid, Datum* values, bool* isnull, bool alive,
                    void* state) {
    Building* building = state;
    struct varlena* value;
    uint16 words[3];
    uint8* item;

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
    ++building->rows;
    item = mrl_form_item(index, values, isnull);
    if (building->build == NULL) {
        insert_row(building, tid, item);
    } else {
        mrl_tid_to_words(tid, words);
        mrl_check_status(mrl_build_add(building->build, building->values, words, item),
                         "reading the table");
    }
    if (item != NULL) pfree(item);
    if (building->build == NULL) return;
    if (building->rows % CHECKED_ROWS == 0) check_memory(building);
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

MrlBuild* mrl_begin_build(Relation index, uint32 dims, uint32 prefix, int workers) {
    const MrlOptions* options = (const MrlOptions*)index->rd_options;
    MrlIncluded* included = palloc(sizeof *included);
    MrlBuildOptions with = {.metric = mrl_index_type(index)->metric,
                            .dims = dims,
                            .prefix = prefix,
                            .threads = workers + 1,
                            .recall = options == NULL ? 0 : (float)options->recall,
                            .chooses = options == NULL || options->effort == 0};
    MemoryContextCallback* callback = palloc0(sizeof *callback);
    MrlBuild* build;

    *included = mrl_included_of(index);
    with.included_bytes = included->bytes;
    with.n_pieces = (uint32)included->pieces.n;
    with.pieces = included->pieces.of;
    mrl_check_status(mrl_build_begin(&with, &build), "beginning to build");
    callback->func = free_build;
    callback->arg = build;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return build;
}

static void begin_building(Relation index, Building* building, int workers) {
    uint32 prefix = mrl_index_prefix(index);
    MemoryContext before;

    building->index = index;
    building->type = mrl_index_type(index);
    building->width = mrl_index_width(index);
    if (prefix > (uint32)building->width)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the index was asked for dims = %u of vectors of %d dimensions",
                               prefix, building->width)));
    building->values = palloc(sizeof(float) * building->width);
    building->thread = pthread_self();
    building->row = AllocSetContextCreate(CurrentMemoryContext, "mrl insert", ALLOCSET_SMALL_SIZES);
    building->context =
        AllocSetContextCreate(CurrentMemoryContext, "mrl graph", ALLOCSET_SMALL_SIZES);
    before = MemoryContextSwitchTo(building->context);
    building->build = mrl_begin_build(index, (uint32)building->width, prefix, workers);
    MemoryContextSwitchTo(before);
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
    if (building.build != NULL)
        write_graph(&building);
    else
        mrl_link_waiting(index, 0, false);
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
