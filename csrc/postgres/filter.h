// What of a plan's filter the INCLUDE columns answer.
#pragma once

#include "included.h"

#include "nodes/bitmapset.h"

typedef struct MrlFilter MrlFilter;

bool mrl_is_answered(Node* clause, Index relation, const Bitmapset* included);
MrlFilter* mrl_make_filter(Relation index, Relation heap, IndexScanState* scan);
void mrl_begin_filter(MrlFilter* filter);
uint32 mrl_filter_items(MrlFilter* filter, const uint8* items, uint32 n, uint32* which);
bool mrl_slot_may_pass(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 slot);
uint32* mrl_gather_passing(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 most,
                           uint32* n);
