// What a plan says of a scan: how many rows it asks for, and which rows pass.
//
// The access method is not told of a LIMIT, nor of a filter. But when a plan starts, its nodes can
// be looked at: each scan of ours is noted. Below a LIMIT, what stands between the two is noted
// too: a filter or a join lets a share of rows through, as the planner estimates it; for k rows of
// a tenth, ten times k are asked for. The count itself is read when the scan begins, as only then a
// parameter has its value.
//
// The scan's filter is asked of each row before its vector is read, all of it and in its order, so
// that what a policy hides is hidden from the conditions after it; the executor asks again of the
// rows that pass. A filter with a volatile function is the executor's alone, as it would be asked
// twice.
//
// A note lives as long as its plan's memory. Where there is none (the recheck of a locked row), the
// scan begins as narrow as ever, and leaves all filtering to the executor.
#include "scan.h"

#include <math.h>

#include "access/relscan.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"

typedef struct MrlNote {
    IndexScanState* scan;
    const LimitState* limit;  // or NULL
    double factor;            // rows of the scan for each of the limit
    bool filters;             // the scan's filter may be asked by us
    bool has_filter;          // the next is what it is
    MrlFilter* filter;        // what INCLUDE columns answer, or NULL
    IndexScanDesc running;    // or NULL
    struct MrlNote* next;
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

static bool is_ours(const IndexScanState* scan) {
    return scan->iss_RelationDesc != NULL &&
           scan->iss_RelationDesc->rd_indam->amgettuple == mrl_gettuple;
}

static void add_note(IndexScanState* scan) {
    MemoryContext context = scan->ss.ps.state->es_query_cxt;
    Note* note = MemoryContextAlloc(context, sizeof *note);
    MemoryContextCallback* callback = MemoryContextAllocZero(context, sizeof *callback);
    const List* qual = scan->ss.ps.plan->qual;

    *note = (Note){.scan = scan,
                   .filters = qual != NIL && !mrl_is_volatile((Node*)qual, scan->ss.ps.state),
                   .next = notes};
    notes = note;
    callback->func = forget_note;
    callback->arg = note;
    MemoryContextRegisterResetCallback(context, callback);
}

static void note_limit(const LimitState* limit, const IndexScanState* scan, double factor) {
    for (Note* note = notes; note != NULL; note = note->next) {
        if (note->scan != scan) continue;
        note->limit = limit;
        note->factor = factor;
        return;
    }
}

static double rows_of(const PlanState* node) { return Max(node->plan->plan_rows, 1); }

// Goes down from a limit by nodes that ask for rows as they need them.
static void note_scans(const LimitState* limit, PlanState* node, double factor) {
    PlanState* child;

    if (node == NULL) return;
    switch (nodeTag(node)) {
        case T_IndexScanState:
            if (is_ours((IndexScanState*)node)) note_limit(limit, (IndexScanState*)node, factor);
            return;
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

static bool note_all_scans(PlanState* node, void* context) {
    if (node == NULL) return false;
    if (IsA(node, IndexScanState) && is_ours((IndexScanState*)node))
        add_note((IndexScanState*)node);
    return planstate_tree_walker(node, note_all_scans, context);
}

static bool note_limits(PlanState* node, void* context) {
    if (node == NULL) return false;
    if (IsA(node, LimitState)) note_scans((LimitState*)node, outerPlanState(node), 1);
    return planstate_tree_walker(node, note_limits, context);
}

static void start(QueryDesc* query, int flags) {
    const Note* before = notes;

    if (next_start != NULL)
        next_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
    if ((flags & EXEC_FLAG_EXPLAIN_ONLY) != 0) return;
    note_all_scans(query->planstate, NULL);
    if (notes != before) note_limits(query->planstate, NULL);
}

void mrl_init_limit(void) {
    next_start = ExecutorStart_hook;
    ExecutorStart_hook = start;
}

// The note of a scan that begins, or NULL.
const MrlNote* mrl_note_of(IndexScanDesc desc) {
    for (Note* note = notes; note != NULL; note = note->next) {
        if (note->scan->iss_ScanDesc != desc) continue;
        note->running = desc;
        return note;
    }
    return NULL;
}

void mrl_scan_ends(IndexScanDesc desc) {
    for (Note* note = notes; note != NULL; note = note->next)
        if (note->running == desc) note->running = NULL;
}

// The scan that returned this value of a TOAST table last, or NULL.
IndexScanDesc mrl_scan_that_returned(Oid toast, Oid value) {
    for (const Note* note = notes; note != NULL; note = note->next) {
        IndexScanDesc desc = note->running;

        if (desc != NULL && ((const MrlScan*)desc->opaque)->row_out.value == value &&
            desc->heapRelation->rd_rel->reltoastrelid == toast)
            return desc;
    }
    return NULL;
}

// How many of an index's rows a scan has to visit for `k` that pass, when one of `factor` does: so
// many are rarely exceeded, two standard deviations beyond what is expected.
double mrl_rows_to_visit(double k, double factor) {
    return (k + 2 * sqrt(k * (1 - 1 / factor))) * factor;
}

// How many of an index's rows are expected to be read, or 0 where nothing says so; `most`: where a
// filter or a join makes it a matter of chance, how many are rarely exceeded, else 0.
// share: of the rows that come to the scan's filter, how many pass it.
double mrl_rows_asked_for(const MrlNote* note, double slots, double share, double* most) {
    double factor, k;

    *most = 0;
    if (note == NULL || note->limit == NULL || note->limit->noCount) return 0;
    factor = note->factor / share;
    k = (double)(note->limit->count + note->limit->offset);
    if (factor > 1) *most = Min(mrl_rows_to_visit(k, factor), slots);
    return Min(k * factor, slots);
}

// What INCLUDE columns answer of the scan's filter, with its values as they are now, or NULL.
MrlFilter* mrl_filter_of(const MrlNote* const_note, IndexScanDesc desc) {
    Note* note = (Note*)const_note;

    if (note == NULL || note->scan->ss.ps.qual == NULL) return NULL;
    if (!note->has_filter) {
        note->filter = mrl_make_filter(desc->indexRelation, desc->heapRelation, note->scan);
        note->has_filter = true;
    }
    if (note->filter != NULL) mrl_begin_filter(note->filter);
    return note->filter;
}

// The share of an index's rows that pass the scan's filter, as the planner estimates it.
double mrl_share_of(const MrlNote* note, double slots) {
    if (note == NULL || note->scan->ss.ps.qual == NULL) return 1;
    return Min(1, rows_of(&note->scan->ss.ps) / Max(slots, 1));
}

// Whether a row of the table may pass the scan's filter.
bool mrl_note_filters(const MrlNote* note) { return note != NULL && note->filters; }

bool mrl_row_passes(const MrlNote* note, TupleTableSlot* row) {
    ExprContext* context;
    bool passes;

    if (!mrl_note_filters(note)) return true;
    context = note->scan->ss.ps.ps_ExprContext;
    context->ecxt_scantuple = row;
    passes = ExecQualAndReset(note->scan->ss.ps.qual, context);
    if (!passes) InstrCountFiltered1(note->scan, 1);
    return passes;
}
