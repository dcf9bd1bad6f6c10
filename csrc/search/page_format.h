// Format 4 of an index in pages of 8 kB: what lies where. C, as the extension's C files read it
// too.
//
//   page         24 bytes that are PostgreSQL's, 40 that say what the page is (MrlLabel), then
//   items. Item 0 of a page is therefore
//                its head, and every address is a shift or a division by a constant
//   meta         block 0: MrlMeta
//   blob         the projection, the entries of walks and what was measured, written once, page
//                after page, chained
//   entries      slots that became entries since: as rows are linked, more walks begin at them.
//                Chained
//   directory    block numbers: the k-th page of a section stands in the k-th place. Chained, one
//                chain a section
//   links        63 items of 128 bytes: the links of a slot
//   lines        63 items of 128 bytes: the high line of a slot, its low line beside it
//   rows         as many int8 codes as fit, then a tail (MrlTail) for each
//   included     the values of INCLUDE columns, as many items as fit, column after column
//
// A slot (a row's place in the graph) has the same number in links, lines, rows and included.
// Nothing that was read is believed: every link is compared with the number of slots, every page
// with its label.
#pragma once

#include <stdint.h>

#define MRL_MAGIC 0x6d726c31u  // "mrl1"
#define MRL_FORMAT 4

enum {
    MRL_PAGE_BYTES = 8192,
    MRL_PAGE_HEAD = 64,
    MRL_LABEL_AT = 24,
    MRL_PAGE_ROOM = MRL_PAGE_BYTES - MRL_PAGE_HEAD,
    MRL_ITEM_BYTES = 128,
    MRL_ITEMS = 63,                     // of links or lines in a page
    MRL_DIRECTORY = MRL_PAGE_ROOM / 4,  // block numbers in a page, or slots that are entries
    MRL_MOST_DIMS = 8000,               // a code and its tail fit a page
    MRL_MOST_REUSED = 1280,             // slots that are used again and wait
};

enum MrlSection {
    MRL_LINKS,
    MRL_LINES,
    MRL_ROWS,
    MRL_INCLUDED,
    MRL_SECTIONS,
    MRL_META = 16,
    MRL_BLOB,
    MRL_CHAIN,
    MRL_ENTRIES,
    MRL_UNUSED,  // a page that waits to be used again
};

struct MrlLabel {
    uint32_t magic;
    uint16_t format;
    uint16_t section;  // enum MrlSection
    uint32_t number;   // of the page in its section or chain
    uint32_t next;     // of a chain or a blob: the block of the next page, or 0
    uint32_t of;       // of a chain: the section whose blocks it lists
    uint32_t unused[5];
};

// 16 bytes. The row in the table: block (two halves) and offset, as in an ItemPointerData.
struct MrlTail {
    float scale;   // of the int8 code; under cosine of the vector at unit length
    float square;  // the squared length as the metric sees it
    uint16_t tid[3];
    uint16_t flags;
};

enum {
    MRL_ROW_DEAD = 1,  // its row is gone: no answer, but walks pass through
    MRL_ROW_FREE = 2,  // nothing leads to it: the slot may be used again
};

// Of an item of INCLUDE columns: what is known of a value, or the value. A page has all items'
// first pieces, then all second ones, so that a condition is asked of many rows at once. Pieces
// keep their order and their alignment.
struct MrlPiece {
    uint16_t offset, bytes;  // in the item
};

struct MrlMeta {
    uint32_t magic;
    uint16_t format;
    uint16_t metric;  // enum Metric
    uint32_t dims;
    uint32_t prefix;          // dims that lines are made from, or 0: a projection of all
    uint32_t code_stride;     // bytes of a code
    uint32_t rows_per_page;   // of the rows section
    uint32_t included_bytes;  // of an item of INCLUDE columns, or 0
    uint32_t slots;           // rows, dead ones included
    uint32_t linked;  // slots below are in the graph; the others wait, and searches look at each
    uint32_t dead;    // of the slots
    uint32_t generation;  // of blob, links and lines: another one is another graph
    uint32_t blob_begin;  // block
    uint32_t blob_bytes;
    float unit;            // of line codes
    float longest_square;  // inner product: what lifts are measured from
    uint32_t first_chain[MRL_SECTIONS], last_chain[MRL_SECTIONS];  // blocks of the directory, or 0
    uint32_t pages[MRL_SECTIONS];
    uint32_t fitted;  // rows that the projection was fitted on
    uint32_t added;   // rows that were linked since then
    // What the generation before this one left: pages that a search may still be reading. 0: none.
    uint64_t retired_xid;  // transactions from here on do not know them
    uint32_t retired_blob, retired_chain[2], retired_entries;  // chain: of links, of lines
    uint32_t first_entries, last_entries;                      // blocks, or 0
    uint32_t entries;  // slots in these: entries beside those of the blob
    // Slots of rows that are gone and that no link leads to: the first and one, or 0; each names
    // the next in its tail.
    uint32_t first_free, free;
    uint32_t reused;  // of those, how many have a new row that waits
    uint32_t reused_slots[MRL_MOST_REUSED];
};

enum {
    // Rows that a projection must have been fitted on to be one: else scans sort all rows by
    // distance, until the insert that brings so many fits another.
    MRL_LEAST_FITTED = 256,
    MRL_FIRST_FIT = 1024,
};

static inline uint32_t mrl_rows_per_page(uint32_t code_stride) {
    return MRL_PAGE_ROOM / (code_stride + (uint32_t)sizeof(struct MrlTail));
}
static inline uint32_t mrl_tail_at(const struct MrlMeta* meta, uint32_t place) {
    return MRL_PAGE_HEAD + meta->rows_per_page * meta->code_stride +
           place * (uint32_t)sizeof(struct MrlTail);
}
static inline uint32_t mrl_items_per_page(uint32_t item_bytes) {
    return MRL_PAGE_ROOM / item_bytes;
}
// Where a piece of an item lies, from the first byte of a page's `each` items, or of one alone.
static inline uint32_t mrl_piece_at(uint32_t each, struct MrlPiece piece, uint32_t place) {
    return each * piece.offset + place * (uint32_t)piece.bytes;
}
