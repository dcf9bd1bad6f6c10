// What a backend keeps of an index beside its pages.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../search/entries.hpp"
#include "../search/paged_search.hpp"
#include "engine.hpp"
#include "engine_blob.hpp"

using namespace mrl;

constexpr std::size_t kKeptHits = 1 << 16;  // for which memory is kept between searches

struct MrlReader {
    MrlMeta meta;
    Rows rows;
    Projection projection;
    LineCodes lines;
    Entries entries;
    PagedSearch search;
    PagedSearch::Source source{meta, rows, projection, lines, entries};
    std::vector<MrlHit> hits;
    MrlEvidence evidence{};
    MrlChosen chosen{};

    MrlReader(const MrlMeta& with, const std::uint8_t* blob)
        : meta(with), rows(metric_of(with.metric), with.dims, false) {
        if (with.dims == 0 || with.dims > MRL_MOST_DIMS || with.code_stride != rows.code_stride() ||
            with.rows_per_page != mrl_rows_per_page(with.code_stride) || with.linked > with.slots ||
            with.reused > MRL_MOST_REUSED) {
            throw std::runtime_error("the index's first page contradicts itself");
        }
        lines.reset(rows.metric(), with.unit);
        BlobReader reader(blob, with.blob_bytes);
        LineSpread spread;
        projection.visit(reader);
        entries.visit(reader);
        reader.value("spread", spread);
        reader.value("evidence", evidence);
        reader.value("chosen", chosen);
        for (const float ratio : {spread.tail, spread.typical, spread.longest}) {
            if (!(ratio >= 0.0f && ratio < kInfinity))
                throw std::runtime_error("the index's spread of lines contradicts itself");
        }
        lines.set_spread(spread);
        if (evidence.n > MRL_MOST_EFFORTS || chosen.scans > 1 ||
            (chosen.queries != 0 && chosen.effort == 0)) {
            throw std::runtime_error("the index's evidence contradicts itself");
        }
        if (!projection.restore(rows.metric(), with.dims) || !entries.restore(lines, with.linked)) {
            throw std::runtime_error("the index's blob does not fit it");
        }
    }

    void add_entry(std::uint32_t slot, const std::uint8_t* line) {
        if (entries.size() >= kMostEntries)
            throw std::runtime_error("the index has more entries than there may be");
        mrl::add_entry(entries, lines, slot, line);
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
        if (hits.capacity() > kKeptHits) std::vector<MrlHit>().swap(hits);
        hits.clear();
        const RowQuery& query = search.query();
        for (const PagedHit& hit : search.hits()) {
            const float off = 5.0f * score_noise(query, rows.metric(), hit.scale, hit.square);
            const double distance = rows.distance_of_score(query, hit.score);
            hits.push_back({hit.slot, distance, rows.distance_of_score(query, hit.score - off)});
        }
    }
};
