// A search over pages against the walk over memory: the same pops and the same hits, bit for bit,
// however the host moves the pages while they are read; and against a funnel over the same rows,
// which is as wide for each query and finds the same. The pages are those that the extension
// writes, from its own build; a frame ends where memory cannot be read.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "disk.hpp"
#include "frames.hpp"
#include "graph/effort_recall.hpp"
#include "index/index.hpp"
#include "kernels/dispatch.hpp"
#include "postgres/engine.h"
#include "postgres/engine_reader.hpp"
#include "search/crowd.hpp"
#include "store/projection_fit.hpp"

using disk::build;
using disk::Disk;
using disk::Frames;
using disk::Kind;
using disk::vectors;

namespace {

constexpr std::size_t kWaiting = 150;  // rows behind the graph

// The same index in memory, read from its pages.
struct Memory {
    mrl::Links links;
    mrl::Entries entries;
    mrl::LineCodes lines;
    std::vector<std::uint32_t> row_of_slot;

    explicit Memory(Disk& disk) {
        links.resize(disk.meta.linked);
        mrl::BlobWriter writer;
        std::vector<std::uint8_t> planes[2];
        for (std::uint32_t slot = 0; slot < disk.meta.linked; ++slot) {
            std::memcpy(links.of(slot), disk.item(MRL_LINKS, slot), MRL_ITEM_BYTES);
            const std::uint8_t* line = disk.item(MRL_LINES, slot);
            for (auto& plane : planes) {
                plane.insert(plane.end(), line, line + mrl::kLineBytes);
                line += mrl::kLineBytes;
            }
            MrlTail tail;
            std::memcpy(&tail,
                        disk.pages[MRL_ROWS][slot / disk.meta.rows_per_page].data() +
                            mrl_tail_at(&disk.meta, slot % disk.meta.rows_per_page),
                        sizeof tail);
            row_of_slot.push_back(std::uint32_t{tail.tid[0]} << 16 | tail.tid[1]);
        }
        mrl::BlobReader blob(disk.blob.data(), disk.blob.size());
        mrl::Projection projection;
        mrl::LineSpread spread;
        projection.visit(blob);
        entries.visit(blob);
        blob.value("", spread);
        writer.value("", disk.meta.unit);
        for (const float each : {spread.tail, spread.typical, spread.longest})
            writer.value("", each);
        for (const auto& plane : planes) writer.list("", plane);
        mrl::BlobReader reader(writer.bytes.data(), writer.bytes.size());
        lines.visit(reader);
        CHECK(lines.restore(mrl::metric_of(disk.meta.metric), disk.meta.linked));
        CHECK(entries.restore(lines, disk.meta.linked));
    }
};

// Of the best allowed rows, found under a filter by walks and by looks at all lines.
std::size_t walked = 0, scanned_found = 0, walkable = 0;

struct Answer {
    std::vector<std::uint32_t> popped;
    std::vector<mrl::PagedHit> hits;
};

// What a walk gives, from the walk over memory and plain sorting.
Answer oracle(const Memory& memory, const MrlReader& reader, const mrl::Rows& rows,
              const float* query, std::size_t effort, std::size_t keep, std::size_t k) {
    using mrl::crowd::Next;
    const mrl::Kernels& kernels = mrl::kernels();
    const bool refine = rows.dims() >= 640;
    mrl::RowQuery row_query;
    mrl::LineQuery line_query;
    float coordinates[mrl::kLineCoordinates];
    rows.prepare(query, row_query);
    const float square = reader.projection.project(row_query, coordinates);
    memory.lines.prepare(coordinates, line_query);
    const mrl::LineLengths lengths =
        mrl::lengths_of(coordinates, square, rows.dims(), rows.metric());
    mrl::Walk walk;
    std::vector<mrl::Candidate> best;
    std::size_t wider = 1;
    const auto resolution = [&](float score) {
        return mrl::crowd::line_resolution(lengths, score, {wider, keep, k}, rows.dims(),
                                           memory.lines);
    };
    Next next = Next::wider;
    for (; next == Next::wider; keep *= 4, wider *= 4) {
        mrl::WalkOptions options{};
        options.hops = wider * effort;
        options.pool = std::max({wider * effort, std::size_t{32}, keep + keep / 2});
        options.pool = std::min(options.pool, std::size_t{8192});
        options.k = k;
        options.margin = mrl::crowd::margin_of(effort, wider, -1.0f, memory.lines.spread()) *
                         mrl::query_unit(lengths, memory.lines);
        options.refine = refine;
        mrl::walk_graph(kernels, {memory.links, memory.entries, memory.lines}, line_query, options,
                        nullptr, walk);
        if (!refine) kernels.pool_cut(&walk.pool, 3 * keep);
        best.clear();
        for (std::size_t i = 0; i < walk.pool.size; ++i) {
            float score = walk.pool.key[i];
            if (!refine)
                kernels.score_both(&line_query, memory.lines.high(), memory.lines.low(),
                                   &walk.pool.id[i], 1, &score);
            best.push_back({score, walk.pool.id[i]});
        }
        std::sort(best.begin(), best.end());
        best.resize(std::min(best.size(), keep));
        next = mrl::crowd::next(best, {keep, k, wider, rows.size(), rows.size()}, resolution);
    }
    if (next == Next::scan) {
        wider = mrl::crowd::kWidest;
        best.clear();
        for (std::uint32_t slot = 0; slot < rows.size(); ++slot) {
            float score;
            kernels.score_both(&line_query, memory.lines.high(), memory.lines.low(), &slot, 1,
                               &score);
            best.push_back({score, slot});
        }
        std::sort(best.begin(), best.end());
        const float kth = best[k - 1].score, limit = kth + resolution(kth);
        std::erase_if(best, [&](const auto& each) { return each.score >= limit; });
    }
    Answer answer{walk.popped, {}};
    for (const auto& [_, slot] : best) {
        const std::uint32_t row = memory.row_of_slot[slot];
        float score;
        rows.score(kernels, row_query, &row, 1, &score);
        answer.hits.push_back({slot, score, rows.scale(row), rows.square(row)});
    }
    std::sort(answer.hits.begin(), answer.hits.end(), [](const auto& a, const auto& b) {
        return a.score != b.score ? a.score < b.score : a.slot < b.slot;
    });
    return answer;
}

// The same rows in a process's memory, behind a plan whose first stage is the same walk.
class Funnel {
  public:
    // rows: the same without their vectors, as a build of pages has them.
    Funnel(const mrl::Rows& rows, const std::vector<float>& all)
        : dims_(rows.dims()), index_(rows.metric(), dims_, mrl::KeyType::int64, true) {
        std::vector<std::int64_t> keys(rows.size());
        for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::int64_t>(i);
        const auto* bytes = reinterpret_cast<const unsigned char*>(keys.data());
        index_.append({mrl::KeyType::int64, bytes, nullptr, keys.size()}, all.data(), dims_, 2);
        std::vector<float> sample(all.size());
        for (std::size_t i = 0; i < rows.size(); ++i) rows.decode(i, sample.data() + i * dims_);
        const mrl::ProjectionFit fit = mrl::fit_projection(sample, dims_, 0, 2, [] {});
        index_.set_projection(fit.matrix.data(), fit.mean.data());
        index_.build({.threads = 2}, {});
    }

    struct Found {
        std::uint64_t read, candidates;      // lines, and what the walk passes on
        std::vector<std::uint32_t> nearest;  // rows
    };
    Found search(const float* query, std::size_t effort, std::size_t keep, std::size_t k) const {
        const mrl::Plan plan{mrl::Route::graph,
                             effort,
                             {{mrl::Space::projection, std::min(dims_, mrl::kLineCoordinates),
                               mrl::Precision::int4, keep},
                              {mrl::Space::prefix, dims_, mrl::Precision::float32, k}}};
        Found found{};
        mrl::StageCounts counts{};
        index_.search(query, 1, {plan}, counts,
                      [&](std::size_t, const mrl::RowHit* hits, std::size_t n) {
                          for (std::size_t i = 0; i < n; ++i) found.nearest.push_back(hits[i].row);
                      });
        found.read = counts.stages[0].rows_in;
        found.candidates = counts.stages[0].rows_out;
        return found;
    }

  private:
    std::size_t dims_;
    mrl::Index index_;
};

bool same(const Answer& a, const Answer& b) {
    return a.popped == b.popped && std::equal(a.hits.begin(), a.hits.end(), b.hits.begin(),
                                              b.hits.end(), [](const auto& x, const auto& y) {
                                                  return x.slot == y.slot && x.score == y.score &&
                                                         x.scale == y.scale && x.square == y.square;
                                              });
}

struct Asked {
    const float* query;
    MrlSearchKind kind;
    std::size_t effort, keep, k;
    const std::uint32_t* slots = nullptr;
    MrlAllowed allowed{};
};

Answer search(MrlReader* reader, const Disk& disk, Frames& frames, const Asked& asked) {
    const MrlPageHost host = frames.host();
    CHECK(mrl_search_begin(reader, &disk.meta, &host, asked.query,
                           {asked.kind, asked.effort, asked.keep, asked.k, asked.slots,
                            asked.allowed}) == MRL_DONE);
    frames.run(reader);
    return {reader->search.popped(), reader->search.hits()};
}

// Under a filter only its slots come out: of a look at all lines the best of them, of a walk most
// of these, though the allowed slots are the farthest ones.
void check_filter(MrlReader* reader, const Disk& disk, const float* query, std::size_t q,
                  std::mt19937& random) {
    const std::uint32_t slots = disk.meta.slots;
    Frames steady(disk, Kind::steady, random), copies(disk, Kind::copied, random),
        moving(disk, Kind::moving, random);
    const Answer all = search(reader, disk, steady, {query, MRL_SCAN, 1, slots, 10});
    CHECK(all.hits.size() == slots);
    const std::size_t share = q % 3 == 0 ? 2 : q % 3 == 1 ? 10 : 50, allow = slots / share;
    std::vector<std::uint64_t> words(slots / 64 + 1);
    std::vector<std::uint32_t> best;  // allowed, by their lines
    for (std::size_t i = 0; i < slots; ++i) {
        const std::uint32_t slot = all.hits[i].slot;
        const bool allowed = q % 2 == 0 ? i >= slots - allow : random() % share == 0;
        if (!allowed) continue;
        words[slot / 64] |= std::uint64_t{1} << (slot % 64);
        best.push_back(slot);
    }
    const MrlAllowed allowed{words.data(), slots, static_cast<std::uint32_t>(best.size())};
    for (const MrlSearchKind kind : {MRL_WALK, MRL_SCAN, MRL_SCAN_CODES}) {
        const Asked asked{query, kind, 100, 20, 10, nullptr, allowed};
        const Answer in_place = search(reader, disk, steady, asked);
        std::size_t found = 0;
        for (const mrl::PagedHit& hit : in_place.hits) {
            const auto at = std::find(best.begin(), best.end(), hit.slot);
            CHECK(at != best.end());
            found += at < best.begin() + 20 ? 1 : 0;
        }
        const std::size_t most = std::min<std::size_t>(20, best.size());
        if (kind == MRL_SCAN) CHECK(found == most);
        if (kind == MRL_SCAN_CODES) scanned_found += found;
        if (kind == MRL_WALK) {
            walked += found;
            walkable += most;
        }
        CHECK(same(search(reader, disk, copies, asked), in_place));
        CHECK(same(search(reader, disk, moving, asked), in_place));
    }
}

// alike: many rows and all queries are nearly copies of one, and walks are made again, wider, until
// all lines are looked at. lengths: very different ones.
enum class Made { plain, alike, lengths };

void check_index(MrlMetric metric, std::size_t n, std::size_t dims, std::mt19937& random,
                 Made made = Made::plain) {
    const bool alike = made == Made::alike;
    const std::size_t asked_for = alike ? 4 : 12;  // a crowd's searches are long
    std::vector<float> all = vectors(n, dims, random), queries = vectors(12, dims, random),
                       waiting = vectors(kWaiting, dims, random);
    if (alike) {
        const std::vector<float> first(all.begin(),
                                       all.begin() + static_cast<std::ptrdiff_t>(dims));
        const auto copy = [&](std::vector<float>& some, std::size_t from) {
            for (std::size_t i = from; i < some.size(); ++i)
                some[i] = first[i % dims] + 0.02f * some[i];
        };
        copy(all, n * 55 / 100 * dims);
        copy(queries, 0);
        copy(waiting, 0);
    }
    std::lognormal_distribution<float> length(0.0f, 1.5f);
    for (std::size_t i = 0; i < n && made == Made::lengths; ++i) {
        const float times = length(random);
        for (std::size_t d = 0; d < dims; ++d) all[i * dims + d] *= times;
    }
    Disk disk = build(metric, all, dims);
    MrlReader* reader;
    CHECK(mrl_reader_open(&disk.meta, disk.blob.data(), &reader) == MRL_DONE);
    const Memory memory(disk);
    mrl::Rows rows(mrl::metric_of(disk.meta.metric), dims, false);
    rows.append(all.data(), n, dims, 1);
    const Funnel funnel(rows, all);

    std::size_t moved = 0, copied = 0, paused = 0, scanned = 0, compared = 0;
    for (int waits = 0; waits < 2; ++waits) {
        Frames steady(disk, Kind::steady, random), copies(disk, Kind::copied, random),
            moving(disk, Kind::moving, random);
        for (std::size_t q = 0; q < asked_for; ++q) {
            const float* query =
                waits != 0 && q % 2 == 0 ? waiting.data() + q * dims : queries.data() + q * dims;
            for (const MrlSearchKind kind : {MRL_WALK, MRL_SCAN, MRL_SCAN_CODES, MRL_GATHER}) {
                const std::size_t effort = q % 3 == 0 ? 8 : 20 * q;
                const Asked asked{query, kind, effort,
                                  std::size_t{q % 4 == 0 ? 100u
                                              : alike    ? 12u
                                                         : 20u},
                                  std::size_t{q % 4 == 0 ? 60u : 10u}};
                const Answer in_place = search(reader, disk, steady, asked);
                if (kind == MRL_WALK && waits == 0) {
                    CHECK(same(in_place,
                               oracle(memory, *reader, rows, query, effort, asked.keep, asked.k)));
                    const Funnel::Found found = funnel.search(query, effort, asked.keep, asked.k);
                    // A funnel that is to keep all looks at all, and one that found too few.
                    const bool keeps_all = found.candidates == n;
                    const bool looked_again = keeps_all || found.candidates < asked.k;
                    CHECK(keeps_all || found.read == mrl_search_scored(reader));
                    CHECK(keeps_all || found.candidates == in_place.hits.size());
                    for (const std::uint32_t row : found.nearest)
                        CHECK(looked_again ||
                              std::any_of(in_place.hits.begin(), in_place.hits.end(),
                                          [&](const mrl::PagedHit& hit) {
                                              return memory.row_of_slot[hit.slot] == row;
                                          }));
                    scanned += mrl_search_scored(reader) > n ? 1 : 0;
                    compared += keeps_all ? 0 : 1;
                }
                if (kind == MRL_SCAN && waits == 0)
                    CHECK(in_place.hits.size() == std::min(asked.keep, n));
                if (kind != MRL_GATHER && waits != 0 && q % 2 == 0 && metric != MRL_INNER_PRODUCT &&
                    !alike)
                    CHECK(in_place.hits.front().slot == disk.meta.linked + q);
                CHECK(same(search(reader, disk, copies, asked), in_place));
                CHECK(same(search(reader, disk, moving, asked), in_place));
            }
            // The rows that lines find, scored by their codes, are those of a look at both; but for
            // a crowd, of which all are scored.
            const Answer both = search(reader, disk, steady, {query, MRL_SCAN_CODES, 1, 50, 10});
            std::vector<std::uint32_t> slots;
            for (const auto& hit :
                 search(reader, disk, steady, {query, MRL_SCAN, 1, both.hits.size(), 10}).hits)
                slots.push_back(hit.slot);
            const Asked asked{query, MRL_SCORE, 1, slots.size(), 10, slots.data()};
            for (Frames* frames : {&steady, &copies, &moving})
                CHECK(same(search(reader, disk, *frames, asked), both));
        }
        moved += moving.moved;
        copied += moving.copied;
        paused += steady.paused;
        if (waits == 0)
            for (std::size_t i = 0; i < kWaiting; ++i)
                disk.append(reader, waiting.data() + i * dims);
    }
    for (std::size_t q = 0; q < asked_for; ++q)
        check_filter(reader, disk, queries.data() + q * dims, q, random);
    CHECK(moved > 20 && copied > 20);
    // Under l2 a code is off by a share of the distance, and tells copies apart.
    CHECK(!alike || metric == MRL_L2 || (paused > 0 && scanned > 0));
    CHECK(n <= 100 || compared > 0);

    // A damaged index: any answer, and an end.
    for (auto& section : disk.pages)
        for (auto& page : section)
            for (std::size_t i = MRL_PAGE_HEAD; i < MRL_PAGE_BYTES; ++i)
                if (random() % 4 == 0) page[i] = static_cast<std::uint8_t>(random());
    Frames damaged(disk, Kind::moving, random);
    for (std::size_t q = 0; q < asked_for; ++q)
        for (const MrlSearchKind kind : {MRL_WALK, MRL_SCAN, MRL_SCAN_CODES, MRL_GATHER})
            search(reader, disk, damaged, {queries.data() + q * dims, kind, 200, 100, 10});
    mrl_reader_free(reader);
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(mrl::mean_lower_bound(std::vector<float>(500, 1.0f), 0.05) > 0.99);
    CHECK(mrl::mean_lower_bound(std::vector<float>(100, 1.0f), 0.05) < 0.99);
    const unsigned rounds = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1;
    for (unsigned seed = 1; seed <= rounds; ++seed) {
        std::printf("seed %u\n", seed);
        std::mt19937 random(seed);
        for (const MrlMetric metric : {MRL_COSINE, MRL_INNER_PRODUCT, MRL_L2}) {
            for (const std::size_t n : {1, 40, 1000}) check_index(metric, n, 48, random);
            check_index(metric, 400, 700, random);  // refines as it walks
            check_index(metric, 1800, 48, random, Made::alike);
            check_index(metric, 1000, 48, random, Made::lengths);
        }
    }
    std::printf("under filters walks found %zu of the best %zu, looks at all lines %zu\n", walked,
                walkable, scanned_found);
    CHECK(static_cast<double>(walked) > 0.9 * static_cast<double>(walkable));
    CHECK(static_cast<double>(scanned_found) > 0.95 * static_cast<double>(walkable));
    return 0;
}
