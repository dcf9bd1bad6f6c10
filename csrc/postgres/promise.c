// The recall that an index promises, the effort that keeps it, and how far searches walk by
// default.
//
// When a graph is made WITH (recall = …), some of its rows are asked for as if they were none of
// them, and walks of rising efforts are measured against all rows (graph/effort_recall.hpp). What
// was found stays with the index. Where it is made without recall or effort, a few rows are asked
// for, and it keeps the effort by which enough of their answers are found. A search takes, in this
// order: the index's own effort; the setting mrl.effort; the least effort that is proven for
// mrl.recall, or for the index's recall; the one that was chosen.
#include "mrl.h"

#include "access/relation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

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

size_t mrl_default_effort(const MrlIndex* index) {
    const MrlChosen* chosen = mrl_reader_chosen(index->reader);
    size_t half = index->meta.slots / (2 * MRL_LINES_A_HOP) + 1;  // all lines are looked at

    if (chosen->queries == 0) return MRL_DEFAULT_EFFORT;
    return chosen->scans ? Max(chosen->effort, half) : chosen->effort;
}

size_t mrl_effort_of(Relation rel, const MrlIndex* index) {
    const MrlOptions* options = (const MrlOptions*)rel->rd_options;
    double recall = mrl_recall > 0 ? mrl_recall : promised_recall(rel);
    const MrlEffortRecall* proven = NULL;

    if (options != NULL && options->effort > 0) return options->effort;
    if (mrl_effort > 0) return mrl_effort;
    if (recall > 0) proven = effort_for(mrl_reader_evidence(index->reader), recall);
    return Max(proven == NULL ? mrl_default_effort(index) : proven->effort,
               (size_t)mrl_least_effort);
}

// Lines that do not tell rows apart are of no use: searches look at whole codes then.
static void warn_of_codes(Relation rel, const MrlChosen* chosen, uint32 slots) {
    if (chosen->effort <= MRL_DEFAULT_EFFORT || chosen->effort < slots / (2 * MRL_LINES_A_HOP) + 1)
        return;
    ereport(WARNING,
            (errmsg("index \"%s\" cannot tell rows apart by the short codes that it walks by: a "
                    "search looks at all of these, and at %zu long ones",
                    RelationGetRelationName(rel), Min(mrl_keep_of_effort(chosen->effort), slots)),
             errdetail("Measured by %u rows, it finds %.3f of the ten nearest.", chosen->queries,
                       chosen->recall),
             errhint("One row that lies far away from all others can be the reason: without it, "
                     "REINDEX.")));
}

// Of a graph that was made just now: whether it finds as much as it should.
void mrl_warn_of_recall(Relation rel, const MrlBuild* build) {
    const MrlEvidence* evidence = mrl_build_evidence(build);
    double recall = promised_recall(rel);
    const MrlEffortRecall* best = effort_for(evidence, recall);

    warn_of_codes(rel, mrl_build_chosen(build), mrl_build_meta(build)->slots);
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
    const MrlEvidence* evidence;
    MrlIndex* index;
    StringInfoData json;

    if (rel == NULL) PG_RETURN_NULL();
    index = mrl_open(rel);
    evidence = mrl_reader_evidence(index->reader);
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
