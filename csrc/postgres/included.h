// What the files of INCLUDE columns share.
//
// An item stands for a slot in a section of its own: a byte for each column that says what is known
// of it, then the values, at fixed places. Pages are packed with items, so that all rows' values
// are read from few of them.
#pragma once

#include "mrl.h"

typedef enum {
    MRL_UNKNOWN,  // too long, or of a type that is not kept: the table says it
    MRL_VALUE,
    MRL_NULL,
} MrlState;

typedef struct MrlColumn {
    AttrNumber attnum;  // in the table
    int16 length;       // of its type, or -1
    bool by_value;
    bool kept;
    int offset;
} MrlColumn;

typedef struct MrlIncluded {
    int n;
    uint32 bytes;  // of an item; 0: none are included
    MrlColumn columns[INDEX_MAX_KEYS];
} MrlIncluded;

// included.c
MrlIncluded mrl_included_of(Relation index);
Datum mrl_included_value(const MrlColumn* column, const uint8* item);
void mrl_check_included(Relation rel, const MrlIndex* index, uint32 bytes);
void mrl_read_item(Relation rel, MrlIndex* index, uint32 slot, uint8* item);

static inline uint32 mrl_items_per_page(uint32 bytes) { return MRL_PAGE_ROOM / bytes; }
