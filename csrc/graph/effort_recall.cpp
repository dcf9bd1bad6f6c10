#include "effort_recall.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../search/plan.hpp"
#include "../search/walk.hpp"
#include "../system/random.hpp"
#include "../system/thread_pool.hpp"
#include "detour.hpp"

namespace mrl {
namespace {

constexpr std::size_t kQueries = 2000;  // .995 and more can be proven by so many
constexpr std::size_t kAnswers = 10;
constexpr double kWrongProof = 0.05;  // probability
constexpr float kBeyond = 0.0005f;    // the bound is that far above the target: no need to go on
constexpr std::size_t kQueriesTogether = 64;  // queries that share a pass over all codes
constexpr std::size_t kRowsTogether = 128;    // rows of a pass that stay in the second-level cache
constexpr std::size_t kRefinedDims = 640, kMostPool = 8192, kLeastPool = 32, kHighKeep = 3;
// What hidden rows miss may be a little less than what fresh queries miss (docs/recall.md).
constexpr float kMissesWeigh = 1.1f;

struct Query {
    std::uint32_t row = 0;
    std::vector<float> vector;
    RowQuery coded;
    float tenth = kInfinity;  // score of the last true answer
};

// Distinct rows in random order.
std::vector<Query> draw(const Store& store) {
    std::mt19937_64 random(20251126);
    const std::vector<std::uint32_t> drawn = draw_distinct(store.rows.size(), kQueries, random);
    std::vector<Query> queries(drawn.size());
    for (std::size_t q = 0; q < drawn.size(); ++q) {
        queries[q].row = drawn[q];
        queries[q].vector.resize(store.dims());
        store.rows.decode(drawn[q], queries[q].vector.data());
        store.rows.prepare(queries[q].vector.data(), queries[q].coded);
    }
    return queries;
}

// The tenth score of each query among all rows but itself.
void find_tenth(const Store& store, Query* queries, std::size_t n) {
    const Kernels& kernel = kernels();
    const Rows& rows = store.rows;
    std::vector<std::vector<float>> best(n);
    std::vector<std::int32_t> products(kRowsTogether);
    for (std::size_t first = 0; first < rows.size(); first += kRowsTogether) {
        const std::size_t count = std::min(kRowsTogether, rows.size() - first);
        for (std::size_t q = 0; q < n; ++q) {
            std::vector<float>& heap = best[q];
            kernel.inner_product_int8(queries[q].coded.code.data(), rows.code(first), count,
                                      rows.code_stride(), rows.dims(), products.data());
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t row = first + i;
                const float base = rows.metric() == Metric::l2 ? 0.5f * rows.square(row) : 0.0f;
                const float score = base - queries[q].coded.scale * rows.scale(row) *
                                               static_cast<float>(products[i]);
                if (row == queries[q].row || (heap.size() == kAnswers && score >= heap.front()))
                    continue;
                if (heap.size() == kAnswers) {
                    std::pop_heap(heap.begin(), heap.end());
                    heap.pop_back();
                }
                heap.push_back(score);
                std::push_heap(heap.begin(), heap.end());
            }
        }
    }
    for (std::size_t q = 0; q < n; ++q)
        if (best[q].size() == kAnswers) queries[q].tenth = best[q].front();
}

// A walk for a hidden row, as a search over pages makes it (paged_search.cpp); the share of the
// answers among its candidates.
float recall_of_walk(const Store& store, const Query& query, const Detour* detour,
                     std::size_t effort, std::size_t keep, Walk& walk) {
    const Kernels& kernel = kernels();
    LineQuery line;
    float z[kLineCoordinates], square = 0;
    store.projection->project(query.coded, z);
    store.lines.prepare(z, line);
    for (const float coordinate : z) square += coordinate * coordinate;
    const float unit =
        store.metric() == Metric::cosine ? 1.0f : std::sqrt(square) / store.lines.unit();
    const std::uint32_t hidden = store.slot_of(query.row);
    const WalkOptions options{
        .hops = effort,
        .pool = std::min(kMostPool, std::max({effort, kLeastPool, keep + keep / 2})),
        .k = kAnswers,
        .margin = margin_of_effort(effort) * unit,
        .refine = store.dims() >= kRefinedDims,
        .hidden = hidden,
        .detour = detour};
    walk_graph(kernel, {store.links, store.entries, store.lines}, line, options, nullptr, walk);
    if (!options.refine) kernel.pool_cut(&walk.pool, kHighKeep * keep);
    std::vector<std::uint32_t> slots;
    for (std::size_t i = 0; i < walk.pool.size; ++i)
        if (walk.pool.id[i] != hidden) slots.push_back(walk.pool.id[i]);
    std::vector<float> scores(slots.size());
    kernel.score_both(&line, store.lines.high(), store.lines.low(), slots.data(), slots.size(),
                      scores.data());
    std::vector<std::size_t> order(slots.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    keep = std::min(keep, order.size());
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
    std::vector<std::uint32_t> rows(keep);
    for (std::size_t i = 0; i < keep; ++i) rows[i] = store.row_of(slots[order[i]]);
    scores.resize(keep);
    store.rows.score(kernel, query.coded, rows.data(), keep, scores.data());
    const auto right = std::count_if(scores.begin(), scores.end(),
                                     [&](float score) { return score <= query.tenth; });
    return static_cast<float>(std::min<std::ptrdiff_t>(right, kAnswers)) / kAnswers;
}

std::vector<Detour> find_detours(const Store& store, const std::vector<Query>& queries,
                                 std::size_t threads, const std::function<void()>& tick) {
    Bitmap slots;
    slots.resize(store.rows.size());
    for (const Query& query : queries) slots.set(store.slot_of(query.row));
    const std::vector<SlotLinks> from = find_links_to(store, slots);
    std::vector<Detour> detours(queries.size());
    constexpr std::size_t kTask = 32;
    parallel_for(threads, (queries.size() + kTask - 1) / kTask,
                 [&](std::size_t task, std::size_t worker) {
                     if (worker == 0) tick();
                     DetourFinder finder(store);
                     for (std::size_t q = task * kTask;
                          q < std::min(queries.size(), (task + 1) * kTask); ++q) {
                         const std::uint32_t slot = store.slot_of(queries[q].row);
                         const auto at = std::lower_bound(
                             from.begin(), from.end(), slot,
                             [](const SlotLinks& a, std::uint32_t b) { return a.first < b; });
                         if (at == from.end() || at->first != slot) continue;
                         detours[q] = finder.past(slot, at->second);
                     }
                 });
    return detours;
}

// The logarithm of the most that a bettor against `mean <= m` ever owns.
double wealth(const std::vector<float>& values, double m, double alpha) {
    const double n = static_cast<double>(values.size());
    double sum = m, deviations = 0.1 * m * (1 - m), owned = 0, most = -kInfinity;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double count = static_cast<double>(i + 1), mean = sum / count,
                     variance = std::max(deviations / count, 1e-12),
                     most_stake = m > 0 ? 0.75 / m : kInfinity,
                     stake =
                         std::min(std::sqrt(2 * std::log(1 / alpha) / (n * variance)), most_stake),
                     value = values[i];
        owned += std::log1p(stake * (value - m));
        most = std::max(most, owned);
        deviations += (value - mean) * (value - mean);
        sum += value;
    }
    return most;
}

}  // namespace

double mean_lower_bound(const std::vector<float>& recalls, double alpha) {
    double low = 0, high = 0;
    for (const float recall : recalls) high += recall / static_cast<double>(recalls.size());
    while (high - low > 1e-5) {
        const double middle = (low + high) / 2;
        (wealth(recalls, middle, alpha) >= std::log(1 / alpha) ? low : high) = middle;
    }
    return low;
}

EffortRecalls measure_efforts(const Store& store, const std::vector<std::uint32_t>& efforts,
                              KeepOfEffort keep, float target, std::size_t threads,
                              const std::function<void()>& tick) {
    EffortRecalls measured;
    if (store.rows.size() <= kAnswers) return measured;
    std::vector<Query> queries = draw(store);
    const std::size_t n = queries.size();
    parallel_for(threads, (n + kQueriesTogether - 1) / kQueriesTogether,
                 [&](std::size_t task, std::size_t worker) {
                     if (worker == 0) tick();
                     const std::size_t first = task * kQueriesTogether;
                     find_tenth(store, queries.data() + first,
                                std::min(kQueriesTogether, n - first));
                 });
    const std::vector<Detour> detours = find_detours(store, queries, threads, tick);
    std::vector<Walk> walks(threads);
    std::vector<float> recalls(n);
    measured.queries = static_cast<std::uint32_t>(n);
    for (const std::uint32_t effort : efforts) {
        parallel_for(threads, n, [&](std::size_t q, std::size_t worker) {
            if (worker == 0) tick();
            const Detour* detour = detours[q].slots.empty() ? nullptr : &detours[q];
            recalls[q] =
                recall_of_walk(store, queries[q], detour, effort, keep(effort), walks[worker]);
        });
        const float mean =
            std::accumulate(recalls.begin(), recalls.end(), 0.0f) / static_cast<float>(n);
        const auto weighed = [](float recall) { return 1 - kMissesWeigh * (1 - recall); };
        measured.of.push_back(
            {effort, mean,
             std::max(0.0f, weighed(static_cast<float>(mean_lower_bound(recalls, kWrongProof))))});
        if (measured.of.back().lower > target + kBeyond) break;
    }
    return measured;
}

}  // namespace mrl
