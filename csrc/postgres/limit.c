// How many rows a plan asks of a scan.
//
// The access method is not told of a LIMIT. But when a plan starts, its nodes can be looked at:
// below a LIMIT, a scan of ours is noted with what stands between the two. A filter or a join lets
// a share of rows through, as the planner estimates it; for k rows of a tenth, ten times k are
// asked for. The count itself is read when the scan begins, as only then a parameter has its value.
// A note lives as long as its plan's memory. Where there is none (a cursor without LIMIT, the
// recheck of a locked row), the scan begins as narrow as ever.
#include "mrl.h"

#include <math.h>

#include "access/relscan.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"

typedef struct Note {
    const LimitState* limit;
    const IndexScanState* scan;
    double factor;  // rows of the scan for each of the limit
    struct Note* next;
} Note;

static Note* notes = NULL;
static ExecutorStart_hook_type next_start = NULL;

static void forget_note(void* note) {
    for (Note** at = &notes; *at != NULL; at = &(*at)->next) {
        if (*at != note) continue;
        *at = (*at)->next;
        return;
    }
}

static void add_note(const LimitState* limit, const IndexScanState* scan, double factor) {
    MemoryContext context = limit->ps.state->es_query_cxt;
    Note* note = MemoryContextAlloc(context, sizeof *note);
    MemoryContextCallback* callback = MemoryContextAllocZero(context, sizeof *callback);

    *note = (Note){limit, scan, factor, notes};
    notes = note;
    callback->func = forget_note;
    callback->arg = note;
    MemoryContextRegisterResetCallback(context, callback);
}

static double rows_of(const PlanState* node) { return Max(node->plan->plan_rows, 1); }

// Goes down from a limit by nodes that ask for rows as they need them.
static void note_scans(const LimitState* limit, PlanState* node, double factor) {
    PlanState* child;

    if (node == NULL) return;
    switch (nodeTag(node)) {
        case T_IndexScanState: {
            IndexScanState* scan = (IndexScanState*)node;

            if (scan->iss_RelationDesc != NULL &&
                scan->iss_RelationDesc->rd_indam->amgettuple == mrl_gettuple)
                add_note(limit, scan, factor);
            return;
        }
        case T_AppendState:
            for (int i = 0; i < ((AppendState*)node)->as_nplans; ++i)
                note_scans(limit, ((AppendState*)node)->appendplans[i], factor);
            return;
        case T_MergeAppendState:
            for (int i = 0; i < ((MergeAppendState*)node)->ms_nplans; ++i)
                note_scans(limit, ((MergeAppendState*)node)->mergeplans[i], factor);
            return;
        case T_SubqueryScanState:
            child = ((SubqueryScanState*)node)->subplan;
            break;
        case T_ResultState:
        case T_LockRowsState:
        case T_ProjectSetState:
        case T_IncrementalSortState:
        case T_NestLoopState:
        case T_HashJoinState:
        case T_MemoizeState:
            child = outerPlanState(node);
            break;
        default:
            return;
    }
    if (child != NULL) note_scans(limit, child, factor * Max(1, rows_of(child) / rows_of(node)));
}

static bool note_limits(PlanState* node, void* context) {
    if (node == NULL) return false;
    if (IsA(node, LimitState)) note_scans((LimitState*)node, outerPlanState(node), 1);
    return planstate_tree_walker(node, note_limits, context);
}

static void start(QueryDesc* query, int flags) {
    if (next_start != NULL)
        next_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
    if ((flags & EXEC_FLAG_EXPLAIN_ONLY) == 0) note_limits(query->planstate, NULL);
}

void mrl_init_limit(void) {
    next_start = ExecutorStart_hook;
    ExecutorStart_hook = start;
}

// How many of an index's rows will be read, about, or 0 where nothing says so.
double mrl_rows_asked_for(IndexScanDesc desc, double slots) {
    for (const Note* note = notes; note != NULL; note = note->next) {
        const IndexScanState* scan = note->scan;
        double rows, factor;

        if (scan->iss_ScanDesc != desc) continue;
        if (note->limit->noCount) return 0;
        rows = (double)(note->limit->count + note->limit->offset);
        factor = note->factor;
        if (scan->ss.ps.qual != NULL) factor *= Max(1, slots / rows_of(&scan->ss.ps));
        // So many are rarely exceeded: three standard deviations.
        if (factor > 1) rows = (rows + 3 * sqrt(rows)) * factor;
        return Min(rows, slots);
    }
    return 0;
}
