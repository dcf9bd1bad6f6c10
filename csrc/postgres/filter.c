// Filters on INCLUDE columns, asked of the index before the table is looked at.
//
// Only what may be asked of any row is: conditions whose functions are leakproof, as those of
// comparisons of numbers, dates and text are. They raise no error, tell nobody of a row that a
// policy hides, and so may come before it, and before the snapshot. What they let through, the
// whole filter is asked of again.
//
// A column compared with a value is asked without the executor: integers and dates as ranges, a
// few instructions a row, others by the operator's function. What is left (OR, IN, IS NULL) is an
// expression over a row that has the included columns alone.
#include "filter.h"

#include "access/sysattr.h"
#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "port/pg_bitutils.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

// Which conditions

static bool has_other_nodes(Node* node, void* context) {
    if (node == NULL) return false;
    if (IsA(node, CurrentOfExpr) || IsA(node, Aggref) || IsA(node, WindowFunc)) return true;
    return expression_tree_walker(node, has_other_nodes, context);
}

// Whether a condition is about included columns alone, and may be asked of any row. included:
// attribute numbers, as pull_varattnos() has them.
bool mrl_is_answered(Node* clause, Index relation, const Bitmapset* included) {
    Bitmapset* used = NULL;
    bool answered;

    pull_varattnos(clause, relation, &used);
    answered = !bms_is_empty(used) && bms_is_subset(used, included) &&
               !contain_volatile_functions(clause) && !contain_subplans(clause) &&
               !contain_leaked_vars(clause) && !has_other_nodes(clause, NULL);
    bms_free(used);
    return answered;
}

static int column_of(const MrlIncluded* included, const Node* node) {
    if (IsA(node, RelabelType)) node = (const Node*)((const RelabelType*)node)->arg;
    if (!IsA(node, Var)) return -1;
    for (int i = 0; i < included->n; ++i)
        if (included->columns[i].attnum == ((const Var*)node)->varattno) return i;
    return -1;
}

// The B-tree strategy of an operator of integers, or of two dates or times of one type; 0: none.
static int strategy_of(const OpExpr* op, Oid left, Oid right) {
    int strategy = get_op_opfamily_strategy(op->opno, INTEGER_BTREE_FAM_OID);
    bool times = left == DATEOID || left == TIMESTAMPOID || left == TIMESTAMPTZOID;

    if (strategy == 0 && times && left == right)
        strategy = get_op_opfamily_strategy(
            op->opno, lookup_type_cache(left, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
    return strategy;
}

// Returns false for a condition that is no comparison of a column with a value.
static bool add_comparison(MrlFilter* filter, Node* clause) {
    OpExpr* op = (OpExpr*)clause;
    Node *left, *right, *value;
    bool at_left;
    int column, strategy;
    Oid type;

    if (!IsA(clause, OpExpr) || list_length(op->args) != 2) return false;
    left = linitial(op->args);
    right = lsecond(op->args);
    at_left = column_of(&filter->included, left) >= 0;
    value = at_left ? right : left;
    column = column_of(&filter->included, at_left ? left : right);
    if (column < 0 || contain_var_clause(value)) return false;
    type = exprType(value);
    strategy = strategy_of(op, exprType(left), exprType(right));
    if (strategy != 0 && IsA(at_left ? left : right, Var)) {
        filter->ranges[filter->n_ranges++] =
            (MrlRange){.column = column,
                       .length = filter->included.columns[column].length,
                       .strategy = at_left ? strategy : BTMaxStrategyNumber + 1 - strategy,
                       .type = type,
                       .value = ExecInitExpr((Expr*)value, NULL)};
        return true;
    }
    if (!func_strict(op->opfuncid)) return false;
    {
        FmgrInfo* function = palloc(sizeof *function);
        MrlCall* call = &filter->calls[filter->n_calls++];

        fmgr_info(op->opfuncid, function);
        fmgr_info_set_expr(clause, function);
        *call = (MrlCall){column, at_left, ExecInitExpr((Expr*)value, NULL),
                          palloc0(SizeForFunctionCallInfo(2))};
        InitFunctionCallInfoData(*call->call, function, 2, op->inputcollid, NULL, NULL);
    }
    return true;
}

// The columns that are asked: of an item, these alone are read.
static void note_asked(MrlFilter* filter) {
    bool asked[INDEX_MAX_KEYS] = {0};

    for (int i = 0; i < filter->n_ranges; ++i) asked[filter->ranges[i].column] = true;
    for (int i = 0; i < filter->n_calls; ++i) asked[filter->calls[i].column] = true;
    for (int i = 0; i < filter->included.n; ++i) {
        if (!asked[i] && !filter->in_rest[i]) continue;
        filter->asked.of[filter->asked.n++] = mrl_state_piece(i);
        if (filter->included.columns[i].kept)
            filter->asked.of[filter->asked.n++] = filter->included.columns[i].value;
    }
}

// The filter of a scan as far as it is answered, or NULL.
MrlFilter* mrl_make_filter(Relation index, Relation heap, IndexScanState* scan) {
    const MrlIncluded included = mrl_included_of(index);
    Index relation = ((Scan*)scan->ss.ps.plan)->scanrelid;
    List *answered = NIL, *rest = NIL;
    Bitmapset *attributes = NULL, *used = NULL;
    MemoryContext before;
    MrlFilter* filter;
    ListCell* cell;

    if (included.n == 0) return NULL;
    for (int i = 0; i < included.n; ++i)
        attributes = bms_add_member(
            attributes, included.columns[i].attnum - FirstLowInvalidHeapAttributeNumber);
    before = MemoryContextSwitchTo(scan->ss.ps.state->es_query_cxt);
    foreach (cell, scan->ss.ps.plan->qual)
        if (mrl_is_answered(lfirst(cell), relation, attributes))
            answered = lappend(answered, lfirst(cell));
    if (answered == NIL) {
        MemoryContextSwitchTo(before);
        return NULL;
    }
    filter = palloc0(sizeof *filter);
    filter->included = included;
    filter->scan = scan;
    filter->ranges = palloc0(sizeof(MrlRange) * list_length(answered));
    filter->calls = palloc0(sizeof(MrlCall) * list_length(answered));
    foreach (cell, answered)
        if (!add_comparison(filter, lfirst(cell))) rest = lappend(rest, lfirst(cell));
    filter->rest = ExecInitQual(rest, NULL);
    filter->in_rest = palloc0(sizeof(bool) * included.n);
    pull_varattnos((Node*)rest, relation, &used);
    for (int i = 0; i < included.n; ++i)
        filter->in_rest[i] =
            bms_is_member(included.columns[i].attnum - FirstLowInvalidHeapAttributeNumber, used);
    note_asked(filter);
    // A copy, as nobody would give back a reference to the table's own.
    filter->row =
        MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(heap)), &TTSOpsVirtual);
    filter->item = palloc0(included.bytes);
    MemoryContextSwitchTo(before);
    return filter;
}

// Values, as they are when a scan begins

static int64 integer_of(Datum value, Oid type) {
    switch (type) {
        case INT2OID:
            return DatumGetInt16(value);
        case INT4OID:
        case DATEOID:
            return DatumGetInt32(value);
        default:
            return DatumGetInt64(value);
    }
}

static void begin_range(MrlRange* range, ExprContext* context) {
    bool null;
    Datum datum = ExecEvalExpr(range->value, context, &null);
    int64 value = null ? 0 : integer_of(datum, range->type);

    range->low = PG_INT64_MIN;
    range->high = PG_INT64_MAX;
    if (null || (range->strategy == BTLessStrategyNumber && value == PG_INT64_MIN) ||
        (range->strategy == BTGreaterStrategyNumber && value == PG_INT64_MAX)) {
        range->low = 1;
        range->high = 0;
        return;
    }
    switch (range->strategy) {
        case BTLessStrategyNumber:
            range->high = value - 1;
            break;
        case BTLessEqualStrategyNumber:
            range->high = value;
            break;
        case BTEqualStrategyNumber:
            range->low = range->high = value;
            break;
        case BTGreaterEqualStrategyNumber:
            range->low = value;
            break;
        default:
            range->low = value + 1;
            break;
    }
}

// Called in the memory that the values are to live in.
void mrl_begin_filter(MrlFilter* filter) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;

    for (int i = 0; i < filter->n_ranges; ++i) begin_range(&filter->ranges[i], context);
    for (int i = 0; i < filter->n_calls; ++i) {
        MrlCall* call = &filter->calls[i];
        NullableDatum* value = &call->call->args[call->at_left ? 1 : 0];

        value->value = ExecEvalExpr(call->value, context, &value->isnull);
        call->call->args[call->at_left ? 0 : 1].isnull = false;
    }
}
