// The recall that an index promises, and the effort that keeps it.
//
// When a graph is made WITH (recall = …), some of its rows are asked for as if they were none of
// them, and walks of rising efforts are measured against all rows (graph/effort_recall.hpp). What
// was found stays with the index. A search takes, in this order: the index's own effort; the
// setting mrl.effort where somebody set it; the least effort that is proven for mrl.recall, or for
// the index's recall; mrl.effort's default.
#include "mrl.h"

#include "access/relation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

static bool effort_is_set = false;

// Whether somebody has set mrl.effort goes with its value, so that RESET and the end of a
// transaction know it too.
bool mrl_note_effort(int* effort, void** extra, GucSource source) {
    bool* is_set;

#if PG_VERSION_NUM >= 160000
    is_set = guc_malloc(LOG, sizeof *is_set);
#else
    is_set = malloc(sizeof *is_set);
#endif
    if (is_set == NULL) return false;
    *is_set = source > PGC_S_DYNAMIC_DEFAULT;
    *extra = is_set;
    return true;
}

void mrl_take_effort(int effort, void* extra) { effort_is_set = *(const bool*)extra; }

static double promised_recall(Relation rel) {
    const MrlOptions* options = (const MrlOptions*)rel->rd_options;

    return options == NULL ? 0 : options->recall;
}

// The least effort that is proven for a recall; where none is, the greatest that was measured.
// NULL where nothing was.
static const MrlEffortRecall* effort_for(const MrlEvidence* evidence, double recall) {
    for (uint32 i = 0; i < evidence->n; ++i)
        if (evidence->of[i].lower >= recall) return &evidence->of[i];
    return evidence->n == 0 ? NULL : &evidence->of[evidence->n - 1];
}

size_t mrl_effort_of(Relation rel, const MrlIndex* index) {
    const MrlOptions* options = (const MrlOptions*)rel->rd_options;
    double recall = mrl_recall > 0 ? mrl_recall : promised_recall(rel);
    const MrlEffortRecall* proven;

    if (options != NULL && options->effort > 0) return options->effort;
    if (effort_is_set || recall <= 0) return mrl_effort;
    proven = effort_for(mrl_reader_evidence(index->reader), recall);
    return proven == NULL ? mrl_effort : proven->effort;
}

void mrl_warn_of_recall(Relation rel, const MrlEvidence* evidence) {
    double recall = promised_recall(rel);
    const MrlEffortRecall* best = effort_for(evidence, recall);

    if (best == NULL || best->lower >= recall) return;
    ereport(
        WARNING,
        (errmsg("index \"%s\" was asked for recall %g, and %.4f is proven by %u rows at an "
                "effort of %u, the greatest that was measured",
                RelationGetRelationName(rel), recall, best->lower, evidence->queries, best->effort),
         errdetail("Measured was %.4f.", best->mean)));
}

// What an index promises and what that rests on, as JSON; NULL where nothing was measured.
PG_FUNCTION_INFO_V1(mrl_promise);
Datum mrl_promise(PG_FUNCTION_ARGS) {
    Relation rel = mrl_open_named(PG_GETARG_OID(0), AccessShareLock);
    MrlIndex* index = mrl_open(rel);
    const MrlEvidence* evidence = mrl_reader_evidence(index->reader);
    StringInfoData json;

    if (evidence->n == 0) {
        index_close(rel, AccessShareLock);
        PG_RETURN_NULL();
    }
    initStringInfo(&json);
    appendStringInfo(
        &json, "{\"recall\": %g, \"effort\": %zu, \"queries\": %u, \"rows\": %u, \"measured\": [",
        promised_recall(rel), mrl_effort_of(rel, index), evidence->queries, index->meta.fitted);
    for (uint32 i = 0; i < evidence->n; ++i)
        appendStringInfo(&json, "%s{\"effort\": %u, \"recall\": %.5f, \"lower_bound\": %.5f}",
                         i == 0 ? "" : ", ", evidence->of[i].effort, evidence->of[i].mean,
                         evidence->of[i].lower);
    appendStringInfoString(&json, "]}");
    index_close(rel, AccessShareLock);
    PG_RETURN_TEXT_P(cstring_to_text(json.data));
}
