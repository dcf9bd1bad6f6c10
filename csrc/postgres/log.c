// The trigger that writes the change log: what mrl.log_change() of sql/functions/logging.sql does,
// in a fifth of its time.
//
// A statement that writes leaves one row in mrl.change. Its keys come out of the transition tables,
// which PostgreSQL keeps on disk beyond work_mem; no more than MOST_KEYS are ever in memory here.
// The row goes in as a subscription's worker puts one in, without a plan. Whatever the trigger does
// not understand (no column of that name, another type, a key that is NULL) is a row without keys:
// any row of the table may have changed.
#include "mrl.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

enum { MOST_KEYS = 100000 };                                   // of a statement
static const double trimming = 0.001;                          // of the statements
enum { RELATION, XID, FIRST_KIND, COLUMNS = FIRST_KIND + 3 };  // columns of mrl.change

// The columns of mrl.change for keys, in its order.
typedef struct KeyKind {
    const char* column;
    Oid type;
    int16 length;
    bool by_value;
    char align;
} KeyKind;
static const KeyKind kinds[] = {
    {"integers", INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
    {"uuids", UUIDOID, UUID_LEN, false, TYPALIGN_CHAR},
    {"texts", TEXTOID, -1, false, TYPALIGN_INT},
};

typedef struct Keys {
    const KeyKind* kind;
    AttrNumber column;
    Oid type;  // of the column, below its domains
    Datum* values;
    int n, room;
    bool any;  // row may have changed
} Keys;

static Keys find_key(TupleDesc columns, const char* name, const char* kind) {
    Keys keys = {.any = true};

    for (int i = 0; i < (int)lengthof(kinds); ++i)
        if (strcmp(kinds[i].column, kind) == 0) keys.kind = &kinds[i];
    for (int i = 0; i < columns->natts; ++i) {
        Form_pg_attribute column = TupleDescAttr(columns, i);

        if (column->attisdropped || strcmp(NameStr(column->attname), name) != 0) continue;
        keys.column = column->attnum;
        keys.type = column->atttypid;
    }
    if (keys.kind == NULL || keys.column == 0) return keys;
    if (keys.type >= FirstNormalObjectId) keys.type = getBaseType(keys.type);
    switch (keys.type) {
        case INT2OID:
        case INT4OID:
        case INT8OID:
            keys.any = keys.kind->type != INT8OID;
            break;
        case UUIDOID:
            keys.any = keys.kind->type != UUIDOID;
            break;
        case TEXTOID:
        case VARCHAROID:
            keys.any = keys.kind->type != TEXTOID;
            break;
    }
    return keys;
}

// The key of a row, as the log has it. It lies in the row unless it is a number.
static Datum key_of(Keys* keys, TupleTableSlot* row) {
    bool is_null;
    Datum key = slot_getattr(row, keys->column, &is_null);

    if (is_null) {
        keys->any = true;
        return (Datum)0;
    }
    if (keys->type == INT2OID) return Int64GetDatum(DatumGetInt16(key));
    if (keys->type == INT4OID) return Int64GetDatum(DatumGetInt32(key));
    return key;
}

static bool is_same(const Keys* keys, Datum a, Datum b) {
    return datumIsEqual(a, b, keys->kind->by_value, keys->kind->length);
}

static void add(Keys* keys, Datum key) {
    if (keys->n == MOST_KEYS) {
        keys->any = true;
        return;
    }
    if (keys->n == keys->room) {
        keys->room = keys->room == 0 ? 4 : 2 * keys->room;
        keys->values = keys->values == NULL ? palloc(keys->room * sizeof(Datum))
                                            : repalloc(keys->values, keys->room * sizeof(Datum));
    }
    keys->values[keys->n++] = datumCopy(key, keys->kind->by_value, keys->kind->length);
}

// Transition tables are shared with other triggers: each reads by a pointer of its own.
typedef struct Rows {
    Tuplestorestate* store;
    int pointer;
    TupleTableSlot* slot;
} Rows;

static Rows open_rows(Tuplestorestate* store, TupleDesc columns) {
    Rows rows = {.store = store};

    if (store == NULL) return rows;
    rows.pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
    rows.slot = MakeSingleTupleTableSlot(columns, &TTSOpsMinimalTuple);
    tuplestore_select_read_pointer(store, rows.pointer);
    tuplestore_rescan(store);
    return rows;
}

static bool next_row(Rows* rows) {
    if (rows->store == NULL) return false;
    tuplestore_select_read_pointer(rows->store, rows->pointer);
    return tuplestore_gettupleslot(rows->store, true, false, rows->slot);
}

static void close_rows(Rows* rows) {
    if (rows->store != NULL) ExecDropSingleTupleTableSlot(rows->slot);
}

// Collects the keys that a statement wrote to: of an UPDATE both that a row had and that it has,
// where these are two. Returns whether there was any row.
static bool collect(Keys* keys, const TriggerData* trigger) {
    TupleDesc columns = RelationGetDescr(trigger->tg_relation);
    Rows before = open_rows(trigger->tg_oldtable, columns);
    Rows after = open_rows(trigger->tg_newtable, columns);
    bool was = next_row(&before), is = next_row(&after), wrote = was || is;

    while ((was || is) && !keys->any) {
        Datum old_key = was ? key_of(keys, before.slot) : (Datum)0;
        Datum new_key = is ? key_of(keys, after.slot) : (Datum)0;

        if (was && is && !keys->any && is_same(keys, old_key, new_key)) was = false;
        if (was && !keys->any) add(keys, old_key);
        if (is && !keys->any) add(keys, new_key);
        was = next_row(&before);
        is = next_row(&after);
    }
    close_rows(&before);
    close_rows(&after);
    return wrote;
}

static Relation open_log(void) {
    Oid schema = get_namespace_oid("mrl", false);
    Oid log = get_relname_relid("change", schema);
    AclResult may;

    if (!OidIsValid(log))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table mrl.change is not there")));
    may = pg_class_aclcheck(log, GetUserId(), ACL_INSERT);
    if (may != ACLCHECK_OK) aclcheck_error(may, OBJECT_TABLE, "change");
    return table_open(log, RowExclusiveLock);
}

static bool is_log(Relation log) {
    static const Oid types[] = {OIDOID, XID8OID, INT8ARRAYOID, UUIDARRAYOID, TEXTARRAYOID};
    TupleDesc columns = RelationGetDescr(log);

    if (log->rd_rel->relkind != RELKIND_RELATION || columns->natts != lengthof(types)) return false;
    for (int i = 0; i < columns->natts; ++i)
        if (TupleDescAttr(columns, i)->atttypid != types[i]) return false;
    return true;
}

static void write_row(Oid relation, const Keys* keys) {
    Relation log = open_log();
    EState* state = CreateExecutorState();
    ResultRelInfo* target = makeNode(ResultRelInfo);
    TupleTableSlot* row = ExecInitExtraTupleSlot(state, RelationGetDescr(log), &TTSOpsVirtual);

    if (!is_log(log))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("table mrl.change is not of this version of the extension")));
    memset(row->tts_isnull, true, COLUMNS * sizeof(bool));
    row->tts_values[RELATION] = ObjectIdGetDatum(relation);
    row->tts_values[XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
    row->tts_isnull[RELATION] = row->tts_isnull[XID] = false;
    if (!keys->any) {
        int column = FIRST_KIND + (int)(keys->kind - kinds);

        row->tts_values[column] = PointerGetDatum(
            construct_array(keys->values, keys->n, keys->kind->type, keys->kind->length,
                            keys->kind->by_value, keys->kind->align));
        row->tts_isnull[column] = false;
    }
    ExecStoreVirtualTuple(row);
    InitResultRelInfo(target, log, 1, NULL, 0);
    ExecOpenIndices(target, false);
    ExecSimpleRelationInsert(target, state, row);
    ExecCloseIndices(target);
    ExecResetTupleTable(state->es_tupleTable, false);
    FreeExecutorState(state);
    table_close(log, NoLock);
}

// What is written to a partition is said of the table that all partitions are of; of one that was
// detached, nothing.
static Oid logged_relation(const TriggerData* trigger) {
    Relation relation = trigger->tg_relation;
    List* ancestors;

    if (trigger->tg_trigger->tgnargs < 3) return RelationGetRelid(relation);
    if (!relation->rd_rel->relispartition)
        return relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? RelationGetRelid(relation)
                                                                      : InvalidOid;
    ancestors = get_partition_ancestors(RelationGetRelid(relation));
    return ancestors == NIL ? InvalidOid : llast_oid(ancestors);
}

static void trim_by_chance(void) {
    if (pg_prng_double(&pg_global_prng_state) >= trimming) return;
    SPI_connect();
    SPI_execute("SELECT mrl.trim_by_chance()", false, 0);
    SPI_finish();
}

PG_FUNCTION_INFO_V1(mrl_log_change);
Datum mrl_log_change(PG_FUNCTION_ARGS) {
    const TriggerData* trigger = (const TriggerData*)fcinfo->context;
    Keys keys = {.any = true};
    Oid relation;

    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
        !TRIGGER_FIRED_AFTER(trigger->tg_event) || trigger->tg_trigger->tgnargs < 2 ||
        trigger->tg_trigger->tgnargs > 3)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("mrl_log_change(key, column) is for the triggers that "
                               "mrl.log_changes() makes")));
    relation = logged_relation(trigger);
    if (!OidIsValid(relation)) PG_RETURN_POINTER(NULL);
    if (!TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event)) {
        keys = find_key(RelationGetDescr(trigger->tg_relation), trigger->tg_trigger->tgargs[0],
                        trigger->tg_trigger->tgargs[1]);
        if (!collect(&keys, trigger)) PG_RETURN_POINTER(NULL);
    }
    write_row(relation, &keys);
    trim_by_chance();
    PG_RETURN_POINTER(NULL);
}
