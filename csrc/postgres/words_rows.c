// The rows that have words of a query, the best first, in some tenth of the time of a statement:
// each word's rows come out of a GIN index, and only of the best are the versions looked for in the
// table that the snapshot sees.
#include "words.h"

#include "access/gin.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "tsearch/ts_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

enum { ROW, SCORE, COLUMNS };  // of the result

// A row, and what its words weigh. Its first version's place is the key.
typedef struct Scored {
    uint64 place;
    double score;
    char status;
} Scored;

#define SH_PREFIX scores
#define SH_ELEMENT_TYPE Scored
#define SH_KEY_TYPE uint64
#define SH_KEY place
#define SH_HASH_KEY(table, key) ((uint32)(((key) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

// What is asked for.
typedef struct Asked {
    Relation table;
    AttrNumber column;
    const char* language;
    Datum query;
    int places;
} Asked;

// A GIN index that has the words of every row, opened; its column of words. NULL where none is.
static Relation open_index(const Asked* asked, AttrNumber* column) {
    List* indexes = RelationGetIndexList(asked->table);
    ListCell* cell;

    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool sees = !form->indcheckxmin ||
                    TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
                                          TransactionXmin);

        if (index->rd_rel->relam == GIN_AM_OID && form->indisvalid && sees &&
            heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
            for (int i = 0; i < form->indnkeyatts; ++i) {
                Oid matches =
                    get_opfamily_member(index->rd_opfamily[i], TSVECTOROID, TSQUERYOID, 1);

                if (form->indkey.values[i] != asked->column || !OidIsValid(matches) ||
                    get_opcode(matches) != F_TS_MATCH_VQ)
                    continue;
                *column = (AttrNumber)(i + 1);
                return index;
            }
        index_close(index, AccessShareLock);
    }
    return NULL;
}

// The word alone as a tsquery.
static Datum query_of(const MrlWord* word) {
    StringInfoData quoted;

    initStringInfo(&quoted);
    appendStringInfoChar(&quoted, '\'');
    for (int i = 0; i < word->length; ++i) {
        if (word->text[i] == '\'' || word->text[i] == '\\')
            appendStringInfoChar(&quoted, word->text[i]);
        appendStringInfoChar(&quoted, word->text[i]);
    }
    appendStringInfoChar(&quoted, '\'');
    return DirectFunctionCall1(tsqueryin, CStringGetDatum(quoted.data));
}

// A page's rows of a bitmap; -1 at its end, -2 where the bitmap is not sure.
#if PG_VERSION_NUM >= 180000
typedef TBMPrivateIterator BitmapIterator;
static BitmapIterator* begin_bitmap(TIDBitmap* bitmap) { return tbm_begin_private_iterate(bitmap); }
static void end_bitmap(BitmapIterator* iterator) { tbm_end_private_iterate(iterator); }
static int next_page(BitmapIterator* iterator, BlockNumber* block, OffsetNumber* offsets) {
    TBMIterateResult page;

    if (!tbm_private_iterate(iterator, &page)) return -1;
    if (page.lossy || page.recheck) return -2;
    *block = page.blockno;
    return tbm_extract_page_tuple(&page, offsets, MaxHeapTuplesPerPage);
}
#else
typedef TBMIterator BitmapIterator;
static BitmapIterator* begin_bitmap(TIDBitmap* bitmap) { return tbm_begin_iterate(bitmap); }
static void end_bitmap(BitmapIterator* iterator) { tbm_end_iterate(iterator); }
static int next_page(BitmapIterator* iterator, BlockNumber* block, OffsetNumber* offsets) {
    TBMIterateResult* page = tbm_iterate(iterator);

    if (page == NULL) return -1;
    if (page->ntuples < 0 || page->recheck) return -2;
    *block = page->blockno;
    memcpy(offsets, page->offsets, page->ntuples * sizeof *offsets);
    return page->ntuples;
}
#endif

static bool add_rows(scores_hash* scores, TIDBitmap* bitmap, double weight) {
    BitmapIterator* iterator = begin_bitmap(bitmap);
    OffsetNumber offsets[MaxHeapTuplesPerPage];
    BlockNumber block;
    int n;

    while ((n = next_page(iterator, &block, offsets)) >= 0)
        for (int i = 0; i < n; ++i) {
            bool there;
            Scored* row = scores_insert(scores, (uint64)block << 16 | offsets[i], &there);

            row->score = there ? row->score + weight : weight;
        }
    end_bitmap(iterator);
    return n == -1;
}

// Whether the index said for sure which rows have which of the words.
static bool score_rows(const Asked* asked, Relation index, AttrNumber column, scores_hash* scores) {
    int n;
    MrlWord* words =
        mrl_query_words(asked->table, asked->column, asked->language, asked->query, &n);
#if PG_VERSION_NUM >= 180000
    IndexScanDesc scan = index_beginscan_bitmap(index, GetActiveSnapshot(), NULL, 1);
#else
    IndexScanDesc scan = index_beginscan_bitmap(index, GetActiveSnapshot(), 1);
#endif
    bool sure = true;

    for (int i = 0; i < n && sure; ++i) {
        TIDBitmap* bitmap = tbm_create(work_mem * (Size)1024, NULL);
        ScanKeyData key;

        ScanKeyInit(&key, column, 1, F_TS_MATCH_VQ, query_of(&words[i]));
        index_rescan(scan, &key, 1, NULL, 0);
        index_getbitmap(scan, bitmap);
        sure = add_rows(scores, bitmap, words[i].weight);
        tbm_free(bitmap);
        CHECK_FOR_INTERRUPTS();
    }
    index_endscan(scan);
    return sure;
}

static int compare_scores(const void* a, const void* b) {
    const Scored *x = a, *y = b;

    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static Scored* best_first(scores_hash* scores) {
    Scored* rows = palloc(Max(scores->members, 1) * sizeof *rows);
    scores_iterator iterator;
    Scored* row;
    int n = 0;

    scores_start_iterate(scores, &iterator);
    while ((row = scores_iterate(scores, &iterator)) != NULL) rows[n++] = *row;
    qsort(rows, n, sizeof *rows, compare_scores);
    return rows;
}

static void put(ReturnSetInfo* result, ItemPointer row, double score) {
    Datum values[COLUMNS] = {[ROW] = PointerGetDatum(row), [SCORE] = Float8GetDatum(score)};
    bool nulls[COLUMNS] = {false};

    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

// The first that the snapshot sees, and whatever weighs as much as the last of them.
static void put_seen(const Asked* asked, const Scored* rows, int n, ReturnSetInfo* result) {
    TupleTableSlot* slot = table_slot_create(asked->table, NULL);
    struct IndexFetchTableData* fetch = table_index_fetch_begin(asked->table);
    int seen = 0;
    double last = 0;

    for (int i = 0; i < n && (seen < asked->places || rows[i].score == last); ++i) {
        bool again = false, all_dead = false;
        ItemPointerData place;

        ItemPointerSet(&place, (BlockNumber)(rows[i].place >> 16), rows[i].place & 0xffff);
        if (!table_index_fetch_tuple(fetch, &place, GetActiveSnapshot(), slot, &again, &all_dead))
            continue;
        put(result, &slot->tts_tid, rows[i].score);
        if (++seen == asked->places) last = rows[i].score;
        CHECK_FOR_INTERRUPTS();
    }
    table_index_fetch_end(fetch);
    ExecDropSingleTupleTableSlot(slot);
}

// By an index, without a plan. False, and nothing put, where rights, policies or indexes forbid it,
// or a bitmap has no room for its rows.
static bool put_by_index(const Asked* asked, ReturnSetInfo* result) {
    Oid oid = RelationGetRelid(asked->table);
    AttrNumber column;
    Relation index;
    scores_hash* scores;
    bool sure;

    if (pg_class_aclcheck(oid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
        check_enable_rls(oid, InvalidOid, true) == RLS_ENABLED)
        return false;
    index = open_index(asked, &column);
    if (index == NULL) return false;
    scores = scores_create(CurrentMemoryContext, 1024, NULL);
    sure = score_rows(asked, index, column, scores);
    if (sure) put_seen(asked, best_first(scores), (int)scores->members, result);
    index_close(index, AccessShareLock);
    return sure;
}

// What put_by_index() puts, by a statement.
static void put_by_statement(const Asked* asked, ReturnSetInfo* result) {
    const char* table =
        quote_qualified_identifier(get_namespace_name(RelationGetNamespace(asked->table)),
                                   RelationGetRelationName(asked->table));
    const char* column = get_attname(RelationGetRelid(asked->table), asked->column, false);
    const char* statement = psprintf(
        "SELECT row_.ctid, sum(words.weight) AS score"
        " FROM mrl.query_words($1, $2, $3, $4, false) AS words CROSS JOIN LATERAL ("
        " SELECT row_.ctid FROM %s AS row_ WHERE row_.%s @@ words.word OFFSET 0) AS row_"
        " GROUP BY row_.ctid ORDER BY score DESC FETCH FIRST $5 ROWS WITH TIES",
        table, quote_identifier(column));
    Oid types[] = {REGCLASSOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
    Datum values[] = {ObjectIdGetDatum(RelationGetRelid(asked->table)), CStringGetTextDatum(column),
                      CStringGetTextDatum(asked->language), asked->query,
                      Int64GetDatum(asked->places)};

    SPI_connect();
    if (SPI_execute_with_args(statement, lengthof(types), types, values, NULL, true, 0) !=
        SPI_OK_SELECT)
        elog(ERROR, "the rows that have words of a query were not selected");
    for (uint64 i = 0; i < SPI_processed; ++i) {
        HeapTuple tuple = SPI_tuptable->vals[i];
        bool is_null;
        Datum row = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &is_null);
        Datum score = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &is_null);

        put(result, (ItemPointer)DatumGetPointer(row), DatumGetFloat8(score));
    }
    SPI_finish();
}

PG_FUNCTION_INFO_V1(mrl_rows_by_words);
Datum mrl_rows_by_words(PG_FUNCTION_ARGS) {
    char* column = text_to_cstring(PG_GETARG_TEXT_PP(1));
    Asked asked = {.language = text_to_cstring(PG_GETARG_TEXT_PP(2)),
                   .query = PG_GETARG_DATUM(3),
                   .places = PG_GETARG_INT32(4)};

    InitMaterializedSRF(fcinfo, 0);
    asked.table = table_open(PG_GETARG_OID(0), AccessShareLock);
    asked.column = get_attnum(PG_GETARG_OID(0), column);
    if (asked.table->rd_rel->relkind != RELKIND_RELATION || asked.table->rd_rel->relhassubclass ||
        get_atttype(PG_GETARG_OID(0), asked.column) != TSVECTOROID)
        ereport(
            ERROR,
            (errcode(ERRCODE_WRONG_OBJECT_TYPE),
             errmsg("\"%s\" of \"%s\" is not a column of type tsvector of a table without heirs",
                    column, RelationGetRelationName(asked.table))));
    if (asked.places > 0 && !put_by_index(&asked, (ReturnSetInfo*)fcinfo->resultinfo))
        put_by_statement(&asked, (ReturnSetInfo*)fcinfo->resultinfo);
    table_close(asked.table, AccessShareLock);
    return (Datum)0;
}
