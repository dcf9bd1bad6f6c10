// Searching an index in pages, and encoding rows for it, for engine.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "../kernels/pack.hpp"
#include "../search/paged_search.hpp"
#include "engine.hpp"
#include "engine_blob.hpp"

using namespace mrl;

struct MrlReader {
    MrlMeta meta;
    Rows rows;
    Projection projection;
    LineCodes lines;
    Entries entries;
    PagedSearch search;
    PagedSearch::Source source{meta, rows, projection, lines, entries};
    bool scanning = false;
    std::vector<MrlHit> hits;

    MrlReader(const MrlMeta& with, const std::uint8_t* blob)
        : meta(with), rows(metric_of(with.metric), with.dims, false) {
        if (with.dims == 0 || with.dims > MRL_MOST_DIMS || with.code_stride != rows.code_stride() ||
            with.rows_per_page != mrl_rows_per_page(with.code_stride) || with.linked > with.slots) {
            throw std::runtime_error("the index's first page contradicts itself");
        }
        lines.reset(rows.metric(), with.unit);
        BlobReader reader(blob, with.blob_bytes);
        projection.fields(reader);
        entries.whole(reader);
        if (!projection.restore(rows.metric(), with.dims) || !entries.restore(lines, with.linked)) {
            throw std::runtime_error("the index's blob does not fit it");
        }
    }

    void encode(const float* vector, std::uint8_t* code, std::uint8_t* line, MrlTail* tail) const {
        Rows one(rows.metric(), meta.dims, false);
        one.append(vector, 1, meta.dims, 1);
        constexpr std::uint32_t kFirst = 0;
        float coordinates[kLineCoordinates], square;
        projection.project(one, &kFirst, 1, coordinates, &square);
        LineCodes lined;
        lined.like(lines);
        lined.resize(1);
        lined.encode(0, coordinates, square);
        std::memcpy(code, one.code(0), meta.code_stride);
        std::memcpy(line, lined.high(), kLineBytes);
        std::memcpy(line + kLineBytes, lined.low(), kLineBytes);
        tail->scale = one.scale(0);
        tail->square = one.square(0);
    }

    // Estimates as distances. An int8 code is off by a twelfth of its step's square in each dim,
    // the query's too; five standard deviations below an estimate is where a distance hardly ever
    // is.
    void collect() {
        hits.clear();
        const RowQuery& query = search.query();
        const bool cosine = rows.metric() == Metric::cosine;
        for (const PagedHit& hit : search.hits()) {
            const double length = cosine ? 1.0 : std::sqrt(static_cast<double>(hit.square));
            const double with_row = hit.scale * (cosine ? 1.0 : query.norm),
                         with_query = query.scale * length;
            const double off =
                5.0 * std::sqrt((with_row * with_row + with_query * with_query) / 12.0);
            const double distance = rows.distance_of_score(query, hit.score);
            hits.push_back({hit.slot, distance,
                            rows.distance_of_score(query, static_cast<float>(hit.score - off))});
        }
    }
};

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

MrlStatus mrl_search_begin(MrlReader* reader, const MrlMeta* meta, const MrlPageHost* host,
                           const float* query, size_t effort, size_t keep, bool scan) {
    return guarded([&] {
        reader->meta = *meta;
        reader->scanning = scan;
        if (scan) {
            reader->search.begin_scan(reader->source, *host, query, {effort, keep});
        } else {
            reader->search.begin(reader->source, *host, query, {effort, keep});
        }
    });
}

MrlStatus mrl_search_step(MrlReader* reader, MrlAnswer answer) {
    bool waits = false;
    const MrlStatus status = guarded([&] {
        if (answer == MRL_COPIED) reader->search.copied();
        if (answer == MRL_UNSTEADY) reader->search.ask_for_copies();
        waits = reader->search.step() == Step::pages;
        if (!waits) reader->collect();
    });
    return waits ? MRL_PAGES : status;
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

}  // extern "C"
