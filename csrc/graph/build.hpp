// Building the graph: nearest neighbours by cells, pruned; then, for the default build, a round of
// walks that finds what cells could not.
//
// 1. Rows are renumbered by k-means cells, neighbouring cells one after another, so that a walk's
// lines lie near each other.
// 2. Every cell is compared with its nearest cells, all rows against all rows, as one product of
// int8 matrices (Kernels::tile_int8):
//    hundreds of giga multiply-adds a second, where a search for each row would wait for memory.
// 3. Each row's nearest candidates are pruned to at most 32 links: a candidate is dropped when a
// link is nearer to it than the row is, by
//    alpha (the rule of Vamana, DiskANN, NeurIPS 2019), in rounds of growing alpha. Reverse links
//    are offered, and pruned again.
// 4. Each row's own code is searched for in that graph; the candidates that its walk met join the
// links, and all is pruned once more.
//
// The result is the same whatever the number of threads: a round reads the links of the round
// before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../store/store.hpp"
#include "prune.hpp"

namespace mrl {

// What a build is given when nothing else is said; Python and tests take it from here.
struct BuildOptions {
    std::size_t threads = 1;
    std::size_t candidates = kCandidates;  // nearest rows of each row that cells give
    std::size_t compared_rows = 4096;      // how many rows, about, each row is compared with
    std::size_t rounds = 2;                // of walks
    std::size_t walk_hops = 128;
    std::size_t walk_pool = 160;
    float alpha = kAlpha;
    std::uint64_t seed = 1;
};

// Half the work, for a graph that misses a little more.
constexpr BuildOptions kFastBuild{
    .candidates = 48, .compared_rows = 2048, .rounds = 1, .walk_hops = 112, .walk_pool = 128};

// Bytes a row that a build holds beside what it makes (lines, links, the order of slots): build
// codes twice; later once, with links, their distances, and what leads back to an eighth of the
// slots. Each thread takes some 5 MB more, whatever the number of rows.
constexpr std::size_t kBuildRowBytes = 580;

// Called with (work done, work in all) now and then, from one thread at a time; may throw to stop
// the build.
using BuildProgress = std::function<void(double done, double total)>;

struct BuiltGraph {
    std::vector<std::uint32_t> row_of_slot;
    LineCodes codes;
    Links links;
    Entries entries;
};

// The graph over the rows listed in `rows_in`.
BuiltGraph build_graph(const Rows& rows, const Projection& projection,
                       const std::vector<std::uint32_t>& rows_in, const BuildOptions& options,
                       const BuildProgress& progress);

// The same over all rows of a store, which takes it.
void build_graph(Store& store, const BuildOptions& options, const BuildProgress& progress);

}  // namespace mrl
