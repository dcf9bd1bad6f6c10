// What a scan costs, for the planner.
//
// The walk is paid before the first row comes: some twenty lines a candidate. Then every row costs
// a visit of its page in the table (the planner adds that itself, by selectivity and correlation)
// and its share of the walks that follow when the first was not enough.
#include "mrl.h"

#include <math.h>

#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"

#define LINES_A_HOP 20.0
#define LINE_COST \
    0.25  // of cpu_operator_cost: a line is scored in some 25 ns, an operator called in some 100
#define ROW_OPERATORS 4.0  // a row that is visited: its distance, and its part of the walks

void mrl_costestimate(PlannerInfo* root, IndexPath* path, double loop_count, Cost* startup,
                      Cost* total, Selectivity* selectivity, double* correlation, double* pages) {
    GenericCosts costs = {0};
    double rows = Max(path->indexinfo->tuples, 1.0);
    double hops = mrl_effort, lines;

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
    if (root->limit_tuples > 0)  // a LIMIT beyond the effort widens the walk (limit.c)
        hops = Max(hops, root->limit_tuples / Max(costs.indexSelectivity, 1e-6));
    lines = Min(hops * LINES_A_HOP, rows) + Min(rows, 5.0 * sqrt(rows));
    *startup = lines * LINE_COST * cpu_operator_cost + 10.0 * cpu_operator_cost;
    *total = *startup + rows * costs.indexSelectivity *
                            (cpu_index_tuple_cost + ROW_OPERATORS * cpu_operator_cost);
    *selectivity = costs.indexSelectivity;
    *correlation = 0;
    *pages = costs.numIndexPages;
}
