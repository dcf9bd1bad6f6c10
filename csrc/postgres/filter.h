// What of a plan's filter the INCLUDE columns answer.
#pragma once

#include "included.h"

#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"

// A column compared with a value, integers and dates: low <= column <= high.
typedef struct MrlRange {
    int column, length;
    int strategy;  // of a B-tree, the column at the left
    Oid type;      // of the value
    ExprState* value;
    int64 low, high;
} MrlRange;

// Any other comparison of a column with a value.
typedef struct MrlCall {
    int column;
    bool at_left;
    ExprState* value;
    FunctionCallInfo call;
} MrlCall;

typedef struct MrlFilter {
    MrlIncluded included;
    IndexScanState* scan;
    MrlRange* ranges;
    MrlCall* calls;
    int n_ranges, n_calls;
    ExprState* rest;  // or NULL
    bool* in_rest;    // the columns that it needs
    TupleTableSlot* row;
    MrlPieces asked;  // what is read of an item
    uint8* item;
} MrlFilter;

// A walk that keeps to the rows that pass is so many times as long as one past all others.
#define MRL_ALLOWED_EFFORT 2

// filter.c
bool mrl_is_answered(Node* clause, Index relation, const Bitmapset* included);
MrlFilter* mrl_make_filter(Relation index, Relation heap, IndexScanState* scan);
void mrl_begin_filter(MrlFilter* filter);

// filter_ask.c
void mrl_expect_asked(const MrlFilter* filter, const MrlIndex* index, uint32 slot);
bool mrl_slot_may_pass(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 slot);
void mrl_count_filtered(const MrlFilter* filter, double rows);
double mrl_filter_cost(const MrlFilter* filter);
MrlAllowed mrl_passing_slots(IndexScanDesc desc);
