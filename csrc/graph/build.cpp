#include "build.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "../kernels/dispatch.hpp"
#include "../search/entries.hpp"
#include "../search/walk.hpp"
#include "../store/line_spread.hpp"
#include "../system/thread_pool.hpp"
#include "build_codes.hpp"
#include "cells.hpp"
#include "connect.hpp"
#include "meter.hpp"
#include "packed_cells.hpp"
#include "pruner.hpp"
#include "slot_numbers.hpp"

namespace mrl {
namespace {

constexpr std::size_t kReverse = 64;  // links from others that a row considers

using NearLinks = std::vector<Near>;  // kDegree for each slot, unused ones with kNoLink

class GraphOfCodes : public ConnectedGraph {
  public:
    GraphOfCodes(const BuildCodes& codes, Links& links) : codes_(codes), links_(links) {}

    std::size_t slots() const override { return links_.slots(); }
    bool has(std::uint32_t) const override { return true; }
    const std::uint32_t* of(std::uint32_t slot) const override { return links_.of(slot); }
    void set(std::uint32_t slot, std::size_t position, std::uint32_t to) override {
        links_.of(slot)[position] = to;
    }
    void measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                 float* distances) const override {
        std::int32_t products[kDegree];
        kernels().inner_product_int8_at(codes_.row(from), codes_.bytes.data(), to, n, kBuildBytes,
                                        kBuildBytes, products);
        for (std::size_t i = 0; i < n; ++i) distances[i] = codes_.between(from, to[i], products[i]);
    }
    bool is_same(std::uint32_t a, std::uint32_t b) const override {
        return codes_.scale[a] == codes_.scale[b] &&
               std::memcmp(codes_.row(a), codes_.row(b), kBuildBytes) == 0;
    }

  private:
    const BuildCodes& codes_;
    Links& links_;
};

// Candidates by cells, pruned.
void link_cells(const BuildCodes& codes, const std::vector<std::size_t>& begins,
                const std::vector<std::vector<std::uint32_t>>& near, const BuildOptions& options,
                NearLinks& links, Meter& meter) {
    const std::size_t cells = begins.size() - 1;
    std::vector<PackedCells> packed(std::max<std::size_t>(1, options.threads),
                                    PackedCells(codes, begins));
    parallel_for(options.threads, cells, [&](std::size_t cell, std::size_t worker) {
        constexpr std::size_t kOthers = 256;
        const Kernels& kernel = kernels();
        BuildPruner pruner(codes, options.alpha);
        std::vector<Nearest> nearest(kCompared, Nearest(options.candidates));
        std::vector<std::int32_t> products(kCompared * kOthers);
        for (std::size_t first = begins[cell]; first < begins[cell + 1]; first += kCompared) {
            const std::size_t count = std::min(kCompared, begins[cell + 1] - first);
            for (std::size_t i = 0; i < count; ++i) nearest[i].clear();
            for (const std::uint32_t other : near[cell]) {
                const std::uint8_t* tile = packed[worker].of(other);
                for (std::size_t at = begins[other]; at < begins[other + 1]; at += kOthers) {
                    const std::size_t others = std::min(kOthers, begins[other + 1] - at);
                    kernel.tile_int8(codes.row(first), count, kBuildBytes,
                                     tile + (at - begins[other]) * kBuildBytes, (others + 15) / 16,
                                     kBuildBytes, products.data(), kOthers);
                    for (std::size_t i = 0; i < count; ++i) {
                        float distance[kOthers];
                        std::uint32_t passing[kOthers];
                        const std::int32_t* product = products.data() + i * kOthers;
                        const float scale = 2.0f * codes.scale[first + i],
                                    lift = 2.0f * codes.lift[first + i];
                        const float base = codes.square[first + i];
                        const float *square = codes.square.data() + at,
                                    *scales = codes.scale.data() + at,
                                    *lifts = codes.lift.data() + at;
                        for (std::size_t j = 0; j < others; ++j) {
                            distance[j] = base + square[j] -
                                          scale * scales[j] * static_cast<float>(product[j]) -
                                          lift * lifts[j];
                        }
                        const std::size_t found =
                            kernel.select_below(distance, others, nearest[i].threshold(), passing);
                        for (std::size_t p = 0; p < found; ++p) {
                            const auto slot = static_cast<std::uint32_t>(at + passing[p]);
                            if (slot != first + i)
                                nearest[i].offer({std::max(0.0f, distance[passing[p]]), slot});
                        }
                    }
                }
            }
            for (std::size_t i = 0; i < count; ++i) {
                Near* to = links.data() + (first + i) * kDegree;
                pruner.prune(nearest[i].take(), to);
            }
            meter.add(static_cast<double>(count) * static_cast<double>(options.compared_rows));
        }
    });
}

// Offers every link to its target as well, and prunes what is then too much, into the graph: a part
// of the slots after the other, so that few backward links are held at once.
void link_back(const BuildCodes& codes, const BuildOptions& options, const NearLinks& links,
               Links& graph) {
    constexpr std::size_t kParts = 8, kFewest = 1 << 14, kSlots = 256;
    const std::size_t n = codes.size(), part = std::max(kFewest, (n + kParts - 1) / kParts);
    std::vector<Near> backward;
    for (std::size_t first = 0; first < n; first += part) {
        const std::size_t count = std::min(part, n - first);
        // What leads to slot first + i stands from begins[i] on; in any order.
        std::vector<std::size_t> begins(count + 2, 0);
        const auto each_into = [&](auto&& take) {
            parallel_for(options.threads, (n + kSlots - 1) / kSlots,
                         [&](std::size_t block, std::size_t) {
                             const std::size_t end = std::min(n, (block + 1) * kSlots);
                             for (std::size_t slot = block * kSlots; slot < end; ++slot) {
                                 const Near* own = links.data() + slot * kDegree;
                                 for (std::size_t e = 0; e < kDegree && own[e].slot != kNoLink; ++e)
                                     if (own[e].slot - first < count) take(slot, own[e]);
                             }
                         });
        };
        each_into([&](std::size_t, const Near& link) {
            __atomic_fetch_add(&begins[link.slot - first + 2], 1, __ATOMIC_RELAXED);
        });
        std::partial_sum(begins.begin(), begins.end(), begins.begin());
        backward.resize(std::max(backward.size(), begins.back()));
        each_into([&](std::size_t slot, const Near& link) {
            const std::size_t at =
                __atomic_fetch_add(&begins[link.slot - first + 1], 1, __ATOMIC_RELAXED);
            backward[at] = {link.distance, static_cast<std::uint32_t>(slot)};
        });
        parallel_for(
            options.threads, (count + kSlots - 1) / kSlots, [&](std::size_t block, std::size_t) {
                BuildPruner pruner(codes, options.alpha);
                std::vector<Near> candidates;
                Near pruned[kDegree];
                const std::size_t end = std::min(count, (block + 1) * kSlots);
                for (std::size_t i = block * kSlots; i < end; ++i) {
                    const std::size_t slot = first + i;
                    const Near* own = links.data() + slot * kDegree;
                    candidates.clear();
                    for (std::size_t e = 0; e < kDegree && own[e].slot != kNoLink; ++e)
                        candidates.push_back(own[e]);
                    auto from = backward.begin() + static_cast<std::ptrdiff_t>(begins[i]),
                         to = backward.begin() + static_cast<std::ptrdiff_t>(begins[i + 1]);
                    if (to - from > static_cast<std::ptrdiff_t>(kReverse)) {
                        std::nth_element(from, from + kReverse, to);
                        to = from + kReverse;
                    }
                    candidates.insert(candidates.end(), from, to);
                    std::sort(candidates.begin(), candidates.end());
                    candidates.erase(
                        std::unique(candidates.begin(), candidates.end(),
                                    [](const Near& a, const Near& b) { return a.slot == b.slot; }),
                        candidates.end());
                    std::size_t degree = candidates.size();
                    if (degree > kDegree)
                        degree = pruner.prune(candidates, pruned);
                    else
                        std::copy(candidates.begin(), candidates.end(), pruned);
                    std::uint32_t targets[kDegree];
                    for (std::size_t e = 0; e < degree; ++e) targets[e] = pruned[e].slot;
                    graph.set(slot, targets, degree);
                }
            });
    }
}

// Every row searches for itself; what its walk met are its new candidates, and the slots in
// `links`, whose distances are those from before link_back.
void link_walks(const BuildCodes& codes, const Projection& projection, const GraphView& graph,
                const BuildOptions& options, NearLinks& links, Meter& meter) {
    constexpr std::size_t kSlots = 64;
    const std::size_t n = codes.size();
    struct Worker {
        Walk walk;
        SlotNumbers offered;
    };
    std::vector<Worker> workers(std::max<std::size_t>(1, options.threads));
    parallel_for(
        options.threads, (n + kSlots - 1) / kSlots, [&](std::size_t block, std::size_t worker) {
            Walk& walk = workers[worker].walk;
            SlotNumbers& offered = workers[worker].offered;
            BuildPruner pruner(codes, options.alpha);
            Sorter sorter;
            std::vector<Near> candidates;
            std::vector<std::uint32_t> ids;
            std::vector<std::int32_t> products;
            const std::size_t end = std::min(n, (block + 1) * kSlots);
            for (std::size_t slot = block * kSlots; slot < end; ++slot) {
                float coordinates[kLineCoordinates];
                for (std::size_t j = 0; j < kLineCoordinates; ++j)
                    coordinates[j] = codes.scale[slot] * static_cast<float>(codes.row(slot)[j]);
                projection.as_query(coordinates);
                LineQuery query;
                graph.lines.prepare(coordinates, query);
                walk_graph(kernels(), graph, query,
                           {.hops = options.walk_hops, .pool = options.walk_pool}, nullptr, walk);
                Near* own = links.data() + slot * kDegree;
                ids.clear();
                const auto offer = [&](std::uint32_t other) {
                    const auto next = static_cast<std::uint32_t>(ids.size());
                    if (offered.find_or_add(other, next) == next) ids.push_back(other);
                };
                offered.clear();
                for (const std::uint32_t other : walk.popped) offer(other);
                for (std::size_t i = 0; i < walk.pool.size; ++i) offer(walk.pool.id[i]);
                for (std::size_t e = 0; e < kDegree && own[e].slot != kNoLink; ++e)
                    offer(own[e].slot);
                products.resize(ids.size());
                kernels().inner_product_int8_at(codes.row(slot), codes.bytes.data(), ids.data(),
                                                ids.size(), kBuildBytes, kBuildBytes,
                                                products.data());
                candidates.clear();
                for (std::size_t i = 0; i < ids.size(); ++i) {
                    if (ids[i] != slot)
                        candidates.push_back({codes.between(slot, ids[i], products[i]), ids[i]});
                }
                sorter.sort(candidates);
                pruner.prune(candidates, own);
            }
            meter.add(static_cast<double>(end - block * kSlots) *
                      static_cast<double>(options.compared_rows));
        });
}

}  // namespace

BuiltGraph build_graph(const Rows& rows, const Projection& projection,
                       const std::vector<std::uint32_t>& rows_in, const BuildOptions& options,
                       const BuildProgress& progress) {
    const std::size_t n = rows_in.size();
    BuiltGraph built;
    float unit = 1.0f;
    BuildCodes unordered = project_rows(rows, projection, rows_in, &unit, options.threads);
    built.codes.reset(rows.metric(), unit);
    if (n == 0) return built;

    const std::size_t cell_count = cells_of(n);
    const double work =
        static_cast<double>(n) * static_cast<double>(cell_count + options.compared_rows +
                                                     options.rounds * options.compared_rows);
    Meter meter(progress, work);
    const Cells cells = make_cells(unordered, cell_count, options, meter);

    // Slots: cells in their chain's order, rows within a cell as they came.
    std::vector<std::size_t> sizes(cell_count, 0);
    for (const std::uint32_t cell : cells.of_row) ++sizes[cell];
    const auto near_by_cell = nearest_cells(cells, sizes, options.compared_rows, options.threads);
    const std::vector<std::uint32_t> order = chain(near_by_cell);
    std::vector<std::uint32_t> place(cell_count);
    std::vector<std::size_t> begins(cell_count + 1, 0);
    for (std::size_t i = 0; i < cell_count; ++i) {
        place[order[i]] = static_cast<std::uint32_t>(i);
        begins[i + 1] = begins[i] + sizes[order[i]];
    }
    std::vector<std::vector<std::uint32_t>> near(cell_count);
    for (std::size_t i = 0; i < cell_count; ++i) {
        for (const std::uint32_t other : near_by_cell[order[i]]) near[i].push_back(place[other]);
    }
    std::vector<std::uint32_t> unordered_of_slot(n);
    std::vector<Near> middle(
        cell_count, Near{kInfinity, kNoLink});  // of each cell: the slot nearest to its centre
    {
        std::vector<std::size_t> next(begins.begin(), begins.end() - 1);
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint32_t cell = place[cells.of_row[i]];
            const auto slot = static_cast<std::uint32_t>(next[cell]++);
            unordered_of_slot[slot] = static_cast<std::uint32_t>(i);
            middle[cell] =
                std::min(middle[cell], Near{cells.distance[i] + unordered.square[i], slot});
        }
    }
    BuildCodes codes(n);
    built.row_of_slot.resize(n);
    built.codes.resize(n);
    parallel_for(options.threads, (n + kCompared - 1) / kCompared,
                 [&](std::size_t block, std::size_t) {
                     for (std::size_t slot = block * kCompared;
                          slot < std::min(n, (block + 1) * kCompared); ++slot) {
                         const std::size_t from = unordered_of_slot[slot];
                         codes.copy(slot, unordered, from);
                         built.row_of_slot[slot] = rows_in[from];
                         float z[kLineCoordinates], square;
                         projection.project(rows, &rows_in[from], 1, z, &square);
                         built.codes.encode(slot, z, square);
                     }
                 });
    unordered = BuildCodes(0);

    std::vector<std::uint32_t> entries;
    std::erase_if(middle, [](const Near& m) { return m.slot == kNoLink; });
    for (const Near& m : middle) entries.push_back(m.slot);
    built.links.resize(n);
    built.entries = group_entries(built.codes, entries);
    const GraphView graph{built.links, built.entries, built.codes};
    GraphOfCodes connected(codes, built.links);

    NearLinks links(n * kDegree, Near{kInfinity, kNoLink});
    link_cells(codes, begins, near, options, links, meter);
    for (std::size_t round = 0;; ++round) {
        link_back(codes, options, links, built.links);
        for (std::size_t slot = 0; slot < n; ++slot)
            for (std::size_t e = 0; e < kDegree; ++e)
                links[slot * kDegree + e].slot = built.links.of(slot)[e];
        connect(connected, entries, options.threads);
        if (round == options.rounds) return built;
        link_walks(codes, projection, graph, options, links, meter);
    }
}

void build_graph(Store& store, const BuildOptions& options, const BuildProgress& progress) {
    if (!store.projection) throw std::logic_error("a graph needs a projection");
    std::vector<std::uint32_t> all(store.rows.size());
    std::iota(all.begin(), all.end(), 0u);
    BuiltGraph built = build_graph(store.rows, *store.projection, all, options, progress);
    store.lines = std::move(built.codes);
    store.lines.set_spread(measure_spread(store.rows, *store.projection));
    store.links = std::move(built.links);
    store.entries = std::move(built.entries);
    store.alpha = options.alpha;
    store.row_of_slots.resize(all.size());
    store.slot_of_rows.resize(all.size());
    for (std::uint32_t slot = 0; slot < all.size(); ++slot) {
        const std::uint32_t row = built.row_of_slot[slot];
        store.row_of_slots[slot] = row;
        store.slot_of_rows[row] = slot;
    }
    store.has_graph = store.has_line_codes = true;
}

}  // namespace mrl
