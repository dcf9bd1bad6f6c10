// Distances in a plan that the index has found already.
//
// Where a statement orders by a distance, the plan computes it again for each row that comes out
// of the index, from the row's vector, which is read again from where it is toasted.
//
// One that is not returned (a column of its own, which the LIMIT above passes on and the executor
// drops in the end) becomes NULL: the index has ordered the rows, and nobody looks at it. One that
// is returned is asked of the scan first: its operator calls mrl_known_distance() in place of its
// own function. A toasted value is known by its number and never changes, so that it does not
// matter which scan has met it: with the same query, by the same function, it has the same
// distance.
#include "scan.h"

#include "access/detoast.h"
#include "access/relscan.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/planner.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

// What is known of a plan while it is looked at.
typedef struct Look {
    Oid method;          // of our indexes, once one was asked for
    List* operators;     // that scans of ours order by
    Oid known_distance;  // the function, or InvalidOid
} Look;

static planner_hook_type next_planner = NULL;

static bool is_ours(Oid index, Look* look) {
    HeapTuple row = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
    bool ours;

    if (!HeapTupleIsValid(row)) return false;
    if (!OidIsValid(look->method)) look->method = get_index_am_oid("mrl", true);
    ours = OidIsValid(look->method) && ((Form_pg_class)GETSTRUCT(row))->relam == look->method;
    ReleaseSysCache(row);
    return ours;
}

// Distances that nobody asks for

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

static void drop_distance(const Limit* limit, const IndexScan* scan) {
    ListCell* cell;

    if (limit->limitOption != LIMIT_OPTION_COUNT) return;
    foreach (cell, limit->plan.targetlist) {
        TargetEntry* below = dropped(lfirst(cell), scan);

        if (below != NULL) below->expr = (Expr*)makeNullConst(FLOAT8OID, -1, InvalidOid);
    }
}

// Distances that are returned

// The function that stands beside the access method's handler.
static Oid find_known_distance(Oid method) {
    const Oid any[] = {ANYOID, ANYOID};
    HeapTuple row = SearchSysCache1(AMOID, ObjectIdGetDatum(method));
    Oid space;

    if (!HeapTupleIsValid(row)) return InvalidOid;
    space = get_func_namespace(((Form_pg_am)GETSTRUCT(row))->amhandler);
    ReleaseSysCache(row);
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("mrl_known_distance"),
                           PointerGetDatum(buildoidvector(any, lengthof(any))),
                           ObjectIdGetDatum(space));
}

static bool may_execute(Oid function) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static bool ask_scans(Node* node, void* context) {
    const Look* look = context;

    if (node == NULL) return false;
    if (IsA(node, OpExpr) && list_member_oid(look->operators, ((OpExpr*)node)->opno))
        ((OpExpr*)node)->opfuncid = look->known_distance;
    return expression_tree_walker(node, ask_scans, context);
}

// The one of two arguments that lies in a TOAST table, or -1; and where.
static int toasted_argument(FunctionCallInfo fcinfo, struct varatt_external* pointer) {
    for (int i = 0; i < 2; ++i) {
        const void* value = DatumGetPointer(PG_GETARG_DATUM(i));

        if (!VARATT_IS_EXTERNAL_ONDISK(value)) continue;
        VARATT_EXTERNAL_GET_POINTER(*pointer, value);
        return i;
    }
    return -1;
}

static bool is_query(const MrlScan* scan, Datum query) {
    const struct varlena *ours = (const void*)DatumGetPointer(scan->query),
                         *theirs = (const void*)DatumGetPointer(query);

    return ours != NULL &&
           (ours == theirs || (!VARATT_IS_EXTENDED(theirs) && VARSIZE(ours) == VARSIZE(theirs) &&
                               memcmp(ours, theirs, VARSIZE(ours)) == 0));
}

PG_FUNCTION_INFO_V1(mrl_known_distance);
Datum mrl_known_distance(PG_FUNCTION_ARGS) {
    FmgrInfo* function = fcinfo->flinfo->fn_extra;
    struct varatt_external pointer;
    int toasted;

    if (function == NULL) {
        const Node* called = fcinfo->flinfo->fn_expr;

        if (called == NULL || !IsA(called, OpExpr))
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("mrl_known_distance() is called by plans alone")));
        function = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof *function);
        fmgr_info_cxt(get_opcode(((const OpExpr*)called)->opno), function, fcinfo->flinfo->fn_mcxt);
        fcinfo->flinfo->fn_extra = function;
    }
    toasted = toasted_argument(fcinfo, &pointer);
    if (toasted >= 0) {
        IndexScanDesc desc = mrl_scan_that_returned(pointer.va_toastrelid, pointer.va_valueid);
        const MrlScan* scan = desc == NULL ? NULL : desc->opaque;

        if (scan != NULL && scan->distance->fn_oid == function->fn_oid &&
            is_query(scan, PG_GETARG_DATUM(1 - toasted)))
            PG_RETURN_FLOAT8(scan->row_out.distance);
    }
    return FunctionCall2Coll(function, PG_GET_COLLATION(), PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
}

// Plans

typedef void (*Visit)(Plan* plan, Look* look);

static void visit_all(Plan* plan, Visit visit, Look* look) {
    ListCell* cell;

    if (plan == NULL) return;
    visit(plan, look);
    visit_all(plan->lefttree, visit, look);
    visit_all(plan->righttree, visit, look);
    if (IsA(plan, SubqueryScan)) visit_all(((SubqueryScan*)plan)->subplan, visit, look);
    if (IsA(plan, Append))
        foreach (cell, ((Append*)plan)->appendplans) visit_all(lfirst(cell), visit, look);
    if (IsA(plan, MergeAppend))
        foreach (cell, ((MergeAppend*)plan)->mergeplans) visit_all(lfirst(cell), visit, look);
}

static bool is_ordered_by_us(const Plan* plan, Look* look) {
    return plan != NULL && IsA(plan, IndexScan) &&
           ((const IndexScan*)plan)->indexorderbyorig != NIL &&
           is_ours(((const IndexScan*)plan)->indexid, look);
}

static void visit_scan(Plan* plan, Look* look) {
    if (is_ordered_by_us(plan, look)) {
        const Node* order = linitial(((IndexScan*)plan)->indexorderbyorig);

        if (IsA(order, OpExpr))
            look->operators = list_append_unique_oid(look->operators, ((const OpExpr*)order)->opno);
    }
    if (IsA(plan, Limit) && is_ordered_by_us(plan->lefttree, look))
        drop_distance((Limit*)plan, (IndexScan*)plan->lefttree);
}

static void visit_columns(Plan* plan, Look* look) { ask_scans((Node*)plan->targetlist, look); }

static void visit_statement(PlannedStmt* planned, Visit visit, Look* look) {
    ListCell* cell;

    visit_all(planned->planTree, visit, look);
    foreach (cell, planned->subplans) visit_all(lfirst(cell), visit, look);
}

static PlannedStmt* plan(Query* query, const char* text, int options, ParamListInfo parameters) {
    PlannedStmt* planned = next_planner != NULL
                               ? next_planner(query, text, options, parameters)
                               : standard_planner(query, text, options, parameters);
    Look look = {0};

    visit_statement(planned, visit_scan, &look);
    // The executor asks whether the role may call what stands in a plan.
    if (look.operators != NIL) look.known_distance = find_known_distance(look.method);
    if (OidIsValid(look.known_distance) && !may_execute(look.known_distance))
        look.known_distance = InvalidOid;
    if (OidIsValid(look.known_distance)) visit_statement(planned, visit_columns, &look);
    list_free(look.operators);
    return planned;
}

void mrl_init_distances(void) {
    next_planner = planner_hook;
    planner_hook = plan;
}
