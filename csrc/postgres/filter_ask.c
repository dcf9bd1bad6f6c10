// Asking a filter of items: of one, or of those of all rows.
#include "filter.h"
#include "scan.h"

#include "access/tupmacs.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

// Of asking, in hops of a walk (width.c).
#define RANGE_COST 0.0004
#define CALL_COST 0.02
#define REST_COST 0.1

#define WORD 64  // items, a bit each

// Whether integers from a first one to so many behind it are there, a byte each for 64 of them. Of
// constant length and without a branch, so that the compiler does several at once.
#define IN_RANGE(type, wide)                                                                  \
    static void type##s_in_range(const type* values, type low, wide span, uint8* pass) {      \
        for (int i = 0; i < WORD; ++i) pass[i] = (wide)((wide)values[i] - (wide)low) <= span; \
    }
IN_RANGE(int16, uint16)
IN_RANGE(int32, uint32)
IN_RANGE(int64, uint64)
#undef IN_RANGE

// Of bytes that are 0 or 1, a bit each.
static uint64 word_of(const uint8* pass) {
    uint64 word = 0;

    for (int i = 0; i < WORD / 8; ++i) {
        uint64 eight;

        memcpy(&eight, pass + 8 * i, sizeof eight);
        word |= eight * UINT64CONST(0x0102040810204080) >> 56 << 8 * i;
    }
    return word;
}

static int64 load_int(const uint8* at, int length) {
    switch (length) {
        case sizeof(int16):
            return *(const int16*)at;
        case sizeof(int32):
            return *(const int32*)at;
        default:
            return *(const int64*)at;
    }
}

static uint64 word_in_range(const MrlFilter* filter, const MrlRange* range, MrlItems items,
                            uint32 place, uint32 n) {
    const MrlColumn* column = &filter->included.columns[range->column];
    const uint8 *states = mrl_states_at(items, range->column, place),
                *values = mrl_values_at(items, column, place);
    const int bits = 8 * range->length - 1;
    const int64 most = (int64)(PG_UINT64_MAX >> (64 - bits));
    const int64 low = Max(range->low, -most - 1), high = Min(range->high, most);
    uint64 span = (uint64)high - (uint64)low;
    uint8 pass[WORD] = {0}, some_states[WORD];
    int64 some_values[WORD];  // of any length

    if (n == 1) {
        int64 value = load_int(values, range->length);

        return (*states == MRL_UNKNOWN) |
               ((*states == MRL_VALUE) & (low <= value) & (value <= high));
    }
    if (n < WORD) {  // what is behind them may be no value, or be behind the page
        states = memcpy(memset(some_states, 0, sizeof some_states), states, n);
        values = memcpy(memset(some_values, 0, sizeof some_values), values, n * range->length);
    }
    if (low <= high && range->length == sizeof(int16))
        int16s_in_range((const int16*)values, (int16)low, (uint16)span, pass);
    else if (low <= high && range->length == sizeof(int32))
        int32s_in_range((const int32*)values, (int32)low, (uint32)span, pass);
    else if (low <= high)
        int64s_in_range((const int64*)values, low, span, pass);
    // What a damaged page says of a value is not known to anyone: no answer.
    for (int i = 0; i < WORD; ++i)
        pass[i] = (pass[i] & (states[i] == MRL_VALUE)) | (states[i] == MRL_UNKNOWN);
    return word_of(pass);
}

static Datum included_value(const MrlColumn* column, MrlItems items, uint32 place) {
    return fetch_att(mrl_values_at(items, column, place), column->by_value, column->length);
}

static bool call_says(const MrlFilter* filter, const MrlCall* call, MrlItems items, uint32 place) {
    FunctionCallInfo info = call->call;
    uint8 state = *mrl_states_at(items, call->column, place);
    Datum result;

    if (state == MRL_UNKNOWN) return true;
    if (state != MRL_VALUE || info->args[call->at_left ? 1 : 0].isnull) return false;
    info->args[call->at_left ? 0 : 1].value =
        included_value(&filter->included.columns[call->column], items, place);
    info->isnull = false;
    result = FunctionCallInvoke(info);
    return !info->isnull && DatumGetBool(result);
}

static bool rest_says(const MrlFilter* filter, MrlItems items, uint32 place) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    TupleTableSlot* row = ExecClearTuple(filter->row);

    memset(row->tts_isnull, true, sizeof(bool) * (Size)row->tts_tupleDescriptor->natts);
    for (int i = 0; i < filter->included.n; ++i) {
        const MrlColumn* column = &filter->included.columns[i];
        uint8 state = *mrl_states_at(items, i, place);

        if (!filter->in_rest[i]) continue;
        if (state == MRL_UNKNOWN) return true;
        row->tts_isnull[column->attnum - 1] = state != MRL_VALUE;
        if (state == MRL_VALUE)
            row->tts_values[column->attnum - 1] = included_value(column, items, place);
    }
    context->ecxt_scantuple = ExecStoreVirtualTuple(row);
    return ExecQual(filter->rest, context);
}

// Whether an item that is in all ranges passes the other conditions, too.
static bool others_say(MrlFilter* filter, MrlItems items, uint32 place) {
    bool passes = true;

    for (int c = 0; passes && c < filter->n_calls; ++c)
        passes = call_says(filter, &filter->calls[c], items, place);
    return passes && (filter->rest == NULL || rest_says(filter, items, place));
}

// Which of the first n items may pass: a bit for each. Returns how many.
static uint32 filter_items(MrlFilter* filter, MrlItems items, uint32 n, uint64* words) {
    ExprContext* context = filter->scan->ss.ps.ps_ExprContext;
    bool others = filter->n_calls != 0 || filter->rest != NULL;
    MemoryContext before = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    uint32 kept = 0;

    for (uint32 first = 0; first < n; first += WORD) {
        uint32 n_some = Min(WORD, n - first);
        uint64 word = ~UINT64CONST(0) >> (WORD - n_some);

        for (int i = 0; i < filter->n_ranges; ++i)
            word &= word_in_range(filter, &filter->ranges[i], items, first, n_some);
        for (uint64 rest = others ? word : 0; rest != 0; rest &= rest - 1) {
            uint32 i = (uint32)pg_rightmost_one_pos64(rest);

            if (!others_say(filter, items, first + i)) word &= ~(UINT64CONST(1) << i);
        }
        words[first / WORD] = word;
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

void mrl_expect_asked(const MrlFilter* filter, const MrlIndex* index, uint32 slot) {
    mrl_expect_item(index, &filter->asked, slot);
}

bool mrl_slot_may_pass(MrlFilter* filter, Relation rel, MrlIndex* index, uint32 slot) {
    uint64 word;

    mrl_read_item(rel, index, &filter->asked, slot, filter->item);
    return filter_items(filter, (MrlItems){filter->item, 1}, 1, &word) == 1;
}

// Of asking it of one item, in hops of a walk (width.c).
double mrl_filter_cost(const MrlFilter* filter) {
    return RANGE_COST * filter->n_ranges + CALL_COST * filter->n_calls +
           (filter->rest == NULL ? 0 : REST_COST);
}

// The slots of all rows that may pass.
MrlAllowed mrl_passing_slots(IndexScanDesc desc) {
    MrlFilter* filter = ((MrlScan*)desc->opaque)->filter;
    uint32 each = mrl_items_per_page(filter->included.bytes),
           slots = mrl_scan_open(desc)->meta.slots;
    uint64 of_page[MRL_PAGE_ROOM / WORD + 1];
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
        buffer =
            mrl_lock_page(desc->indexRelation, mrl_scan_index(desc), MRL_INCLUDED, first / each);
        page = (const char*)BufferGetPage(buffer);
        if (copies) {
            page = memcpy(copy.data, page, BLCKSZ);
            UnlockReleaseBuffer(buffer);
        }
        allowed.count +=
            filter_items(filter, (MrlItems){(const uint8*)page + MRL_PAGE_HEAD, each}, n, of_page);
        if (!copies) UnlockReleaseBuffer(buffer);
        for (uint32 i = 0; i <= (n - 1) / 64; ++i) {
            to[i] |= of_page[i] << shift;
            if (shift != 0) to[i + 1] |= of_page[i] >> (64 - shift);
        }
    }
    mrl_count_filtered(filter, slots - allowed.count);
    return allowed;
}
