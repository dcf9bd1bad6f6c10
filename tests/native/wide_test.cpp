// What small indexes never run: entries in groups, walks over long vectors, batches that are cut.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "kernels/dispatch.hpp"
#include "search/entries.hpp"
#include "small_index.hpp"

namespace {

using namespace small;

// As many entries as a graph of a million rows has. All are in the groups, once and with their own
// lines, and the nearest to a query are mostly in those that a walk looks at.
void check_entries(mrl::Metric metric) {
    constexpr std::size_t kSlots = 9000, kEntries = 5000, kNear = 10, kQueries = 100;
    constexpr std::size_t kClusters = 60;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> centres(kClusters * mrl::kLineCoordinates);
    for (float& x : centres) x = normal(random);
    const auto coordinates = [&] {
        std::vector<float> z(mrl::kLineCoordinates);
        const float* centre = centres.data() + random() % kClusters * z.size();
        for (std::size_t i = 0; i < z.size(); ++i) z[i] = centre[i] + 0.5f * normal(random);
        return z;
    };
    mrl::LineCodes codes;
    codes.reset(metric, std::sqrt(1.25f * mrl::kLineCoordinates));
    codes.resize(kSlots);
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
        const auto z = coordinates();
        codes.encode(slot, z.data(), std::inner_product(z.begin(), z.end(), z.begin(), 0.0f));
    }
    std::vector<std::uint32_t> slots(kSlots);
    std::iota(slots.begin(), slots.end(), 0u);
    std::shuffle(slots.begin(), slots.end(), random);
    slots.resize(kEntries);
    const mrl::Entries entries = mrl::group_entries(codes, slots);
    CHECK(std::set(entries.slots.begin(), entries.slots.end()) ==
          std::set(slots.begin(), slots.end()));
    CHECK(entries.size() == kEntries && entries.begins.size() > 100);
    CHECK(entries.begins.front() == 0 && entries.begins.back() == kEntries);
    CHECK(std::is_sorted(entries.begins.begin(), entries.begins.end()));
    for (std::size_t i = 0; i < kEntries; ++i) {
        CHECK(std::equal(entries.lines.data() + i * mrl::kLineBytes,
                         entries.lines.data() + (i + 1) * mrl::kLineBytes,
                         codes.high() + entries.slots[i] * mrl::kLineBytes));
    }
    const mrl::Kernels& kernels = mrl::kernels();
    std::size_t met = 0;
    for (std::size_t q = 0; q < kQueries; ++q) {
        mrl::LineQuery query;
        codes.prepare(coordinates().data(), query);
        std::vector<float> scores(kEntries);
        kernels.score_high(&query, codes.high(), entries.slots.data(), kEntries, scores.data());
        std::vector<float> key(kEntries + 64), open(kEntries + 64);
        std::vector<std::uint32_t> id(kEntries + 64), order(kEntries);
        mrl::Pool pool{key.data(), open.data(), id.data(), 0, mrl::kInfinity};
        const std::size_t read = mrl::read_entries(kernels, entries, query, pool);
        CHECK(read == pool.size + entries.begins.size() - 1);
        CHECK(pool.size >= 128 && pool.size < kEntries / 4);  // or it would be no use
        const std::set<std::uint32_t> looked_at(id.begin(), id.begin() + pool.size);
        CHECK(looked_at.size() == pool.size);
        for (std::size_t i = 0; i < pool.size; ++i) {
            const auto at = std::find(entries.slots.begin(), entries.slots.end(), id[i]);
            CHECK(at != entries.slots.end() && open[i] == key[i]);
            CHECK(key[i] == scores[static_cast<std::size_t>(at - entries.slots.begin())]);
        }
        std::iota(order.begin(), order.end(), 0u);
        std::partial_sort(order.begin(), order.begin() + kNear, order.end(),
                          [&](std::uint32_t a, std::uint32_t b) { return scores[a] < scores[b]; });
        for (std::size_t i = 0; i < kNear; ++i) met += looked_at.count(entries.slots[order[i]]);
    }
    CHECK(met > kQueries * kNear * 8 / 10);
}

// From 640 dims on a walk scores what it meets by both planes.
void check_long_vectors() {
    constexpr std::size_t kLong = 640, kRows = 700, kQueries = 40, kBest = 10;
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> rows((kRows + kQueries) * kLong), projection(kLong * mrl::kLineCoordinates);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i] = normal(random) / (1.0f + 0.05f * static_cast<float>(i % kLong));
    }
    for (std::size_t i = 0; i < mrl::kLineCoordinates; ++i) {
        projection[i * mrl::kLineCoordinates + i] = 1.0f;  // the first dims
    }
    const float* queries = rows.data() + kRows * kLong;
    std::vector<std::int64_t> keys(kRows);
    std::iota(keys.begin(), keys.end(), 0);
    mrl::Index index(mrl::Metric::l2, kLong, mrl::KeyType::int64, true);
    index.append(span(keys), rows.data(), kLong, 2);
    const std::vector<float> mean(kLong, 0.0f);
    index.set_projection(projection.data(), mean.data());
    index.build({.threads = 2}, {});
    const mrl::Stage last{mrl::Space::prefix, kLong, float32, kBest};
    const auto answers = [&](const mrl::Plan& plan) {
        std::vector<std::set<std::int64_t>> all(kQueries);
        mrl::StageCounts counts{};
        index.search(queries, kQueries, {.plan = plan}, counts,
                     [&](std::size_t query, const mrl::RowHit* hits, std::size_t count) {
                         for (std::size_t i = 0; i < count; ++i)
                             all[query].insert(index.keys().integer(hits[i].row));
                     });
        return all;
    };
    const auto exact = answers({.route = mrl::Route::flat, .effort = 0, .stages = {last}});
    const auto walked =
        answers({.route = mrl::Route::graph,
                 .effort = 60,
                 .stages = {{mrl::Space::projection, mrl::kLineCoordinates, int4, 40}, last}});
    std::size_t found = 0;
    for (std::size_t q = 0; q < kQueries; ++q) {
        CHECK(exact[q].size() == kBest && walked[q].size() == kBest);
        for (const std::int64_t key : walked[q]) found += exact[q].count(key);
    }
    CHECK(found > kQueries * kBest * 9 / 10);
}

// A batch finds by tiles, cut as they go, what its queries find one by one.
void check_batches(mrl::Metric metric) {
    constexpr std::size_t kRows = 5000, kQueries = 70;
    std::vector<std::int64_t> keys(kRows), asked(kQueries), gone;
    std::iota(keys.begin(), keys.end(), 0);
    std::iota(asked.begin(), asked.end(), 100'000);
    for (std::int64_t key = 0; key < 5000; key += 7) gone.push_back(key);
    mrl::Index index(metric, kDims, mrl::KeyType::int64, true);
    load(index, keys, false);
    const auto queries = vectors_of(asked);
    for (const bool filtered : {false, true}) {
        if (filtered) index.erase(span(gone));
        for (const auto space : {mrl::Space::prefix, mrl::Space::projection}) {
            for (const std::size_t keep : {10, 40, 333}) {
                const mrl::Plan plan{
                    .route = mrl::Route::flat,
                    .effort = 0,
                    .stages = {{space, space == mrl::Space::prefix ? 16 : kDims,
                                mrl::Precision::int8, keep},
                               {mrl::Space::prefix, kDims, mrl::Precision::float32, 10}}};
                const auto batch = search(index, queries, plan);
                for (std::size_t q = 0; q < kQueries; ++q) {
                    const auto at = queries.begin() + static_cast<std::ptrdiff_t>(q * kDims);
                    const auto alone = search(index, {at, at + kDims}, plan);
                    CHECK(batch[q].keys == alone[0].keys && batch[q].keys.size() == 10);
                    CHECK(batch[q].distances == alone[0].distances);
                }
            }
        }
    }
}

}  // namespace

int main() {
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
        check_entries(metric);
        check_batches(metric);
    }
    check_long_vectors();
    std::printf("wide: groups of entries, long vectors, batches\n");
}
