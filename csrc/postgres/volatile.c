// Whether a condition calls a volatile function, in the plans of its subqueries, too.
//
// PostgreSQL's contain_volatile_functions() looks into a subquery, but not into the plan that it
// has become. A plan with a node that is not known here counts as volatile.
#include "scan.h"

#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"

static bool is_volatile_plan(const Plan* plan, const List* subplans);

static bool walk(Node* node, void* subplans) {
    if (node == NULL) return false;
    if (IsA(node, SubPlan) &&
        is_volatile_plan(list_nth(subplans, ((SubPlan*)node)->plan_id - 1), subplans))
        return true;
    return expression_tree_walker(node, walk, subplans);
}

static bool is_volatile(const void* expression, const List* subplans) {
    return contain_volatile_functions((Node*)expression) ||
           walk((Node*)expression, (void*)subplans);
}

static bool any_is_volatile(const List* plans, const List* subplans) {
    const ListCell* cell;

    foreach (cell, plans)
        if (is_volatile_plan(lfirst(cell), subplans)) return true;
    return false;
}

// Of what a node has beside its columns, its condition and the plans below it.
static bool is_volatile_node(const Plan* plan, const List* subplans) {
    const Join* join = (const Join*)plan;

    switch (nodeTag(plan)) {
        case T_SeqScan:
        case T_Material:
        case T_Sort:
        case T_IncrementalSort:
        case T_Unique:
        case T_Agg:
        case T_Group:
        case T_SetOp:
            return false;
        case T_IndexScan:
            return is_volatile(((const IndexScan*)plan)->indexqualorig, subplans) ||
                   is_volatile(((const IndexScan*)plan)->indexorderbyorig, subplans);
        case T_IndexOnlyScan:
            return is_volatile(((const IndexOnlyScan*)plan)->indexqual, subplans) ||
                   is_volatile(((const IndexOnlyScan*)plan)->indexorderby, subplans);
        case T_BitmapIndexScan:
            return is_volatile(((const BitmapIndexScan*)plan)->indexqualorig, subplans);
        case T_BitmapHeapScan:
            return is_volatile(((const BitmapHeapScan*)plan)->bitmapqualorig, subplans);
        case T_BitmapAnd:
            return any_is_volatile(((const BitmapAnd*)plan)->bitmapplans, subplans);
        case T_BitmapOr:
            return any_is_volatile(((const BitmapOr*)plan)->bitmapplans, subplans);
        case T_Append:
            return any_is_volatile(((const Append*)plan)->appendplans, subplans);
        case T_MergeAppend:
            return any_is_volatile(((const MergeAppend*)plan)->mergeplans, subplans);
        case T_FunctionScan:
            return is_volatile(((const FunctionScan*)plan)->functions, subplans);
        case T_ValuesScan:
            return is_volatile(((const ValuesScan*)plan)->values_lists, subplans);
        case T_Result:
            return is_volatile(((const Result*)plan)->resconstantqual, subplans);
        case T_Limit:
            return is_volatile(((const Limit*)plan)->limitOffset, subplans) ||
                   is_volatile(((const Limit*)plan)->limitCount, subplans);
        case T_SubqueryScan:
            return is_volatile_plan(((const SubqueryScan*)plan)->subplan, subplans);
        case T_CteScan:
            return is_volatile_plan(list_nth(subplans, ((const CteScan*)plan)->ctePlanId - 1),
                                    subplans);
        case T_NestLoop:
            return is_volatile(join->joinqual, subplans);
        case T_HashJoin:
            return is_volatile(join->joinqual, subplans) ||
                   is_volatile(((const HashJoin*)plan)->hashclauses, subplans);
        case T_MergeJoin:
            return is_volatile(join->joinqual, subplans) ||
                   is_volatile(((const MergeJoin*)plan)->mergeclauses, subplans);
        case T_Hash:
            return is_volatile(((const Hash*)plan)->hashkeys, subplans);
        default:
            return true;
    }
}

static bool is_volatile_plan(const Plan* plan, const List* subplans) {
    if (plan == NULL) return false;
    return is_volatile(plan->targetlist, subplans) || is_volatile(plan->qual, subplans) ||
           is_volatile(plan->initPlan, subplans) || is_volatile_node(plan, subplans) ||
           is_volatile_plan(plan->lefttree, subplans) ||
           is_volatile_plan(plan->righttree, subplans);
}

bool mrl_is_volatile(Node* condition, const EState* state) {
    return is_volatile(condition, state->es_plannedstmt->subplans);
}
