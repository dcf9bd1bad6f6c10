// Entries that came since the graph was built: slots of linked rows that walks begin at too, as
// many as a build of all rows would have. Pages list them, one after another; a backend gives them
// to its reader, each with its line, when it sees that there are more than it has.
#include "mrl.h"

#include "access/generic_xlog.h"

static inline uint32* entries_of(Page page) { return (uint32*)((char*)page + MRL_PAGE_HEAD); }

// Puts some of n slots behind the others, as many as fit the last page, as a part of a change of
// the first page by whoever holds the lock of linking. The pages are released by
// mrl_end_entries().
MrlEntryPages mrl_append_entries(Relation rel, MrlMetaChange* change, const uint32* slots,
                                 uint32 n) {
    struct MrlMeta* meta = change->meta;
    uint32 number = meta->entries / MRL_DIRECTORY, used = meta->entries % MRL_DIRECTORY;
    MrlEntryPages pages = {InvalidBuffer, InvalidBuffer};
    Page page = NULL;

    if (n == 0) return pages;
    if (meta->last_entries != 0) {
        pages.last = ReadBuffer(rel, meta->last_entries);
        LockBuffer(pages.last, BUFFER_LOCK_EXCLUSIVE);
        page = GenericXLogRegisterBuffer(change->log, pages.last, 0);
    }
    if (used == 0) {
        pages.added = mrl_new_page(rel);
        if (number == 0)
            meta->first_entries = BufferGetBlockNumber(pages.added);
        else
            mrl_label(page)->next = BufferGetBlockNumber(pages.added);
        meta->last_entries = BufferGetBlockNumber(pages.added);
        page = GenericXLogRegisterBuffer(change->log, pages.added, GENERIC_XLOG_FULL_IMAGE);
        mrl_init_page(page, MRL_ENTRIES, number);
        memset(entries_of(page), 0, MRL_PAGE_ROOM);
    }
    n = Min(n, MRL_DIRECTORY - used);
    memcpy(entries_of(page) + used, slots, sizeof(uint32) * n);
    meta->entries += n;
    return pages;
}

void mrl_end_entries(MrlEntryPages* pages) {
    if (pages->last != InvalidBuffer) UnlockReleaseBuffer(pages->last);
    if (pages->added != InvalidBuffer) UnlockReleaseBuffer(pages->added);
}

// Gives the reader those that it does not have yet.
void mrl_read_entries(Relation rel, MrlIndex* index) {
    PGAlignedBlock page;
    uint32 number = PG_UINT32_MAX;

    while (index->entries < index->meta.entries) {
        uint32 slot;
        Buffer lines;
        MrlStatus status;

        if (index->entries / MRL_DIRECTORY != number) {
            number = index->entries / MRL_DIRECTORY;
            if (number == 0) {
                index->entry_page = index->meta.first_entries;
            } else if (index->entries % MRL_DIRECTORY == 0) {
                mrl_copy_page(rel, index->entry_page, MRL_ENTRIES, number - 1, page.data);
                index->entry_page = mrl_label((Page)page.data)->next;
            }
            mrl_copy_page(rel, index->entry_page, MRL_ENTRIES, number, page.data);
        }
        slot = entries_of((Page)page.data)[index->entries % MRL_DIRECTORY];
        if (slot >= index->meta.linked)
            ereport(ERROR,
                    (errcode(ERRCODE_INDEX_CORRUPTED),
                     errmsg("index \"%s\": entry %u is slot %u of %u", RelationGetRelationName(rel),
                            index->entries, slot, index->meta.linked),
                     errhint("REINDEX it.")));
        lines = mrl_lock_page(rel, index, MRL_LINES, slot / MRL_ITEMS);
        status = mrl_reader_add_entry(
            index->reader, slot,
            (const uint8*)BufferGetPage(lines) + MRL_PAGE_HEAD + slot % MRL_ITEMS * MRL_ITEM_BYTES);
        UnlockReleaseBuffer(lines);
        mrl_check_status(status, "opening an index");
        ++index->entries;
    }
}
