// Building an index in memory, for engine.h.
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "../graph/build.hpp"
#include "../graph/effort_recall.hpp"
#include "../search/crowd.hpp"
#include "../store/line_spread.hpp"
#include "../store/projection_fit.hpp"
#include "../system/thread_pool.hpp"
#include "engine.hpp"
#include "engine_blob.hpp"

using namespace mrl;

namespace {

// Of a row, at the peak of a build, beside its code: lines, links and order, too.
constexpr std::size_t kGraphBytes = kBuildRowBytes + 2 * kLineBytes + 4 * kDegree + 8;
constexpr std::size_t kBlock = 256;  // rows encoded together
// Of walks that are measured, each finds more than the one before by about as much.
constexpr std::uint32_t kEfforts[] = {12,  16,  22,  32,  45,  64,   90,   128,
                                      180, 256, 360, 512, 720, 1024, 1448, 2048};
static_assert(std::size(kEfforts) <= MRL_MOST_EFFORTS);
// A session may ask for more than the index was made for: measured at least up to here.
constexpr float kMeasuredRecall = 0.99f;
constexpr std::size_t kPromisedQueries = 2000;  // .995 and more can be proven by so many
constexpr std::size_t kEffortOfCandidate = 8;   // beyond the least, of mrl_keep_of_effort
constexpr float kBeyond = 0.0005f;  // the bound is that far above the target: no need to go on

// A backend's signals are handled in its own thread: helpers start with all of them blocked, and
// the pool keeps them.
void start_helpers(std::size_t threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        parallel_for(threads, threads, [](std::size_t, std::size_t) {});
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

struct MrlBuild {
    MrlBuildOptions options;
    Rows rows;
    std::vector<float> block;  // rows that were added and not encoded yet
    std::vector<std::uint16_t> tids;
    std::vector<std::uint8_t> included;  // an item a row
    Projection projection;
    BuiltGraph built;
    std::vector<std::uint8_t> blob;
    // Of a graph over slots that were there before (place): the caller's slot of each of the
    // graph's, and the other way round. Empty: they are the same.
    std::vector<std::uint32_t> slot_of_node, node_of_slot;
    MrlMeta meta{};
    MrlEvidence evidence{};
    MrlChosen chosen{};

    explicit MrlBuild(const MrlBuildOptions& with)
        : options(with), rows(metric_of(with.metric), with.dims, false) {}

    void flush() {
        if (block.empty()) return;
        rows.append(block.data(), block.size() / options.dims, options.dims, 1);
        block.clear();
    }

    // Rows evenly spread, as the metric sees them.
    std::vector<float> sample() const {
        const std::size_t n = std::min(rows.size(), kProjectionSample);
        std::vector<float> out(n * options.dims);
        for (std::size_t i = 0; i < n; ++i)
            rows.decode(i * rows.size() / n, out.data() + i * options.dims);
        return out;
    }

    void graph(const std::function<void(double, double)>& progress) {
        flush();
        start_helpers(options.threads);
        std::vector<float> sampled = sample();
        const ProjectionFit fit = fit_projection(sampled, options.dims, options.prefix,
                                                 options.threads, [&] { progress(0, 1); });
        std::vector<float>().swap(sampled);
        projection = Projection(rows.metric(), options.dims, fit.matrix.data(), fit.mean.data());
        std::vector<std::uint32_t> all(rows.size());
        for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint32_t>(i);
        BuildOptions build;
        build.threads = options.threads;
        built = build_graph(rows, projection, all, build, progress);
        LineSpread spread = measure_spread(rows, projection);
        // Who says which dims to walk by is taken at the word: what they cut off is for the effort.
        if (options.prefix != 0) spread.tail = 0.0f;
        built.codes.set_spread(spread);
        if (options.recall > 0 || options.chooses) measure([&] { progress(0, 1); });
        describe(static_cast<std::uint32_t>(rows.size()));
    }

    void measure(const std::function<void()>& tick) {
        Store store(rows.metric(), options.dims, KeyType::int64, false);
        store.deleted.resize(rows.size());
        store.row_of_slots.resize(rows.size());
        store.slot_of_rows.resize(rows.size());
        for (std::uint32_t slot = 0; slot < rows.size(); ++slot) {
            store.row_of_slots[slot] = built.row_of_slot[slot];
            store.slot_of_rows[built.row_of_slot[slot]] = slot;
        }
        store.live = rows.size();
        // Lent for the time; a build that is stopped meanwhile is at its end.
        store.rows = std::move(rows);
        store.projection = std::move(projection);
        store.lines = std::move(built.codes);
        store.links = std::move(built.links);
        store.entries = std::move(built.entries);
        if (options.recall > 0)
            promise(store, tick);
        else
            choose(store, tick);
        rows = std::move(store.rows);
        projection = std::move(*store.projection);
        built.codes = std::move(store.lines);
        built.links = std::move(store.links);
        built.entries = std::move(store.entries);
    }

    // What a promise rests on; and as an index's recall may be taken back, a choice, too.
    void promise(const Store& store, const std::function<void()>& tick) {
        const float target = std::max(options.recall, kMeasuredRecall);
        const EffortRecalls measured = measure_efforts(
            store,
            {.queries = kPromisedQueries,
             .efforts = {std::begin(kEfforts), std::end(kEfforts)},
             .keep = mrl_keep_of_effort,
             .is_enough = [&](const EffortRecall& each) { return each.lower > target + kBeyond; },
             .threads = options.threads,
             .tick = tick});
        evidence.queries = measured.queries;
        for (const EffortRecall& each : measured.of)
            evidence.of[evidence.n++] = {each.effort, each.mean, each.lower};
        for (const EffortRecall& each : measured.of) {
            if (each.effort < MRL_DEFAULT_EFFORT || chosen.recall >= kEnoughRecall) continue;
            chosen = {measured.queries, each.effort, 0, each.mean};
        }
    }

    void choose(const Store& store, const std::function<void()>& tick) {
        const std::size_t n = store.rows.size();
        const std::size_t queries = default_effort_queries(n, options.dims);
        if (queries == 0) return;
        const std::size_t scan_effort = n / (2 * MRL_LINES_A_HOP) + 1;
        std::vector<std::uint32_t> efforts = default_efforts(MRL_DEFAULT_EFFORT, n);
        // Where lines tell rows badly apart, more and more of their codes are looked at; not where
        // it was said which dims they are to be made from.
        const bool wider = n <= crowd::kMostScanned && options.prefix == 0;
        for (std::size_t share = 64; wider && share != 0; share /= 4) {
            const std::size_t effort = kEffortOfCandidate * (n / share);
            if (effort > scan_effort) efforts.push_back(static_cast<std::uint32_t>(effort));
        }
        const EffortRecalls measured = measure_efforts(
            store,
            {.queries = queries,
             .efforts = efforts,
             .keep = mrl_keep_of_effort,
             .scan_effort = scan_effort,
             .is_enough = [](const EffortRecall& each) { return each.mean >= kEnoughRecall; },
             .threads = options.threads,
             .tick = tick});
        const EffortRecall& last = measured.of.back();
        const bool scans = last.effort == kScanEffort;
        const std::uint32_t effort =
            scans ? measured.of[measured.of.size() - 2].effort : last.effort;
        chosen = {measured.queries, effort, scans ? 1u : 0u, last.mean};
    }

    // Gives the rows the caller's slots, n in all.
    void place(const std::uint32_t* slots, std::uint32_t n) {
        slot_of_node.resize(rows.size());
        node_of_slot.assign(n, kNoLink);
        for (std::uint32_t node = 0; node < slot_of_node.size(); ++node) {
            slot_of_node[node] = slots[built.row_of_slot[node]];
            node_of_slot[slot_of_node[node]] = node;
        }
        for (std::uint32_t& slot : built.entries.slots) slot = slot_of_node[slot];
        describe(n);
    }

    void describe(std::uint32_t n) {
        BlobWriter writer;
        projection.visit(writer);
        built.entries.visit(writer);
        writer.value("spread", built.codes.spread());
        writer.value("evidence", evidence);
        writer.value("chosen", chosen);
        blob = std::move(writer.bytes);
        const auto pages = [n](std::uint32_t each) { return (n + each - 1) / each; };
        meta.magic = MRL_MAGIC;
        meta.format = MRL_FORMAT;
        meta.metric = static_cast<std::uint16_t>(options.metric);
        meta.dims = options.dims;
        meta.prefix = options.prefix;
        meta.code_stride = static_cast<std::uint32_t>(rows.code_stride());
        meta.rows_per_page = mrl_rows_per_page(meta.code_stride);
        meta.slots = meta.linked = n;
        meta.blob_bytes = static_cast<std::uint32_t>(blob.size());
        meta.unit = built.codes.unit();
        meta.fitted = static_cast<std::uint32_t>(rows.size());
        for (std::uint32_t i = 0; i < rows.size(); ++i)
            meta.longest_square = std::max(meta.longest_square, rows.square(i));
        meta.pages[MRL_LINKS] = meta.pages[MRL_LINES] = pages(MRL_ITEMS);
        meta.pages[MRL_ROWS] = pages(meta.rows_per_page);
        meta.included_bytes = options.included_bytes;
        meta.pages[MRL_INCLUDED] =
            meta.included_bytes == 0 ? 0 : pages(mrl_items_per_page(meta.included_bytes));
    }

    void items(int section, std::uint32_t number, std::uint8_t* page) const {
        const std::uint32_t bytes = options.included_bytes;
        const std::uint32_t each = section == MRL_ROWS       ? meta.rows_per_page
                                   : section == MRL_INCLUDED ? mrl_items_per_page(bytes)
                                                             : std::uint32_t{MRL_ITEMS};
        const std::uint32_t first = number * each, end = std::min(meta.slots, first + each);
        if (section == MRL_LINKS) std::memset(page + MRL_PAGE_HEAD, 0xff, MRL_PAGE_ROOM);
        for (std::uint32_t slot = first; slot < end; ++slot) {
            const std::uint32_t node = node_of_slot.empty() ? slot : node_of_slot[slot];
            const std::uint32_t place = slot - first;
            std::uint8_t* item = page + MRL_PAGE_HEAD + std::size_t{place} * MRL_ITEM_BYTES;
            if (node == kNoLink && section == MRL_LINES)
                LineCodes::put_nowhere(item, item + kLineBytes);
            if (node == kNoLink) continue;
            const std::uint32_t row = built.row_of_slot[node];
            if (section == MRL_LINKS) {
                std::uint32_t links[kDegree];
                std::copy_n(built.links.of(node), kDegree, links);
                for (std::size_t e = 0; e < kDegree && !slot_of_node.empty(); ++e)
                    if (links[e] != kNoLink) links[e] = slot_of_node[links[e]];
                std::memcpy(item, links, sizeof links);
            } else if (section == MRL_LINES) {
                std::memcpy(item, built.codes.high() + std::size_t{node} * kLineBytes, kLineBytes);
                std::memcpy(item + kLineBytes, built.codes.low() + std::size_t{node} * kLineBytes,
                            kLineBytes);
            } else if (section == MRL_INCLUDED) {
                const std::uint8_t* from = included.data() + std::size_t{row} * bytes;
                for (const MrlPiece& piece : std::span{options.pieces, options.n_pieces})
                    std::memcpy(page + MRL_PAGE_HEAD + mrl_piece_at(each, piece, place),
                                from + piece.offset, piece.bytes);
            } else {
                MrlTail tail{rows.scale(row), rows.square(row), {}, 0};
                std::memcpy(tail.tid, tids.data() + std::size_t{row} * 3, sizeof tail.tid);
                std::memcpy(page + MRL_PAGE_HEAD + std::size_t{place} * meta.code_stride,
                            rows.code(row), meta.code_stride);
                std::memcpy(page + mrl_tail_at(&meta, place), &tail, sizeof tail);
            }
        }
    }
};

extern "C" {

MrlStatus mrl_build_begin(const MrlBuildOptions* options, MrlBuild** build) {
    return guarded([&] { *build = std::make_unique<MrlBuild>(*options).release(); });
}

void mrl_build_free(MrlBuild* build) { std::unique_ptr<MrlBuild>{build}; }

MrlStatus mrl_build_add(MrlBuild* build, const float* vector, const uint16_t tid[3],
                        const uint8_t* item) {
    return guarded([&] {
        if (item != nullptr)
            build->included.insert(build->included.end(), item,
                                   item + build->options.included_bytes);
        build->block.insert(build->block.end(), vector, vector + build->options.dims);
        build->tids.insert(build->tids.end(), tid, tid + 3);
        if (build->block.size() == kBlock * build->options.dims) build->flush();
    });
}

size_t mrl_build_bytes(const MrlBuild* build, size_t rows) {
    const size_t dims = build->options.dims,
                 kept = round_up(dims, kCacheLine) + 20 + build->options.included_bytes;
    const size_t sample =
        std::min(rows, kProjectionSample) * dims * sizeof(float) + dims * dims * sizeof(float);
    return rows * kept + std::max(rows * kGraphBytes, sample);
}

size_t mrl_build_rows(const MrlBuild* build) { return build->tids.size() / 3; }

MrlStatus mrl_build_graph(MrlBuild* build, MrlProgress progress, void* state) {
    return guarded([&] {
        build->graph([&](double done, double total) {
            if (progress(state, done, total)) throw Cancelled{};
        });
    });
}

MrlStatus mrl_build_place(MrlBuild* build, const uint32_t* slots, uint32_t n) {
    return guarded([&] { build->place(slots, n); });
}

const MrlMeta* mrl_build_meta(const MrlBuild* build) { return &build->meta; }
const uint8_t* mrl_build_blob(const MrlBuild* build) { return build->blob.data(); }
const MrlEvidence* mrl_build_evidence(const MrlBuild* build) { return &build->evidence; }
const MrlChosen* mrl_build_chosen(const MrlBuild* build) { return &build->chosen; }
void mrl_build_page(const MrlBuild* build, int section, uint32_t number, uint8_t* page) {
    build->items(section, number, page);
}

}  // extern "C"
