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

#define TEXT_BYTES 40  // of a value of any length, its head included: a UUID as text fits

MrlIncluded mrl_included_of(Relation index) {
    TupleDesc columns = RelationGetDescr(index);
    MrlIncluded included = {.n = index->rd_index->indnatts - index->rd_index->indnkeyatts};
    Size at = (Size)included.n, largest = 1;

    for (int i = 0; i < included.n; ++i) {
        MrlColumn* column = &included.columns[i];
        int which = index->rd_index->indnkeyatts + i;
        Form_pg_attribute attribute = TupleDescAttr(columns, which);
        Size aligned;

        column->attnum = index->rd_index->indkey.values[which];
        column->length = attribute->attlen;
        column->by_value = attribute->attbyval;
        column->kept = attribute->attlen > 0 ||
                       (attribute->attlen == -1 && attribute->attstorage != TYPSTORAGE_PLAIN);
        if (!column->kept) continue;
        aligned = attribute->attlen < 0 ? at : att_align_nominal(at, attribute->attalign);
        if (attribute->attlen > 0)
            largest = Max(largest, att_align_nominal((Size)1, attribute->attalign));
        column->offset = (int)aligned;
        at = aligned + (attribute->attlen < 0 ? TEXT_BYTES : attribute->attlen);
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
        uint8* to = item + column->offset;

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

Datum mrl_included_value(const MrlColumn* column, const uint8* item) {
    return fetch_att(item + column->offset, column->by_value, column->length);
}

// Whether the index's items are what its definition says.
void mrl_check_included(Relation rel, const MrlIndex* index, uint32 bytes) {
    if (index->meta.included_bytes != bytes)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" keeps %u bytes of included columns a row, not %u",
                               RelationGetRelationName(rel), index->meta.included_bytes, bytes),
                        errhint("REINDEX it.")));
}

// Without a pin where that goes: an item that is being written meanwhile is of a row that the
// reader's snapshot does not see, and each of its lengths is a byte, the old one or the new.
void mrl_read_item(Relation rel, MrlIndex* index, uint32 slot, uint8* item) {
    uint32 bytes = index->meta.included_bytes, each = mrl_items_per_page(bytes);
    Size offset = MRL_PAGE_HEAD + (Size)(slot % each) * bytes;
    Buffer buffer;

    if (mrl_peek(rel, index, MRL_INCLUDED, slot / each, offset, bytes, item)) return;
    buffer = mrl_lock_page(rel, index, MRL_INCLUDED, slot / each);
    memcpy(item, (char*)BufferGetPage(buffer) + offset, bytes);
    UnlockReleaseBuffer(buffer);
}
