// What the files of INCLUDE columns share.
//
// An item stands for a slot in a section of its own: a byte for each column that says what is known
// of it, then the values. Pages are packed with items, column after column (MrlPiece), so that all
// rows' values are read from few of them, and many at once.
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
    struct MrlPiece value;
} MrlColumn;

typedef struct MrlPieces {
    int n;
    struct MrlPiece of[2 * INDEX_MAX_KEYS];
} MrlPieces;

typedef struct MrlIncluded {
    int n;
    uint32 bytes;  // of an item; 0: none are included
    MrlColumn columns[INDEX_MAX_KEYS];
    MrlPieces pieces;  // all, the states first
} MrlIncluded;

// Of a page, or one alone (each: 1).
typedef struct MrlItems {
    const uint8* first;
    uint32 each;
} MrlItems;

// included.c
MrlIncluded mrl_included_of(Relation index);
void mrl_put_item(const MrlIncluded* included, char* page, uint32 place, const uint8* item);
void mrl_check_included(Relation rel, const MrlIndex* index, uint32 bytes);
void mrl_read_item(Relation rel, MrlIndex* index, const MrlPieces* pieces, uint32 slot,
                   uint8* item);
void mrl_expect_item(const MrlIndex* index, const MrlPieces* pieces, uint32 slot);

static inline struct MrlPiece mrl_state_piece(int column) {
    return (struct MrlPiece){(uint16)column, 1};
}
static inline const uint8* mrl_states_at(MrlItems items, int column, uint32 place) {
    return items.first + mrl_piece_at(items.each, mrl_state_piece(column), place);
}
static inline const uint8* mrl_values_at(MrlItems items, const MrlColumn* column, uint32 place) {
    return items.first + mrl_piece_at(items.each, column->value, place);
}
