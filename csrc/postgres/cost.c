// What a scan costs, for the planner.
//
// The walk is paid before the first row comes: some twenty lines a candidate, and the page of each
// candidate's code. Then every row costs a visit of its page in the table (the planner adds that
// itself, by selectivity and correlation) and its share of the walks that follow when the first was
// not enough.
//
// Under a LIMIT and a filter, the planner takes the price of as many rows as pass out of the price
// of all, and as many rows share a page, it is too low: the rows that a walk visits lie on a page
// each. What is missing is added before the first row, so that an index on the filter's columns, or
// a sequential scan, is taken where it is cheaper.
//
// What INCLUDE columns answer of a filter is asked before the table is looked at: fewer rows come
// out of the index, and where few do, looking at all values first may be cheaper (width.c).
#include "filter.h"

#include <math.h>

#include "access/sysattr.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"
#include "utils/spccache.h"

#define LINE_COST \
    0.25  // of cpu_operator_cost: a line is scored in some 25 ns, an operator called in some 100
#define MOST_CODES 2048.0  // read by a first walk
#define ITEM_COST 0.02     // of cpu_operator_cost: a look at a row's included values
#define ROW_OPERATORS 4.0  // a row that is visited: its distance, and its part of the walks

// Pages of the table that so many visits read, beyond what the planner makes of all rows' visits.
static double unshared_pages(PlannerInfo* root, const IndexPath* path, double visits) {
    const RelOptInfo* rel = path->indexinfo->rel;
    double rows = Max(path->indexinfo->tuples, 1),
           all = index_pages_fetched(rows, rel->pages, path->indexinfo->pages, root),
           read = index_pages_fetched(visits, rel->pages, path->indexinfo->pages, root);

    return Max(0, read - all * visits / rows);
}

// The share of rows that the filter's conditions on INCLUDE columns let through.
static Selectivity answered_share(PlannerInfo* root, const IndexOptInfo* index) {
    Bitmapset* included = NULL;
    List* answered = NIL;
    ListCell* cell;

    for (int i = index->nkeycolumns; i < index->ncolumns; ++i)
        included =
            bms_add_member(included, index->indexkeys[i] - FirstLowInvalidHeapAttributeNumber);
    foreach (cell, index->indrestrictinfo) {
        RestrictInfo* condition = lfirst(cell);

        if (included != NULL &&
            mrl_is_answered((Node*)condition->clause, index->rel->relid, included))
            answered = lappend(answered, condition);
    }
    return clauselist_selectivity(root, answered, index->rel->relid, JOIN_INNER, NULL);
}

// Of a walk of an effort, made as wide as so many answers ask for.
static Cost walk_cost(double effort, double answers, double rows, double pages, double page_cost) {
    double hops = mrl_effort_for(effort, answers),
           keep = Max(mrl_keep_of_effort((size_t)effort), MRL_KEEP_EACH * answers),
           lines = Min(hops * MRL_LINES_A_HOP, rows) + Min(rows, 5.0 * sqrt(rows)),
           codes = Min(Min(keep, MOST_CODES), pages);

    return lines * LINE_COST * cpu_operator_cost + codes * page_cost;
}

// Whether rows would be missing, though another snapshot would find them (recovery.c).
static bool is_too_young(PlannerInfo* root, const IndexOptInfo* info) {
    Relation index;
    bool younger;

    if (info->hypothetical || !ActiveSnapshotSet() || !GetActiveSnapshot()->takenDuringRecovery)
        return false;
    index = index_open(info->indexoid, NoLock);
    younger = mrl_is_younger(index, GetActiveSnapshot());
    index_close(index, NoLock);
    if (younger) root->glob->transientPlan = true;
    return younger;
}

void mrl_costestimate(PlannerInfo* root, IndexPath* path, double loop_count, Cost* startup,
                      Cost* total, Selectivity* selectivity, double* correlation, double* pages) {
    GenericCosts costs = {0};
    double rows = Max(path->indexinfo->tuples, 1.0);
    double effort = mrl_effort > 0 ? mrl_effort : Max(MRL_DEFAULT_EFFORT, mrl_least_effort);
    double share, answers = 0, visits = 0, page_cost;
    Cost walk;

    // A walk needs to know where to.
    if (path->indexorderbys == NIL || is_too_young(root, path->indexinfo)) {
        *startup = *total = get_float8_infinity();
        *selectivity = 0;
        *correlation = 0;
        *pages = 0;
#if PG_VERSION_NUM >= 180000
        path->path.disabled_nodes = 2;
#endif
        return;
    }
    genericcostestimate(root, path, loop_count, &costs);
    get_tablespace_page_costs(path->indexinfo->reltablespace, &page_cost, NULL);
    share = Min(1, Max(answered_share(root, path->indexinfo), 1 / rows));
    if (root->limit_tuples > 0) {  // a LIMIT beyond the effort widens the walk (limit.c)
        Selectivity passing = clauselist_selectivity(root, path->indexinfo->indrestrictinfo,
                                                     path->indexinfo->rel->relid, JOIN_INNER, NULL);

        passing = Min(share, Max(passing, 1 / rows));
        answers = Min(rows, root->limit_tuples / passing);
        visits = Min(rows * share, mrl_rows_to_visit(root->limit_tuples, share / passing));
    }
    walk = walk_cost(effort, answers, rows, path->indexinfo->pages, page_cost);
    if (share < 1) {
        double index_pages = path->indexinfo->pages;
        Cost scan = rows * share * LINE_COST * cpu_operator_cost +
                    Min(rows * share, index_pages) * page_cost,
             among = walk_cost(effort * MRL_ALLOWED_EFFORT, answers * share, rows, index_pages,
                               page_cost);

        walk = Min(walk, rows * ITEM_COST * cpu_operator_cost + Min(scan, among));
    }
    *startup = walk + 10.0 * cpu_operator_cost;
    if (visits > root->limit_tuples) *startup += unshared_pages(root, path, visits) * page_cost;
    *selectivity = costs.indexSelectivity * share;
    *total =
        *startup + rows * *selectivity * (cpu_index_tuple_cost + ROW_OPERATORS * cpu_operator_cost);
    *correlation = 0;
    *pages = costs.numIndexPages;
}
