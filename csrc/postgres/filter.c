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
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

typedef struct Range {
    int column, length;
    int strategy;  // of a B-tree, the column at the left
    Oid type;      // of the value
    ExprState* value;
    int64 low, high;
} Range;

typedef struct Call {
    int column;
    bool at_left;
    ExprState* value;
    FunctionCallInfo call;
} Call;

struct MrlFilter {
    MrlIncluded included;
    IndexScanState* scan;
    Range* ranges;
    Call* calls;
    int n_ranges, n_calls;
    ExprState* rest;  // or NULL
    bool* in_rest;    // the columns that it needs
    TupleTableSlot* row;
    uint8* item;
};

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
            (Range){.column = column,
                    .length = filter->included.columns[column].length,
                    .strategy = at_left ? strategy : BTMaxStrategyNumber + 1 - strategy,
                    .type = type,
                    .value = ExecInitExpr((Expr*)value, NULL)};
        return true;
    }
    if (!func_strict(op->opfuncid)) return false;
    {
        FmgrInfo* function = palloc(sizeof *function);
        Call* call = &filter->calls[filter->n_calls++];

        fmgr_info(op->opfuncid, function);
        fmgr_info_set_expr(clause, function);
        *call = (Call){column, at_left, ExecInitExpr((Expr*)value, NULL),
                       palloc0(SizeForFunctionCallInfo(2))};
        InitFunctionCallInfoData(*call->call, function, 2, op->inputcollid, NULL, NULL);
    }
    return true;
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
    filter->ranges = palloc0(sizeof(Range) * list_length(answered));
    filter->calls = palloc0(sizeof(Call) * list_length(answered));
    foreach (cell, answered)
        if (!add_comparison(filter, lfirst(cell))) rest = lappend(rest, lfirst(cell));
    filter->rest = ExecInitQual(rest, NULL);
    filter->in_rest = palloc0(sizeof(bool) * included.n);
    pull_varattnos((Node*)rest, relation, &used);
    for (int i = 0; i < included.n; ++i)
        filter->in_rest[i] =
            bms_is_member(included.columns[i].attnum - FirstLowInvalidHeapAttributeNumber, used);
    // A copy, as nobody would give back a reference to the table's own.
    filter->row =
        MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(heap)), &TTSOpsVirtual);
    filter->item = palloc(included.bytes);
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

static void begin_range(Range* range, ExprContext* context) {
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
        Call* call = &filter->calls[i];
        NullableDatum* value = &call->call->args[call->at_left ? 1 : 0];

        value->value = ExecEvalExpr(call->value, context, &value->isnull);
        call->call->args[call->at_left ? 0 : 1].isnull = false;
    }
}

// Asking

#define KEEP_IN_RANGE(type)                                                          \
    for (uint32 i = 0; i < n; ++i) {                                                 \
        const uint8* item = items + (Size)which[i] * bytes;                          \
        uint8 state = item[range->column];                                           \
        type value;                                                                  \
        memcpy(&value, item + offset, sizeof value);                                 \
        which[kept] = which[i];                                                      \
        kept += state == MRL_UNKNOWN ||                                              \
                (state == MRL_VALUE && low <= (int64)value && (int64)value <= high); \
    }

static uint32 keep_in_range(const MrlFilter* filter, const Range* range, const uint8* items,
                            uint32 n, uint32* which) {
    const Size bytes = filter->included.bytes,
               offset = filter->included.columns[range->column].offset;
    const int64 low = range->low, high = range->high;
    uint32 kept = 0;

    if (range->length == sizeof(int16)) {
        KEEP_IN_RANGE(int16)
    } else if (range->length == sizeof(int32)) {
        KEEP_IN_RANGE(int32)
    } else {
        KEEP_IN_RANGE(int64)
    }
    return kept;
}

static bool call_says(const MrlFilter* filter, const Call* call, const uint8* item) {
    FunctionCallInfo info = call->call;
    Datum result;

    if (item[call->column] == MRL_UNKNOWN) return true;
    if (item[call->column] == MRL_NULL || info->args[call->at_left ? 1 : 0].isnull) return false;
    info->args[call->at_left ? 0 : 1].value =
        mrl_included_value(&filter->included.columns[call->column], item);
    info->isnull = false;
    result = FunctionCallInvoke(info);
    return !info->isnull && DatumGetBool(result);
}

static bool rest_says(const MrlFilter* filter, const uint8* item) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    TupleTableSlot* row = ExecClearTuple(filter->row);

    memset(row->tts_isnull, true, sizeof(bool) * (Size)row->tts_tupleDescriptor->natts);
    for (int i = 0; i < filter->included.n; ++i) {
        const MrlColumn* column = &filter->included.columns[i];

        if (!filter->in_rest[i]) continue;
        if (item[i] == MRL_UNKNOWN) return true;
        row->tts_isnull[column->attnum - 1] = item[i] == MRL_NULL;
        if (item[i] == MRL_VALUE)
            row->tts_values[column->attnum - 1] = mrl_included_value(column, item);
    }
    context->ecxt_scantuple = ExecStoreVirtualTuple(row);
    return ExecQual(filter->rest, context);
}

// Which of n items may pass, as numbers that rise; returns how many.
uint32 mrl_filter_items(MrlFilter* filter, const uint8* items, uint32 n, uint32* which) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    uint32 kept = 0, all = n;
    MemoryContext before;

    for (uint32 i = 0; i < n; ++i) which[i] = i;
    for (int i = 0; i < filter->n_ranges; ++i)
        n = keep_in_range(filter, &filter->ranges[i], items, n, which);
    if (filter->n_calls != 0 || filter->rest != NULL) {
        before = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
        for (uint32 i = 0; i < n; ++i) {
            const uint8* item = items + (Size)which[i] * filter->included.bytes;
            bool passes = true;

            for (int c = 0; passes && c < filter->n_calls; ++c)
                passes = call_says(filter, &filter->calls[c], item);
            if (passes && filter->rest != NULL) passes = rest_says(filter, item);
            which[kept] = which[i];
            kept += passes;
        }
        MemoryContextSwitchTo(before);
        ResetExprContext(context);
        n = kept;
    }
    InstrCountFiltered1(filter->scan, all - n);
    return n;
}

bool mrl_slot_may_pass(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 slot) {
    uint32 which;

    mrl_read_item(rel, index, slot, filter->item);
    return mrl_filter_items(filter, filter->item, 1, &which) == 1;
}

// The slots of all rows that may pass, or NULL where they are more than `most`.
uint32* mrl_gather_passing(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 most,
                           uint32* n) {
    uint32 each = mrl_items_per_page(filter->included.bytes), slots = index->meta.slots;
    uint32 *passing = palloc(sizeof(uint32) * ((Size)most + each)),
           *which = palloc(sizeof(uint32) * each);
    PGAlignedBlock page;

    *n = 0;
    for (uint32 first = 0; first < slots; first += each) {
        const uint8* items = mrl_read_items(rel, index, first / each, &page);
        uint32 kept = mrl_filter_items(filter, items, Min(each, slots - first), which);

        CHECK_FOR_INTERRUPTS();
        for (uint32 i = 0; i < kept; ++i) passing[(*n)++] = first + which[i];
        if (*n <= most) continue;
        pfree(passing);
        passing = NULL;
        break;
    }
    pfree(which);
    return passing;
}
