// How wide a scan's walks are, and whether a filter is asked of all rows before the next one.
//
// An effort is for ten answers. Where the plan's LIMIT asks for more, or a filter lets few rows
// through, the first walk is wider (limit.c, mrl_effort_for), and no later round is needed. How
// many pass the filter the planner knows of the whole table alone. Where INCLUDE columns answer,
// the entries nearest to the query are asked, a row of each cell around it: there may be far fewer,
// if the filter has to do with what the vectors say.
//
// Where so few pass that a walk past all the others would cost more, the filter is asked of all
// rows' included values, and then those that pass are scored, each of them, or a walk keeps to
// them.
#include "scan.h"

#include "miscadmin.h"

#define MOST_KEEP 2048     // of the first walk
#define SOUND_SHARE 0.6    // of a walk's candidates: what comes after them may have been missed
#define CHANCE_SHARE 0.75  // the same where more were asked for than are expected to be needed
#define FEW_PASSING 256    // rows: all are scored by their codes
// Where less than so many times the share in all pass near the query, that is no accident, and on
// the way to the first that pass they are fewer still.
#define FEWER_NEAR 0.5
#define FEWER_BEHIND 0.5

// A walk that keeps to what passes has fewer ways to go, and what it looks for may be far from the
// query: so many times as long (MRL_ALLOWED_EFFORT), and with so many times the candidates, it
// finds nearly as much.
#define ALLOWED_KEEP 2

// Costs, in hops of a walk past rows that do not pass: half a microsecond to one. Measured on
// 62,666 rows of 384 dims and 200,000 of 768; where a look at all lines costs as much as the walk
// that keeps to what passes, it finds more.
#define LINE_COST 0.035       // a look at the line of a row that passes
#define ALLOWED_HOP_COST 7.5  // a hop of a walk that keeps to what passes
#define THROUGH_COST 0.1      // and for each slot that it passes through
#define MOST_THROUGH 32.0     // at a hop
#define THROUGH_OF_SHARE 0.5  // the same, times the share that passes

// The share of the rows around the query that pass the filter, as far as INCLUDE columns say it.
static double share_near(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    MrlIndex* index = mrl_scan_index(desc);
    uint32 slots[MRL_MOST_ENTERED];
    size_t n, passing = 0;
    double near;

    mrl_check_status(mrl_entries_near(index->reader, &index->meta, scan->query_values, slots, &n),
                     "looking for entries");
    for (size_t i = 0; i < n; ++i) mrl_expect_asked(scan->filter, index, slots[i]);
    for (size_t i = 0; i < n; ++i)
        passing +=
            mrl_slot_may_pass(scan->filter, desc->indexRelation, mrl_scan_index(desc), slots[i]);
    near = (passing + 0.5) / (n + 1);
    if (near < FEWER_NEAR * scan->share) return near * FEWER_BEHIND;
    return Min(near, scan->share);
}

// Makes a walk wide enough for the rows that the plan's LIMIT asks for, where this share of those
// around the query pass the filter; by lines alone, where they are very many.
static void widen_walk(IndexScanDesc desc, double share) {
    MrlScan* scan = desc->opaque;
    size_t effort, keep;
    double most, rows = mrl_rows_asked_for(scan->note, scan->slots, share, &most);
    bool by_chance = most > 0;

    scan->phase = BY_WALK;
    scan->effort = effort = mrl_effort_of(desc->indexRelation, mrl_scan_index(desc));
    scan->keep = keep = mrl_keep_of_effort(effort);
    scan->k = 0;
    scan->sound = by_chance ? CHANCE_SHARE : SOUND_SHARE;
    most = Min(Max(most, rows) / scan->sound, scan->slots);
    if (rows <= MRL_FEW_ANSWERS && most <= keep) return;
    if (by_chance && most > Max(keep, MRL_MOST_CODES)) scan->phase = BY_LINES;
    scan->keep = Max(keep, (size_t)Min(Max(MRL_KEEP_EACH * rows, most) + 1, MRL_MOST_CODES));
    scan->effort = (size_t)Min(mrl_effort_for(effort, rows), scan->slots);
    if (!mrl_scans_lines(scan)) {
        scan->keep = Max(keep, Min(scan->keep, MOST_KEEP));
        scan->effort = Max(effort, Min(scan->effort, MRL_LONGEST_WALK));
    }
    scan->k = (size_t)Min(rows, scan->keep);
}

void mrl_widen_first_walk(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;

    scan->share = mrl_share_of(scan->note, scan->slots);
    widen_walk(desc, scan->filter == NULL ? scan->share : share_near(desc));
}

// Of a hop of a walk that keeps to so many of the rows.
static double allowed_hop_cost(double passing, double slots) {
    return ALLOWED_HOP_COST +
           THROUGH_COST * Min(MOST_THROUGH, THROUGH_OF_SHARE * slots / Max(passing, 1));
}

// Whether to look at the lines of all rows that may be in the answer costs hardly more than a walk.
bool mrl_scans_lines(const MrlScan* scan) {
    double passing = scan->allowed.count, effort = (double)scan->effort;

    if (scan->allowed.words == NULL) return effort * MRL_LINES_A_HOP >= scan->slots / 2;
    return passing * LINE_COST <= effort * allowed_hop_cost(passing, scan->slots);
}

// Whether to ask the filter of all rows, and to search among those that pass, costs less than the
// next walk past those that do not.
bool mrl_filters_first(const MrlScan* scan) {
    double passing, walk;

    if (scan->filter == NULL || scan->allowed.words != NULL) return false;
    passing = scan->slots * scan->share;
    walk = MRL_ALLOWED_EFFORT * MRL_DEFAULT_EFFORT * allowed_hop_cost(passing, scan->slots);
    return scan->slots * mrl_filter_cost(scan->filter) + Min(passing * LINE_COST, walk) <=
           scan->effort;
}

// Asks it, and makes the next walk as wide as those that pass need it.
void mrl_filter_first(IndexScanDesc desc) {
    MrlScan* scan = desc->opaque;
    MemoryContext before = MemoryContextSwitchTo(scan->context);
    double rest;

    scan->allowed = mrl_passing_slots(desc);
    MemoryContextSwitchTo(before);
    // What is left of the share in all is what other conditions let through.
    rest = mrl_share_of(scan->note, scan->slots) * scan->slots / Max(scan->allowed.count, 1);
    widen_walk(desc, Min(1, rest));
    scan->effort *= MRL_ALLOWED_EFFORT;
    scan->keep *= ALLOWED_KEEP;
}

// Whether those that pass are so few that each is a candidate.
bool mrl_scores_passing(const MrlScan* scan) {
    return scan->allowed.words != NULL && scan->allowed.count <= Max(FEW_PASSING, scan->keep);
}
