// The extension's library: settings, storage parameters and the access method's table.
#include "mrl.h"

#include <limits.h>

#include "access/reloptions.h"
#include "commands/progress.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

int mrl_effort = 0;
int mrl_least_effort = 0;
double mrl_recall = 0;
int mrl_page_access = MRL_UNPINNED;
int mrl_max_scan_tuples = 20000;
bool mrl_strict_order = false;

static relopt_kind options_kind;

static const struct config_enum_entry page_access_values[] = {
    {"unpinned", MRL_UNPINNED, false},
    {"pinned", MRL_PINNED, false},
    {NULL, 0, false},
};

// What the engine says as an ERROR.
void mrl_check_status(MrlStatus status, const char* doing) {
    switch (status) {
        case MRL_DONE:
        case MRL_PAGES:
        case MRL_PAUSED:
            return;
        case MRL_CANCELLED:
            CHECK_FOR_INTERRUPTS();
            ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("%s was cancelled", doing)));
        case MRL_NO_MEMORY:
            ereport(ERROR,
                    (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while %s", doing)));
        case MRL_FAILED:
            ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                            errmsg("%s: %s", doing, mrl_engine_message())));
    }
}

PGDLLEXPORT void _PG_init(void);

void _PG_init(void) {
    options_kind = add_reloption_kind();
    add_int_reloption(options_kind, "width",
                      "dims of the vectors, where the column's type does not say them", 0, 0,
                      MRL_MOST_DIMS, AccessExclusiveLock);
    add_int_reloption(
        options_kind, "dims",
        "leading dims that searches walk by, for nested embeddings; 0 fits a projection", 0, 0,
        MRL_MOST_DIMS, AccessExclusiveLock);
    add_int_reloption(
        options_kind, "effort",
        "candidates that a search expands; 0 takes the setting mrl.effort, or what was "
        "measured",
        0, 0, 100000, ShareUpdateExclusiveLock);
    add_real_reloption(options_kind, "recall",
                       "share of the ten nearest rows that searches find: measured when the graph "
                       "is made; 0 promises nothing",
                       0, 0, 0.9999, ShareUpdateExclusiveLock);

    DefineCustomIntVariable("mrl.effort", "Candidates that a search expands: more find more.",
                            "0: what was measured when an index's graph was made.", &mrl_effort, 0,
                            0, 100000, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("mrl.least_effort",
                            "Candidates that a search expands however few were measured.",
                            "For more answers than an effort was measured for; where an index or "
                            "mrl.effort says how many, this says nothing.",
                            &mrl_least_effort, 0, 0, 100000, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomRealVariable(
        "mrl.recall", "Share of the ten nearest rows that a search is to find.",
        "In place of the recall that an index was made for; 0: as the index was made. Indexes that "
        "were made without one go on by mrl.effort, or by what was measured.",
        &mrl_recall, 0, 0, 0.9999, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomEnumVariable(
        "mrl.page_access", "How searches read pages of an index.",
        "unpinned: in place, checked before and after; pinned: copied under a lock.",
        &mrl_page_access, MRL_UNPINNED, page_access_values, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable(
        "mrl.max_scan_tuples",
        "Rows that a search visits by estimate before it sorts all that are left.", NULL,
        &mrl_max_scan_tuples, 20000, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable(
        "mrl.strict_order",
        "Whether a row that is found late is left out rather than returned out of order.", NULL,
        &mrl_strict_order, false, PGC_USERSET, 0, NULL, NULL, NULL);
    MarkGUCPrefixReserved("mrl");
    mrl_init_pages();
    mrl_init_limit();
    mrl_init_distances();
}

static bytea* options(Datum reloptions, bool validate) {
    static const relopt_parse_elt parse[] = {
        {"width", RELOPT_TYPE_INT, offsetof(MrlOptions, width)},
        {"dims", RELOPT_TYPE_INT, offsetof(MrlOptions, prefix)},
        {"effort", RELOPT_TYPE_INT, offsetof(MrlOptions, effort)},
        {"recall", RELOPT_TYPE_REAL, offsetof(MrlOptions, recall)},
    };

    return (bytea*)build_reloptions(reloptions, validate, options_kind, sizeof(MrlOptions), parse,
                                    lengthof(parse));
}

static char* phase_name(int64 phase) {
    switch (phase) {
        case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
            return "initializing";
        case 2:
            return "reading the table";
        case 3:
            return "building the graph";
        case 4:
            return "writing pages";
        case 5:
            return "inserting the rest";
        default:
            return NULL;
    }
}

static bool validate(Oid opclass) { return true; }

PG_FUNCTION_INFO_V1(mrl_handler);
Datum mrl_handler(PG_FUNCTION_ARGS) {
    IndexAmRoutine* am = makeNode(IndexAmRoutine);

    am->amstrategies = 0;
    am->amsupport = 2;
    am->amcanorderbyop = true;
    am->amoptionalkey = true;
    am->amcaninclude = true;
    am->amkeytype = InvalidOid;
    am->amusemaintenanceworkmem = false;
    am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
    am->ambuild = mrl_build;
    am->ambuildempty = mrl_buildempty;
    am->aminsert = mrl_insert;
    am->ambulkdelete = mrl_bulkdelete;
    am->amvacuumcleanup = mrl_vacuumcleanup;
    am->amcostestimate = mrl_costestimate;
    am->amoptions = options;
    am->ambuildphasename = phase_name;
    am->amvalidate = validate;
    am->ambeginscan = mrl_beginscan;
    am->amrescan = mrl_rescan;
    am->amgettuple = mrl_gettuple;
    am->amendscan = mrl_endscan;
    PG_RETURN_POINTER(am);
}

PG_FUNCTION_INFO_V1(mrl_library);
Datum mrl_library(PG_FUNCTION_ARGS) {
    PG_RETURN_TEXT_P(cstring_to_text(psprintf("for PostgreSQL %s, pages of format %d, %s",
                                              PG_MAJORVERSION, MRL_FORMAT, mrl_engine_simd())));
}
