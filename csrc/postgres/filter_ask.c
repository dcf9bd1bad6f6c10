// Asking a filter of items: of one, or of those of all rows.
#include "filter.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

// Of asking, in hops of a walk (width.c).
#define RANGE_COST 0.0012
#define CALL_COST 0.02
#define REST_COST 0.1

// What is added to a value's distance from the range's end, so that it is negative when the item
// passes: an unknown one does, NULL does not, nor what a damaged page says. By a state's two bits.
static const int64 of_state[4] = {[MRL_UNKNOWN] = -(INT64CONST(1) << 40),
                                  [MRL_VALUE] = 0,
                                  [MRL_NULL] = INT64CONST(1) << 40,
                                  [3] = INT64CONST(1) << 40};

static inline int64 load_int(const uint8* at, int length) {
    int16 two;
    int32 four;

    if (length == sizeof two) {
        memcpy(&two, at, sizeof two);
        return two;
    }
    memcpy(&four, at, sizeof four);
    return four;
}

// A bit for each of n <= 64 items with values of up to 4 bytes, low <= high among these. A filter
// is asked of all rows: nine instructions an item, no branch, and two chains, as one would wait
// for itself.
static inline uint64 ints_in_range(const uint8* values, const uint8* states, Size bytes, uint32 n,
                                   int length, int64 low, int64 high) {
    const uint32 first = (uint32)low;
    const int64 beyond = -(high - low) - 1;
    uint64 word[2] = {0, 0};

#define STEP(half, i)                                                                        \
    word[half] = word[half] >> 1 |                                                           \
                 ((uint64)((int64)((uint32)load_int(values + (i) * bytes, length) - first) + \
                           beyond + of_state[states[(i) * bytes] & 3]) &                     \
                  ~(~UINT64CONST(0) >> 1))
    for (uint32 i = 0; i < n / 2; ++i) {
        STEP(0, (Size)i);
        STEP(1, (Size)(n / 2 + i));
    }
    if (n % 2 != 0) STEP(1, (Size)n - 1);
#undef STEP
    if (n == 1) return word[1] >> 63;
    return word[0] >> (64 - n / 2) | word[1] >> (64 - (n - n / 2)) << n / 2;
}

static uint64 word_in_range(const MrlFilter* filter, const MrlRange* range, const uint8* items,
                            uint32 n) {
    const Size bytes = filter->included.bytes;
    const uint8 *states = items + range->column,
                *values = items + filter->included.columns[range->column].offset;
    const int64 least = range->length == sizeof(int16) ? PG_INT16_MIN : PG_INT32_MIN,
                most = range->length == sizeof(int16) ? PG_INT16_MAX : PG_INT32_MAX;
    int64 low = range->low, high = range->high;
    uint64 word = 0;

    if (range->length <= (int)sizeof(int32)) {
        low = Max(low, least);
        high = Min(high, most);
        if (low <= high && range->length == sizeof(int16))
            return ints_in_range(values, states, bytes, n, sizeof(int16), low, high);
        if (low <= high) return ints_in_range(values, states, bytes, n, sizeof(int32), low, high);
    }
    for (uint32 i = 0; i < n; ++i, states += bytes, values += bytes) {
        int64 value = 0;

        if (low <= high) memcpy(&value, values, sizeof value);
        word |= (uint64)((*states == MRL_UNKNOWN) |
                         ((*states == MRL_VALUE) & (low <= value) & (value <= high)))
                << i;
    }
    return word;
}

static bool call_says(const MrlFilter* filter, const MrlCall* call, const uint8* item) {
    FunctionCallInfo info = call->call;
    Datum result;

    if (item[call->column] == MRL_UNKNOWN) return true;
    if (item[call->column] == MRL_NULL || info->args[call->at_left ? 1 : 0].isnull) return false;
    info->args[call->at_left ? 0 : 1].value =
        mrl_included_value(&filter->included.columns[call->column], item);
    info->isnull = false;
    result = FunctionCallInvoke(info);
    return !info->isnull && DatumGetBool(result);
}

static bool rest_says(const MrlFilter* filter, const uint8* item) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    TupleTableSlot* row = ExecClearTuple(filter->row);

    memset(row->tts_isnull, true, sizeof(bool) * (Size)row->tts_tupleDescriptor->natts);
    for (int i = 0; i < filter->included.n; ++i) {
        const MrlColumn* column = &filter->included.columns[i];

        if (!filter->in_rest[i]) continue;
        if (item[i] == MRL_UNKNOWN) return true;
        row->tts_isnull[column->attnum - 1] = item[i] == MRL_NULL;
        if (item[i] == MRL_VALUE)
            row->tts_values[column->attnum - 1] = mrl_included_value(column, item);
    }
    context->ecxt_scantuple = ExecStoreVirtualTuple(row);
    return ExecQual(filter->rest, context);
}

// Whether an item that is in all ranges passes the other conditions, too.
static bool others_say(MrlFilter* filter, const uint8* item) {
    bool passes = true;

    for (int c = 0; passes && c < filter->n_calls; ++c)
        passes = call_says(filter, &filter->calls[c], item);
    return passes && (filter->rest == NULL || rest_says(filter, item));
}

// Which of n items may pass: a bit for each. Returns how many.
static uint32 filter_items(MrlFilter* filter, const uint8* items, uint32 n, uint64* words) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    bool others = filter->n_calls != 0 || filter->rest != NULL;
    MemoryContext before = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    uint32 kept = 0;

    for (uint32 first = 0; first < n; first += 64) {
        const uint8* some = items + (Size)first * filter->included.bytes;
        uint32 n_some = Min(64, n - first);
        uint64 word = ~UINT64CONST(0) >> (64 - n_some);

        for (int i = 0; i < filter->n_ranges; ++i)
            word &= word_in_range(filter, &filter->ranges[i], some, n_some);
        for (uint64 rest = others ? word : 0; rest != 0; rest &= rest - 1) {
            uint32 i = (uint32)pg_rightmost_one_pos64(rest);

            if (!others_say(filter, some + (Size)i * filter->included.bytes))
                word &= ~(UINT64CONST(1) << i);
        }
        words[first / 64] = word;
        kept += (uint32)pg_popcount64(word);
    }
    MemoryContextSwitchTo(before);
    if (others) ResetExprContext(context);
    return kept;
}

// For EXPLAIN ANALYZE: rows that did not pass.
void mrl_count_filtered(const MrlFilter* filter, double rows) {
    InstrCountFiltered1(filter->scan, rows);
}

bool mrl_slot_may_pass(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 slot) {
    uint64 word;

    mrl_read_item(rel, index, slot, filter->item);
    return filter_items(filter, filter->item, 1, &word) == 1;
}

// Of asking it of one item, in hops of a walk (width.c).
double mrl_filter_cost(const MrlFilter* filter) {
    return RANGE_COST * filter->n_ranges + CALL_COST * filter->n_calls +
           (filter->rest == NULL ? 0 : REST_COST);
}

// The slots of all rows that may pass.
MrlAllowed mrl_passing_slots(MrlFilter* filter, Relation rel, MrlIndex* index) {
    uint32 each = mrl_items_per_page(filter->included.bytes), slots = index->meta.slots;
    uint64 of_page[MRL_PAGE_ROOM / 64 + 1];
    uint64* words =
        MemoryContextAllocExtended(CurrentMemoryContext, sizeof(uint64) * ((Size)slots / 64 + 2),
                                   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    MrlAllowed allowed = {words, slots, 0};
    // Functions of conditions may do anything: they are asked of a copy, without a lock.
    bool copies = filter->n_calls != 0 || filter->rest != NULL;
    PGAlignedBlock copy;

    for (uint32 first = 0; first < slots; first += each) {
        uint32 n = Min(each, slots - first), shift = first % 64;
        uint64* to = words + first / 64;
        Buffer buffer;
        const char* page;

        CHECK_FOR_INTERRUPTS();
        buffer = mrl_lock_page(rel, index, MRL_INCLUDED, first / each);
        page = (const char*)BufferGetPage(buffer);
        if (copies) {
            page = memcpy(copy.data, page, BLCKSZ);
            UnlockReleaseBuffer(buffer);
        }
        allowed.count += filter_items(filter, (const uint8*)page + MRL_PAGE_HEAD, n, of_page);
        if (!copies) UnlockReleaseBuffer(buffer);
        for (uint32 i = 0; i <= (n - 1) / 64; ++i) {
            to[i] |= of_page[i] << shift;
            if (shift != 0) to[i + 1] |= of_page[i] >> (64 - shift);
        }
    }
    mrl_count_filtered(filter, slots - allowed.count);
    return allowed;
}
