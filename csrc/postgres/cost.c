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
#include "mrl.h"

#include <math.h>

#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"

#define LINES_A_HOP 20.0
#define LINE_COST \
    0.25  // of cpu_operator_cost: a line is scored in some 25 ns, an operator called in some 100
#define MOST_CODES 2048.0  // read by a first walk
#define ROW_OPERATORS 4.0  // a row that is visited: its distance, and its part of the walks

// Pages of the table that so many visits read, beyond what the planner makes of all rows' visits.
static double unshared_pages(PlannerInfo* root, const IndexPath* path, double visits) {
    const RelOptInfo* rel = path->indexinfo->rel;
    double rows = Max(path->indexinfo->tuples, 1),
           all = index_pages_fetched(rows, rel->pages, path->indexinfo->pages, root),
           read = index_pages_fetched(visits, rel->pages, path->indexinfo->pages, root);

    return Max(0, read - all * visits / rows);
}

void mrl_costestimate(PlannerInfo* root, IndexPath* path, double loop_count, Cost* startup,
                      Cost* total, Selectivity* selectivity, double* correlation, double* pages) {
    GenericCosts costs = {0};
    double rows = Max(path->indexinfo->tuples, 1.0);
    double hops = mrl_effort, lines, codes, visits = 0, page_cost;

    if (path->indexorderbys == NIL) {  // a walk needs to know where to
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
    if (root->limit_tuples > 0) {  // a LIMIT beyond the effort widens the walk (limit.c)
        Selectivity passing = clauselist_selectivity(root, path->indexinfo->indrestrictinfo,
                                                     path->indexinfo->rel->relid, JOIN_INNER, NULL);

        passing = Min(1, Max(passing, 1 / rows));
        visits = Min(rows, mrl_rows_to_visit(root->limit_tuples, 1 / passing));
        hops = Max(hops, visits);
    }
    lines = Min(hops * LINES_A_HOP, rows) + Min(rows, 5.0 * sqrt(rows));
    codes = Min(Min(hops, MOST_CODES), path->indexinfo->pages);
    *startup = lines * LINE_COST * cpu_operator_cost + 10.0 * cpu_operator_cost + codes * page_cost;
    if (visits > root->limit_tuples) *startup += unshared_pages(root, path, visits) * page_cost;
    *total = *startup + rows * costs.indexSelectivity *
                            (cpu_index_tuple_cost + ROW_OPERATORS * cpu_operator_cost);
    *selectivity = costs.indexSelectivity;
    *correlation = 0;
    *pages = costs.numIndexPages;
}
