// INCLUDE columns: their values beside the graph, so that filters on them are answered by the
// index.
//
// Values of fixed length are kept whole; of text and the like those of up to 39 bytes. What is not
// kept is unknown, and the table is asked, as it is where there is no INCLUDE.
#include "included.h"

#include "access/tupmacs.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type_d.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
#include "utils/lsyscache.h"

#define TEXT_BYTES 40  // of a value of any length, its head included: a UUID as text fits

MrlIncluded mrl_included_of(Relation index) {
    TupleDesc columns = RelationGetDescr(index);
    MrlIncluded included = {.n = index->rd_index->indnatts - index->rd_index->indnkeyatts};
    Size at = (Size)included.n, largest = 1;

    for (int i = 0; i < included.n; ++i)
        included.pieces.of[included.pieces.n++] = mrl_state_piece(i);
    for (int i = 0; i < included.n; ++i) {
        MrlColumn* column = &included.columns[i];
        int which = index->rd_index->indnkeyatts + i;
        Form_pg_attribute attribute = TupleDescAttr(columns, which);
        Size room;

        column->attnum = index->rd_index->indkey.values[which];
        column->length = attribute->attlen;
        column->by_value = attribute->attbyval;
        // By the type: ALTER TABLE … SET STORAGE makes no index anew.
        column->kept = attribute->attlen > 0 ||
                       (attribute->attlen == -1 && TypeIsToastable(attribute->atttypid));
        if (!column->kept) continue;
        // Values follow one another in a page: each takes up a multiple of its alignment.
        room = TEXT_BYTES;
        if (attribute->attlen > 0) {
            room = att_align_nominal((Size)attribute->attlen, attribute->attalign);
            at = att_align_nominal(at, attribute->attalign);
            largest = Max(largest, att_align_nominal((Size)1, attribute->attalign));
        }
        column->value = (struct MrlPiece){(uint16)Min(at, MRL_PAGE_ROOM), (uint16)room};
        included.pieces.of[included.pieces.n++] = column->value;
        at += room;
    }
    if (included.n != 0) included.bytes = (uint32)TYPEALIGN(largest, at);
    if (included.bytes > MRL_PAGE_ROOM)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the included columns take %u bytes a row, and at most %d fit",
                               included.bytes, MRL_PAGE_ROOM)));
    return included;
}

// The item of a row; values are those of the index's columns.
uint8* mrl_form_item(Relation index, const Datum* values, const bool* isnull) {
    MrlIncluded included = mrl_included_of(index);
    int first = index->rd_index->indnkeyatts;
    uint8* item;

    if (included.n == 0) return NULL;
    item = palloc0(included.bytes);
    for (int i = 0; i < included.n; ++i) {
        const MrlColumn* column = &included.columns[i];
        Datum value = values[first + i];
        uint8* to = item + column->value.offset;

        if (!column->kept) continue;
        if (isnull[first + i]) {
            item[i] = MRL_NULL;
            continue;
        }
        if (column->by_value) {
            store_att_byval((char*)to, value, column->length);
        } else if (column->length > 0) {
            memcpy(to, DatumGetPointer(value), (Size)column->length);
        } else {
            struct varlena* whole = PG_DETOAST_DATUM_PACKED(value);
            Size bytes = VARSIZE_ANY_EXHDR(whole);

            if (bytes + VARHDRSZ_SHORT <= TEXT_BYTES) {
                SET_VARSIZE_SHORT(to, bytes + VARHDRSZ_SHORT);
                memcpy(VARDATA_SHORT(to), VARDATA_ANY(whole), bytes);
                item[i] = MRL_VALUE;
            }
            if ((Pointer)whole != DatumGetPointer(value)) pfree(whole);
            continue;
        }
        item[i] = MRL_VALUE;
    }
    return item;
}

void mrl_put_item(const MrlIncluded* included, char* page, uint32 place, const uint8* item) {
    uint32 each = mrl_items_per_page(included->bytes);

    for (int i = 0; i < included->pieces.n; ++i) {
        struct MrlPiece piece = included->pieces.of[i];

        memcpy(page + MRL_PAGE_HEAD + mrl_piece_at(each, piece, place), item + piece.offset,
               piece.bytes);
    }
}

// Whether the index's items are what its definition says.
void mrl_check_included(Relation rel, const MrlIndex* index, uint32 bytes) {
    if (index->meta.included_bytes != bytes)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" keeps %u bytes of included columns a row, not %u",
                               RelationGetRelationName(rel), index->meta.included_bytes, bytes),
                        errhint("REINDEX it.")));
}

static void take_pieces(const char* page, uint32 each, const MrlPieces* pieces, uint32 place,
                        uint8* item) {
    for (int i = 0; i < pieces->n; ++i) {
        struct MrlPiece piece = pieces->of[i];

        memcpy(item + piece.offset, page + MRL_PAGE_HEAD + mrl_piece_at(each, piece, place),
               piece.bytes);
    }
}

// Some pieces of an item, to their places in it. Without a pin where that goes: an item that is
// being written meanwhile is of a row that the reader's snapshot does not see, and each of its
// lengths is a byte, the old one or the new.
void mrl_read_item(Relation rel, MrlIndex* index, const MrlPieces* pieces, uint32 slot,
                   uint8* item) {
    uint32 each = mrl_items_per_page(index->meta.included_bytes);
    const char* page = mrl_begin_peek(rel, index, MRL_INCLUDED, slot / each);
    Buffer buffer;

    if (page != NULL) {
        take_pieces(page, each, pieces, slot % each, item);
        if (mrl_end_peek(index, MRL_INCLUDED, slot / each)) return;
    }
    buffer = mrl_lock_page(rel, index, MRL_INCLUDED, slot / each);
    take_pieces(BufferGetPage(buffer), each, pieces, slot % each, item);
    UnlockReleaseBuffer(buffer);
}

// Begins to fetch them from where they were last.
void mrl_expect_item(const MrlIndex* index, const MrlPieces* pieces, uint32 slot) {
    uint32 each = mrl_items_per_page(index->meta.included_bytes), number = slot / each;
    Buffer buffer =
        number < index->known[MRL_INCLUDED] ? index->pages[MRL_INCLUDED][number].buffer : 0;

    if (buffer <= 0) return;
    for (int i = 0; i < pieces->n; ++i)
        __builtin_prefetch((const char*)BufferGetPage(buffer) + MRL_PAGE_HEAD +
                           mrl_piece_at(each, pieces->of[i], slot % each));
}
