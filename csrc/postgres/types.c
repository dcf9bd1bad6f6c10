// The types that are indexed, as pgvector lays them out, and what an index says of its column.
#include "mrl.h"

#include "fmgr.h"

// Both of pgvector's types: a varlena header, the dims, and the values. Its headers are not on
// every server that has pgvector.
typedef struct PgVector {
    int32 vl_len_;
    int16 dim;
    int16 unused;
    float x[FLEXIBLE_ARRAY_MEMBER];
} PgVector;

typedef struct PgHalfvec {
    int32 vl_len_;
    int16 dim;
    int16 unused;
    uint16 x[FLEXIBLE_ARRAY_MEMBER];
} PgHalfvec;

static int vector_dims(const void* value) { return ((const PgVector*)value)->dim; }

static void vector_read(const void* value, float* floats) {
    const PgVector* vector = value;

    memcpy(floats, vector->x, sizeof(float) * vector->dim);
}

static int halfvec_dims(const void* value) { return ((const PgHalfvec*)value)->dim; }

static void halfvec_read(const void* value, float* floats) {
    const PgHalfvec* vector = value;

    mrl_halves_to_floats(vector->x, vector->dim, floats);
}

// The second support function of an operator class returns one of these.
#define MRL_TYPE(name, metric, type)                                                      \
    static const MrlType name##_type = {metric, MRL_MOST_DIMS, type##_dims, type##_read}; \
    PG_FUNCTION_INFO_V1(name);                                                            \
    Datum name(PG_FUNCTION_ARGS) { PG_RETURN_POINTER(&name##_type); }                     \
    extern int mrl_unused

MRL_TYPE(mrl_vector_cosine, MRL_COSINE, vector);
MRL_TYPE(mrl_vector_ip, MRL_INNER_PRODUCT, vector);
MRL_TYPE(mrl_vector_l2, MRL_L2, vector);
MRL_TYPE(mrl_halfvec_cosine, MRL_COSINE, halfvec);
MRL_TYPE(mrl_halfvec_ip, MRL_INNER_PRODUCT, halfvec);
MRL_TYPE(mrl_halfvec_l2, MRL_L2, halfvec);

const MrlType* mrl_index_type(Relation index) {
    FmgrInfo* proc = index_getprocinfo(index, 1, MRL_TYPE_PROC);

    return (const MrlType*)DatumGetPointer(
        FunctionCall1Coll(proc, InvalidOid, PointerGetDatum(NULL)));
}

// The dims of what is indexed: by the type, or by the parameter `width`.
int mrl_index_width(Relation index) {
    const MrlOptions* options = (const MrlOptions*)index->rd_options;
    int typmod = TupleDescAttr(RelationGetDescr(index), 0)->atttypmod;
    int width = options == NULL ? 0 : options->width;

    if (typmod > 0 && width > 0 && typmod != width)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("the column has %d dimensions, and the index was asked for width = %d",
                        typmod, width)));
    if (typmod <= 0 && width == 0)
        ereport(
            ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("column does not have dimensions"),
             errhint("Say them: CREATE INDEX ... USING mrl (...) WITH (width = 1536).")));
    width = typmod > 0 ? typmod : width;
    if (width > MRL_MOST_DIMS)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the column has %d dimensions, and an mrl index holds at most %d",
                               width, MRL_MOST_DIMS)));
    return width;
}

// The dims that lines are made from, by the parameter `dims`, or 0.
uint32 mrl_index_prefix(Relation index) {
    const MrlOptions* options = (const MrlOptions*)index->rd_options;

    return options == NULL ? 0 : (uint32)options->prefix;
}

void mrl_check_width(int width, int dims) {
    if (width != dims)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different vector dimensions %d and %d", width, dims)));
}
