// Distances that nobody asks for.
//
// Where a statement orders by a distance that it does not return, the plan still computes it for
// each row that comes out of the index: a column of its own, which the LIMIT above passes on and
// the executor drops in the end. The index has ordered the rows; nobody looks at that column, but
// it reads the vector again, from where it is toasted. So it becomes NULL.
#include "mrl.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/planner.h"
#include "utils/syscache.h"

static planner_hook_type next_planner = NULL;

static bool is_ours(Oid index, Oid* method) {
    HeapTuple row = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
    bool ours;

    if (!HeapTupleIsValid(row)) return false;
    if (!OidIsValid(*method)) *method = get_index_am_oid("mrl", true);
    ours = OidIsValid(*method) && ((Form_pg_class)GETSTRUCT(row))->relam == *method;
    ReleaseSysCache(row);
    return ours;
}

// Whether a column of a limit is dropped by the executor: its entry in the scan's list, or NULL.
static TargetEntry* dropped(const TargetEntry* entry, const IndexScan* scan) {
    const Var* var = (const Var*)entry->expr;
    TargetEntry* below;

    if (!entry->resjunk || !IsA(var, Var) || var->varno != OUTER_VAR || var->varattno < 1 ||
        var->varattno > list_length(scan->scan.plan.targetlist))
        return NULL;
    below = list_nth(scan->scan.plan.targetlist, var->varattno - 1);
    return below->resjunk && equal(below->expr, linitial(scan->indexorderbyorig)) ? below : NULL;
}

static void drop_distance(const Limit* limit, IndexScan* scan, Oid* method) {
    ListCell* cell;

    if (scan->indexorderbyorig == NIL || limit->limitOption != LIMIT_OPTION_COUNT ||
        !is_ours(scan->indexid, method))
        return;
    foreach (cell, limit->plan.targetlist) {
        TargetEntry* below = dropped(lfirst(cell), scan);

        if (below != NULL) below->expr = (Expr*)makeNullConst(FLOAT8OID, -1, InvalidOid);
    }
}

static void look_at(Plan* plan, Oid* method) {
    ListCell* cell;

    if (plan == NULL) return;
    if (IsA(plan, Limit) && plan->lefttree != NULL && IsA(plan->lefttree, IndexScan))
        drop_distance((Limit*)plan, (IndexScan*)plan->lefttree, method);
    look_at(plan->lefttree, method);
    look_at(plan->righttree, method);
    if (IsA(plan, SubqueryScan)) look_at(((SubqueryScan*)plan)->subplan, method);
    if (IsA(plan, Append))
        foreach (cell, ((Append*)plan)->appendplans) look_at(lfirst(cell), method);
}

static PlannedStmt* plan(Query* query, const char* text, int options, ParamListInfo parameters) {
    PlannedStmt* planned = next_planner != NULL
                               ? next_planner(query, text, options, parameters)
                               : standard_planner(query, text, options, parameters);
    Oid method = InvalidOid;
    ListCell* cell;

    look_at(planned->planTree, &method);
    foreach (cell, planned->subplans) look_at(lfirst(cell), &method);
    return planned;
}

void mrl_init_junk(void) {
    next_planner = planner_hook;
    planner_hook = plan;
}
