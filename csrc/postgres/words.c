// Which words of a query are looked for, and what each weighs: mrl.query_words() of
// sql/functions/text.sql in C, and a test compares what they choose.
#include "words.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "tsearch/ts_type.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

static const double share_unknown = 0.01;   // before any ANALYZE
static const double rows_looked_at = 1000;  // or, of all:
static const double share_looked_at = 0.02;
static const double steps_of_weight = 16777216;  // of 1

static int compare_words(const void* a, const void* b) {
    const MrlWord *x = a, *y = b;
    int order;

    if (x->share != y->share) return x->share < y->share ? -1 : 1;
    order = memcmp(x->text, y->text, Min(x->length, y->length));
    return order != 0 ? order : x->length - y->length;
}

// What ANALYZE found of the words of a column. Words come sorted, short ones first; behind their
// shares stand the least and the greatest of them.
typedef struct Known {
    HeapTuple tuple;  // or NULL
    AttStatsSlot slot;
    bool found;
} Known;

static Known open_known(Relation table, AttrNumber column) {
    Known known = {0};

    known.tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(RelationGetRelid(table)),
                                  Int16GetDatum(column), BoolGetDatum(false));
    if (HeapTupleIsValid(known.tuple))
        known.found = get_attstatsslot(&known.slot, known.tuple, STATISTIC_KIND_MCELEM, InvalidOid,
                                       ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS) &&
                      known.slot.nnumbers > known.slot.nvalues;
    return known;
}

static void close_known(Known* known) {
    if (!HeapTupleIsValid(known->tuple)) return;
    free_attstatsslot(&known->slot);
    ReleaseSysCache(known->tuple);
}

static double share_of(const Known* known, const char* word, int length) {
    int low = 0, high = known->slot.nvalues;

    if (!known->found) return share_unknown;
    while (low < high) {
        int middle = low + (high - low) / 2;
        text* seen = DatumGetTextPP(known->slot.values[middle]);
        int order = (int)VARSIZE_ANY_EXHDR(seen) - length;

        if (order == 0) order = memcmp(VARDATA_ANY(seen), word, length);
        if (order == 0) return known->slot.numbers[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return (double)known->slot.numbers[known->slot.nvalues] / 2;
}

MrlWord* mrl_query_words(Relation table, AttrNumber column, const char* language, Datum query,
                         int* n) {
    Oid configuration =
        DatumGetObjectId(DirectFunctionCall1(regconfigin, CStringGetDatum(language)));
    TSVector vector = DatumGetTSVector(
        OidFunctionCall2(F_TO_TSVECTOR_REGCONFIG_TEXT, ObjectIdGetDatum(configuration), query));
    const WordEntry* entries = ARRPTR(vector);
    MrlWord* words = palloc(Max(vector->size, 1) * sizeof *words);
    Known known = open_known(table, column);
    double rows = Max(table->rd_rel->reltuples, 1), share_so_far = 0;

    for (int i = 0; i < vector->size; ++i) {
        const char* text = STRPTR(vector) + entries[i].pos;
        double share = share_of(&known, text, (int)entries[i].len);

        words[i] = (MrlWord){text, (int)entries[i].len, share,
                             rint(log(1 + 1 / share) * steps_of_weight) / steps_of_weight};
    }
    close_known(&known);
    qsort(words, vector->size, sizeof *words, compare_words);
    for (*n = 0; *n < vector->size; ++*n) {
        share_so_far += words[*n].share;
        if (*n > 0 && share_so_far * rows > Max(rows_looked_at, share_looked_at * rows)) break;
    }
    return words;
}
