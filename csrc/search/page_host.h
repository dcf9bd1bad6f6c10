// Who brings the pages of a search (paged_search.hpp): memory in tests, PostgreSQL's buffers in a
// server. C on both sides: these functions neither throw nor jump.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct MrlTail;

struct MrlPageHost {
    void* self;
    const uint8_t* base;  // frame f begins at base + (f - 1) * MRL_PAGE_BYTES
    // Where each page is, 0 where it is nowhere yet; returns how many are missing. NULL: pages are
    // only ever copied.
    uint32_t (*find)(void* self, int section, const uint32_t* pages, uint32_t n, uint32_t* frames);
    // Whether all still are where they were found.
    bool (*unmoved)(void* self, int section, const uint32_t* pages, uint32_t n,
                    const uint32_t* frames);
    // A row may be read soon, or NULL.
    void (*expect)(void* self, const struct MrlTail* tail);
};

// What a search waits for: that these pages can be found, or, with `copies`, `bytes` bytes of each
// from its offset, one behind the other.
struct MrlPageRequest {
    int section;
    uint32_t n;
    const uint32_t* pages;
    const uint32_t* offsets;
    uint32_t bytes;
    uint8_t* copies;  // or NULL
};
