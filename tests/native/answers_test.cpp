// Answers where rows are hard to tell apart or to reach: torn links, ties, near copies.
#include <cmath>
#include <cstdio>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "small_index.hpp"

namespace {

using namespace small;

// Where walks find too few, all rows are looked at.
void check_torn_links() {
    std::vector<std::int64_t> keys(1000);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::int64_t>(i);
    mrl::Store store(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(store, keys, vectors_of(keys), false);
    make_torn_graph(store);
    const auto query = vector_of(-1);

    const Answer answer = search(store, query, graph_plan(50, 10))[0];

    const std::set<std::int64_t> all(keys.begin(), keys.end());
    CHECK(answer.keys == brute_force(store.metric(), query.data(), all, 10).keys);
}

// Rows at the same distance are in the order of their keys, and those that have none, too, at the
// end.
void check_ties() {
    constexpr std::int64_t kEach = 40;
    std::vector<std::int64_t> keys;
    std::vector<float> vectors;
    for (std::int64_t i = 0; i < 3 * kEach; ++i) {
        keys.push_back(i * 89 % (3 * kEach));  // prime: each once
        const auto vector = keys.back() < kEach       ? std::vector<float>(kDims, 0.0f)
                            : keys.back() < 2 * kEach ? vector_of(1)
                                                      : vector_of(i);
        vectors.insert(vectors.end(), vector.begin(), vector.end());
    }
    mrl::Store store(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(store, keys, vectors, false);
    for (const std::size_t k : {3 * kEach, 3 * kEach - 5, kEach / 2}) {
        const mrl::Plan plan{mrl::Route::flat, 0, {{mrl::Space::prefix, kDims, float32, k}}};

        const Answer answer = search(store, vector_of(1), plan)[0];

        CHECK(answer.keys.size() == k);
        for (std::size_t i = 0; i < k; ++i) {
            if (i < kEach) CHECK(answer.keys[i] == static_cast<std::int64_t>(i) + kEach);
            if (i >= 2 * kEach) CHECK(answer.keys[i] == static_cast<std::int64_t>(i) - 2 * kEach);
            CHECK(std::isnan(answer.distances[i]) == (i >= 2 * kEach));
        }
    }
}

// A stage passes on all rows that its int8 codes cannot tell apart, however few it keeps: among
// near copies the answers are the exact ones. Under l2 a line's numbers are coarser than the
// distances between these: no walk finds them.
void check_near_copies(mrl::Metric metric, bool graph) {
    constexpr std::size_t kRows = 1000, kQueries = 40, kBest = 10;
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    const auto copy_of = [&](std::int64_t key) {
        auto vector = vector_of(key);
        for (float& x : vector) x += 0.02f * normal(random);
        return vector;
    };
    std::vector<std::int64_t> keys(kRows);
    std::vector<float> vectors, queries;
    for (std::size_t i = 0; i < kRows; ++i) {
        keys[i] = static_cast<std::int64_t>(i);
        const auto vector = copy_of(keys[i] % 4);
        vectors.insert(vectors.end(), vector.begin(), vector.end());
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
        const auto vector = copy_of(static_cast<std::int64_t>(q % 4));
        queries.insert(queries.end(), vector.begin(), vector.end());
    }
    mrl::Store store(metric, kDims, mrl::KeyType::int64, true);
    load(store, keys, vectors, graph);
    const mrl::Stage last{mrl::Space::prefix, kDims, float32, kBest};
    const mrl::Stage by_codes{mrl::Space::prefix, kDims, int8, kBest};
    const auto exact = search(store, queries, {mrl::Route::flat, 0, {last}});
    std::vector<mrl::Plan> plans{
        {mrl::Route::flat, 0, {{mrl::Space::projection, kDims, bit, kRows}, by_codes, last}}};
    if (graph) plans.push_back(graph_plan(100, kBest));
    for (const mrl::Plan& plan : plans) {
        const auto answers = search(store, queries, plan);
        double sum = 0;
        for (std::size_t q = 0; q < kQueries; ++q) sum += overlap(answers[q], exact[q]);
        CHECK(sum >= (plan.route == mrl::Route::graph ? 0.95 : 0.99) * kQueries);
    }
}

}  // namespace

int main() {
    check_torn_links();
    check_ties();
    check_near_copies(mrl::Metric::cosine, true);
    check_near_copies(mrl::Metric::inner_product, true);
    check_near_copies(mrl::Metric::l2, false);
    std::printf("answers: torn links, ties, near copies\n");
}
