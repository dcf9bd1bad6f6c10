// Searching an index in pages, and encoding rows for it, for engine.h.
#include <algorithm>
#include <memory>

#include "../kernels/dispatch.hpp"
#include "../kernels/pack.hpp"
#include "../search/entries.hpp"
#include "engine_reader.hpp"

extern "C" {

const char* mrl_engine_message(void) { return engine_message; }

const char* mrl_engine_simd(void) {
    static char name[32];
    guarded([] { snprintf(name, sizeof name, "%s", kernels().name); });
    return name;
}

void mrl_halves_to_floats(const uint16_t* halves, size_t n, float* floats) {
    for (size_t i = 0; i < n; ++i) floats[i] = half_to_float(halves[i]);
}

bool mrl_has_direction(const float* vector, size_t dims) {
    return std::any_of(vector, vector + dims, [](float value) { return value != 0.0f; });
}

MrlStatus mrl_reader_open(const MrlMeta* meta, const uint8_t* blob, MrlReader** reader) {
    return guarded([&] { *reader = std::make_unique<MrlReader>(*meta, blob).release(); });
}

void mrl_reader_free(MrlReader* reader) { std::unique_ptr<MrlReader>{reader}; }

MrlStatus mrl_reader_add_entry(MrlReader* reader, uint32_t slot,
                               const uint8_t line[MRL_ITEM_BYTES]) {
    return guarded([&] { reader->add_entry(slot, line); });
}

const uint32_t* mrl_reader_entries(const MrlReader* reader, size_t* n) {
    *n = reader->entries.size();
    return reader->entries.slots.data();
}

size_t mrl_reader_entries_due(const MrlReader* reader, size_t rows) {
    const size_t enough = std::min(entries_for(rows), kMostEntries);
    return enough - std::min(enough, reader->entries.size());
}

const MrlEvidence* mrl_reader_evidence(const MrlReader* reader) { return &reader->evidence; }
const MrlChosen* mrl_reader_chosen(const MrlReader* reader) { return &reader->chosen; }

MrlStatus mrl_entries_near(MrlReader* reader, const MrlMeta* meta, const float* query,
                           uint32_t* slots, size_t* n) {
    static_assert(PagedSearch::kMostEntered == MRL_MOST_ENTERED);
    return guarded([&] {
        reader->meta = *meta;
        *n = reader->search.entries_near(reader->source, query, slots);
    });
}

MrlStatus mrl_search_begin(MrlReader* reader, const MrlMeta* meta, const MrlPageHost* host,
                           const float* query, MrlSearch search) {
    return guarded([&] {
        const PagedOptions options{
            search.effort,
            search.keep,
            search.k,
            {search.allowed.words, search.allowed.slots, search.allowed.count}};
        reader->meta = *meta;
        if (search.kind == MRL_SCAN || search.kind == MRL_SCAN_CODES) {
            const bool codes = search.kind == MRL_SCAN_CODES;
            reader->search.begin_scan(reader->source, *host, query, options, codes);
        } else if (search.kind == MRL_SCORE) {
            reader->search.begin_score(reader->source, *host, query, search.slots, search.keep);
        } else if (search.kind == MRL_GATHER) {
            reader->search.begin_gather(reader->source, *host, query);
        } else {
            reader->search.begin(reader->source, *host, query, options);
        }
    });
}

MrlStatus mrl_search_step(MrlReader* reader, MrlAnswer answer) {
    Step step = Step::done;
    const MrlStatus status = guarded([&] {
        if (answer == MRL_COPIED) reader->search.copied();
        if (answer == MRL_UNSTEADY) reader->search.ask_for_copies();
        step = reader->search.step();
        if (step == Step::done) reader->collect();
    });
    if (status != MRL_DONE) return status;
    return step == Step::pages ? MRL_PAGES : step == Step::paused ? MRL_PAUSED : MRL_DONE;
}

const MrlPageRequest* mrl_search_request(const MrlReader* reader) {
    return &reader->search.request();
}

const MrlHit* mrl_search_hits(const MrlReader* reader, size_t* n) {
    *n = reader->hits.size();
    return reader->hits.data();
}

size_t mrl_search_scored(const MrlReader* reader) { return reader->search.scored(); }

MrlStatus mrl_encode(MrlReader* reader, const float* vector, uint8_t* code,
                     uint8_t line[MRL_ITEM_BYTES], MrlTail* tail) {
    return guarded([&] { reader->encode(vector, code, line, tail); });
}

void mrl_decode(const MrlReader* reader, const uint8_t* code, const MrlTail* tail, float* vector) {
    const auto* values = reinterpret_cast<const std::int8_t*>(code);
    for (uint32_t d = 0; d < reader->meta.dims; ++d) {
        vector[d] = tail->scale * static_cast<float>(values[d]);
    }
}

}  // extern "C"
