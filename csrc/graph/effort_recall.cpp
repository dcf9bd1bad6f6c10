#include "effort_recall.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../search/crowd.hpp"
#include "../system/random.hpp"
#include "../system/thread_pool.hpp"
#include "detour.hpp"

namespace mrl {
namespace {

constexpr std::size_t kAnswers = 10;
constexpr double kWrongProof = 0.05;          // probability
constexpr std::size_t kQueriesTogether = 64;  // queries that share a pass over all codes
constexpr std::size_t kRowsTogether = 128;    // rows of a pass that stay in the second-level cache
// What hidden rows miss may be a little less than what fresh queries miss (docs/recall.md).
constexpr float kMissesWeigh = 1.1f;

struct Query {
    std::uint32_t row = 0;
    std::vector<float> vector;
    RowQuery coded;
    float tenth = kInfinity;  // score of the last true answer
};

// Distinct rows in random order.
std::vector<Query> draw(const Store& store, std::size_t n) {
    std::mt19937_64 random(20251126);
    const std::vector<std::uint32_t> drawn = draw_distinct(store.rows.size(), n, random);
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

// One thread's searches for hidden rows, as those over pages go.
class HiddenSearch {
  public:
    explicit HiddenSearch(const Store& store) : store_(store) {}

    // The share of a query's answers among the candidates. effort 0: by a look at all lines.
    float recall(const Query& query, const Detour* detour, std::size_t effort, std::size_t keep) {
        prepare(query, detour);
        const std::size_t n = store_.rows.size();
        std::size_t wider = 1;
        const auto resolution = [&](float score) {
            return crowd::line_resolution(lengths_, score, {wider, keep, kAnswers}, store_.dims(),
                                          store_.lines);
        };
        crowd::Next next;
        for (;; wider *= crowd::kWider) {
            if (effort == 0)
                scan();
            else
                walk(effort, wider, wider * keep);
            keep_best(candidates_, wider * keep, kInfinity);
            next = crowd::next(candidates_, {wider * keep, kAnswers, wider, n - 1, n}, resolution);
            if (effort == 0 || next != crowd::Next::wider) break;
        }
        if (next != crowd::Next::enough && n <= crowd::kMostScanned) {
            wider = crowd::kWidest;
            scan();
            crowd::keep_unresolved(candidates_, kAnswers, resolution);
        }
        return share_of_answers(query);
    }

  private:
    void prepare(const Query& query, const Detour* detour) {
        float z[kLineCoordinates];
        const float square = store_.projection->project(query.coded, z);
        store_.lines.prepare(z, line_);
        lengths_ = lengths_of(z, square, store_.dims(), store_.metric());
        hidden_ = store_.slot_of(query.row);
        detour_ = detour;
    }

    void walk(std::size_t effort, std::size_t wider, std::size_t keep) {
        using walk_rule::kLeastPool, walk_rule::kMostPool;
        const std::size_t hops = wider * effort;
        const WalkOptions options{
            .hops = hops,
            .pool = std::min(kMostPool, std::max({hops, kLeastPool, keep + keep / 2})),
            .k = kAnswers,
            .margin = crowd::margin_of(effort, wider, kMarginOfEffort, store_.lines.spread()) *
                      query_unit(lengths_, store_.lines),
            .refine = store_.dims() >= walk_rule::kRefinedDims,
            .hidden = hidden_,
            .detour = detour_};
        walk_graph(kernels_, {store_.links, store_.entries, store_.lines}, line_, options, nullptr,
                   walk_);
        Pool& pool = walk_.pool;
        if (!options.refine) kernels_.pool_cut(&pool, walk_rule::kHighKeep * keep);
        candidates_.clear();
        for (std::size_t i = 0; i < pool.size; ++i)
            if (pool.id[i] != hidden_) candidates_.push_back({pool.key[i], pool.id[i]});
        if (!options.refine) score_both();
    }

    void scan() {
        candidates_.clear();
        for (std::uint32_t slot = 0; slot < store_.rows.size(); ++slot)
            if (slot != hidden_) candidates_.push_back({0.0f, slot});
        score_both();
    }

    void score_both() {
        ids_.resize(candidates_.size());
        scores_.resize(candidates_.size());
        for (std::size_t i = 0; i < ids_.size(); ++i) ids_[i] = candidates_[i].row;
        kernels_.score_both(&line_, store_.lines.high(), store_.lines.low(), ids_.data(),
                            ids_.size(), scores_.data());
        for (std::size_t i = 0; i < ids_.size(); ++i) candidates_[i].score = scores_[i];
    }

    float share_of_answers(const Query& query) {
        ids_.resize(candidates_.size());
        scores_.resize(candidates_.size());
        for (std::size_t i = 0; i < ids_.size(); ++i) ids_[i] = store_.row_of(candidates_[i].row);
        store_.rows.score(kernels_, query.coded, ids_.data(), ids_.size(), scores_.data());
        const auto right = std::count_if(scores_.begin(), scores_.end(),
                                         [&](float score) { return score <= query.tenth; });
        return static_cast<float>(std::min<std::ptrdiff_t>(right, kAnswers)) / kAnswers;
    }

    const Store& store_;
    const Kernels& kernels_ = kernels();
    Walk walk_;
    LineQuery line_{};
    LineLengths lengths_;
    std::uint32_t hidden_ = kNoLink;
    const Detour* detour_ = nullptr;
    std::vector<Candidate> candidates_;
    std::vector<std::uint32_t> ids_;
    std::vector<float> scores_;
};

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

EffortRecalls measure_efforts(const Store& store, const EffortOptions& options) {
    EffortRecalls measured;
    if (store.rows.size() <= kAnswers) return measured;
    const std::size_t threads = options.threads;
    std::vector<Query> queries = draw(store, options.queries);
    const std::size_t n = queries.size(), together = std::min(kQueriesTogether, n / threads + 1);
    parallel_for(threads, (n + together - 1) / together, [&](std::size_t task, std::size_t worker) {
        if (worker == 0) options.tick();
        const std::size_t first = task * together;
        find_tenth(store, queries.data() + first, std::min(together, n - first));
    });
    const std::vector<Detour> detours = find_detours(store, queries, threads, options.tick);
    std::deque<HiddenSearch> searches;
    for (std::size_t i = 0; i < threads; ++i) searches.emplace_back(store);
    std::vector<float> recalls(n);
    measured.queries = static_cast<std::uint32_t>(n);
    for (const std::uint32_t effort : options.efforts) {
        const bool named = effort == kScanEffort;
        const bool scans = named || (options.scan_effort != 0 && effort > options.scan_effort);
        const std::size_t keep = options.keep(named ? options.scan_effort : effort);
        parallel_for(threads, n, [&](std::size_t q, std::size_t worker) {
            if (worker == 0) options.tick();
            const Detour* detour = detours[q].slots.empty() ? nullptr : &detours[q];
            recalls[q] = searches[worker].recall(queries[q], detour, scans ? 0 : effort, keep);
        });
        const float mean =
            std::accumulate(recalls.begin(), recalls.end(), 0.0f) / static_cast<float>(n);
        const auto weighed = [](float recall) { return 1 - kMissesWeigh * (1 - recall); };
        measured.of.push_back(
            {effort, mean,
             std::max(0.0f, weighed(static_cast<float>(mean_lower_bound(recalls, kWrongProof))))});
        if (options.is_enough(measured.of.back())) break;
    }
    return measured;
}

}  // namespace mrl
