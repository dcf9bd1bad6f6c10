// Rows whose distance is known and that wait until nothing nearer can come: a binary heap, the
// nearest on top.
#pragma once

#include "postgres.h"

#include "storage/itemptr.h"
#include "utils/memutils.h"

typedef struct Waiting {
    double distance;
    ItemPointerData tid;
    Oid value;  // of the vector in its TOAST table, or InvalidOid
} Waiting;

typedef struct WaitingRows {
    Waiting* rows;
    size_t n, most;
} WaitingRows;

static inline void waiting_push(WaitingRows* heap, MemoryContext context, Waiting row) {
    size_t at = heap->n++;

    if (heap->n > heap->most) {
        heap->most = Max(64, 2 * heap->most);
        heap->rows = heap->rows == NULL
                         ? MemoryContextAllocHuge(context, sizeof(Waiting) * heap->most)
                         : repalloc_huge(heap->rows, sizeof(Waiting) * heap->most);
    }
    for (; at > 0 && heap->rows[(at - 1) / 2].distance > row.distance; at = (at - 1) / 2)
        heap->rows[at] = heap->rows[(at - 1) / 2];
    heap->rows[at] = row;
}

static inline Waiting waiting_pop(WaitingRows* heap) {
    Waiting top = heap->rows[0], last = heap->rows[--heap->n];
    size_t at = 0;

    for (size_t child = 1; child < heap->n; child = 2 * at + 1) {
        if (child + 1 < heap->n && heap->rows[child + 1].distance < heap->rows[child].distance)
            ++child;
        if (heap->rows[child].distance >= last.distance) break;
        heap->rows[at] = heap->rows[child];
        at = child;
    }
    if (heap->n > 0) heap->rows[at] = last;
    return top;
}
