// An index that is younger than a snapshot, on a standby.
//
// A build leaves out what no snapshot sees any more. It asks the snapshots of its own server, and
// CREATE INDEX CONCURRENTLY waits for them; those of a standby are not among them, or only by
// hot_standby_feedback. One that was taken before the index came lacks rows in it, silently, by any
// access method. So the planner leaves such an index alone, as it does where a row's versions were
// updated in place (indcheckxmin), and a scan that has come to one is cancelled, as recovery
// cancels what it cannot go on beside.
#include "mrl.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static bool wrote_after(HeapTupleHeader row, Snapshot snapshot) {
    TransactionId writer = HeapTupleHeaderGetXmin(row);

    return TransactionIdIsNormal(writer) && XidInMVCCSnapshot(writer, snapshot);
}

// The index's row in pg_index was last written when it became valid, that in pg_class when its file
// came: a snapshot that sees both sees all that the build saw.
bool mrl_is_younger(Relation index, Snapshot snapshot) {
    HeapTuple file;
    bool younger;

    if (snapshot == NULL || !snapshot->takenDuringRecovery) return false;
    if (wrote_after(index->rd_indextuple->t_data, snapshot)) return true;
    file = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(index)));
    if (!HeapTupleIsValid(file)) return true;
    younger = wrote_after(file->t_data, snapshot);
    ReleaseSysCache(file);
    return younger;
}

void mrl_check_age(Relation index, Snapshot snapshot) {
    if (mrl_is_younger(index, snapshot))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("canceling statement due to conflict with recovery"),
                        errdetail("Index \"%s\" was made while this transaction went on, and lacks "
                                  "rows that it sees.",
                                  RelationGetRelationName(index)),
                        errhint("Run the transaction again.")));
}
