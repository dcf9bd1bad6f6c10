// What a page says that it is: looked at whenever one is read under a lock.
#include "mrl.h"

struct MrlLabel* mrl_label(Page page) { return (struct MrlLabel*)((char*)page + MRL_LABEL_AT); }

bool mrl_has_label(Page page, int section, uint32 number) {
    const struct MrlLabel* label = mrl_label(page);

    return label->magic == MRL_MAGIC && label->format == MRL_FORMAT && label->section == section &&
           label->number == number;
}

void mrl_check_label(Relation rel, Page page, BlockNumber block, int section, uint32 number) {
    const struct MrlLabel* label = mrl_label(page);

    if (mrl_has_label(page, section, number)) return;
    if (label->magic == MRL_MAGIC && label->format != MRL_FORMAT)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("index \"%s\" is of format %d, and this library reads format %d",
                               RelationGetRelationName(rel), label->format, MRL_FORMAT),
                        errhint("REINDEX it.")));
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("index \"%s\": block %u is not page %u of section %d",
                           RelationGetRelationName(rel), block, number, section),
                    errhint("REINDEX it.")));
}

void mrl_copy_page(Relation rel, BlockNumber block, int section, uint32 number, char* page) {
    Buffer buffer = ReadBuffer(rel, block);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    memcpy(page, BufferGetPage(buffer), BLCKSZ);
    UnlockReleaseBuffer(buffer);
    mrl_check_label(rel, (Page)page, block, section, number);
}
