// A small index over made-up vectors, as the tests of the index share it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "graph/build.hpp"
#include "index/index.hpp"
#include "search/entries.hpp"

namespace small {

// By their own names; `using enum` is younger than gcc 10.
inline constexpr auto bit = mrl::Precision::bit, int4 = mrl::Precision::int4,
                      int8 = mrl::Precision::int8, float32 = mrl::Precision::float32;

constexpr std::size_t kDims = 24;

inline mrl::KeySpan span(const std::vector<std::int64_t>& keys) {
    return {mrl::KeyType::int64, reinterpret_cast<const unsigned char*>(keys.data()), nullptr,
            keys.size()};
}

// The next number of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): good from the first one on.
inline std::uint64_t next_random(std::uint64_t& state) {
    std::uint64_t x = state += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

// The vector of a key, the same whenever it is asked for: so an answer can be checked without
// knowing what was written when. A coordinate is the sum of four uniform numbers, nearly normal.
inline std::vector<float> vector_of(std::int64_t key) {
    auto state = static_cast<std::uint64_t>(key) * 7919 + 1;
    std::vector<float> vector(kDims);
    for (auto& x : vector) {
        const std::uint64_t bits = next_random(state);
        const std::uint64_t sum =
            (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        x = (static_cast<float>(sum) - 131070.0f) / 37837.0f;  // variance: 4 * 65536^2 / 12
    }
    return vector;
}

inline std::vector<float> vectors_of(const std::vector<std::int64_t>& keys) {
    std::vector<float> all;
    for (const std::int64_t key : keys) {
        const auto one = vector_of(key);
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

// A projection that keeps all dims, spread over the coordinates: columns of a random matrix, made
// orthonormal by rows.
inline std::vector<float> projection() {
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    std::vector<std::vector<double>> rows(kDims, std::vector<double>(mrl::kLineCoordinates));
    for (std::size_t i = 0; i < kDims; ++i) {
        for (auto& x : rows[i]) x = normal(random);
        for (std::size_t j = 0; j < i; ++j) {
            double dot = 0;
            for (std::size_t c = 0; c < mrl::kLineCoordinates; ++c) dot += rows[i][c] * rows[j][c];
            for (std::size_t c = 0; c < mrl::kLineCoordinates; ++c) rows[i][c] -= dot * rows[j][c];
        }
        double square = 0;
        for (const double x : rows[i]) square += x * x;
        for (double& x : rows[i]) x /= std::sqrt(square);
    }
    std::vector<float> flat;
    for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    return flat;
}

inline void load(mrl::Index& index, const mrl::KeySpan& keys, const std::vector<float>& vectors,
                 bool graph) {
    index.append(keys, vectors.data(), kDims, 2);
    const std::vector<float> mean(kDims, 0.0f);
    index.set_projection(projection().data(), mean.data());
    index.add_flat_codes(mrl::Space::prefix, 16, mrl::Precision::int8, nullptr, 2);
    index.add_flat_codes(mrl::Space::prefix, kDims, mrl::Precision::bit, mean.data(), 2);
    index.add_flat_codes(mrl::Space::projection, kDims, mrl::Precision::int8, nullptr, 2);
    index.add_flat_codes(mrl::Space::projection, kDims, mrl::Precision::bit, nullptr, 2);
    if (!graph) return index.add_line_codes(2);
    mrl::BuildOptions options;
    options.threads = 2;
    index.build(options, {});
}

inline void load(mrl::Index& index, const std::vector<std::int64_t>& keys, bool graph) {
    load(index, span(keys), vectors_of(keys), graph);
}

// The same without locks, for tests of what an index does under them.
inline void load(mrl::Store& store, const std::vector<std::int64_t>& keys,
                 const std::vector<float>& vectors, bool graph) {
    store.append(span(keys), vectors.data(), kDims, 1);
    const std::vector<float> mean(kDims, 0.0f);
    store.projection.emplace(store.metric(), kDims, projection().data(), mean.data());
    store.add_flat_codes(mrl::Space::prefix, 16, mrl::Precision::int8, nullptr, 1);
    store.add_flat_codes(mrl::Space::prefix, kDims, mrl::Precision::bit, mean.data(), 1);
    store.add_flat_codes(mrl::Space::projection, kDims, mrl::Precision::int8, nullptr, 1);
    store.add_flat_codes(mrl::Space::projection, kDims, mrl::Precision::bit, nullptr, 1);
    if (!graph) return store.add_line_codes(1);
    mrl::build_graph(store, {}, {});
}

// Gives a store with line codes a graph in which walks find one slot, which leads nowhere.
inline void make_torn_graph(mrl::Store& store) {
    store.has_graph = true;
    store.links.resize(store.rows.size());
    store.entries = mrl::group_entries(store.lines, {0});
}

inline void put(mrl::Store& store, std::int64_t key, const float* vector) {
    char bytes[sizeof key];
    std::memcpy(bytes, &key, sizeof key);
    store.prepare(1, mrl::Growth::moves);
    store.put({bytes, sizeof bytes}, vector);
}

inline mrl::Plan graph_plan(std::size_t effort, std::size_t k) {
    return {mrl::Route::graph,
            effort,
            {{mrl::Space::projection, kDims, int4, 4 * k},
             {mrl::Space::prefix, kDims, int8, 2 * k},
             {mrl::Space::prefix, kDims, float32, k}}};
}

struct Answer {
    std::vector<std::int64_t> keys;
    std::vector<double> distances;
};

inline std::vector<Answer> search(const mrl::Index& index, const std::vector<float>& queries,
                                  const mrl::Plan& plan, const mrl::Selection* selection = nullptr,
                                  std::size_t threads = 1) {
    std::vector<Answer> answers(queries.size() / kDims);
    mrl::StageCounts counts{};
    index.search(queries.data(), answers.size(), {plan, selection, threads, false}, counts,
                 [&](std::size_t query, const mrl::RowHit* hits, std::size_t count) {
                     for (std::size_t i = 0; i < count; ++i) {
                         answers[query].keys.push_back(index.keys().integer(hits[i].row));
                         answers[query].distances.push_back(hits[i].distance);
                     }
                 });
    return answers;
}

inline std::vector<Answer> search(const mrl::Store& store, const std::vector<float>& queries,
                                  const mrl::Plan& plan) {
    std::vector<Answer> answers(queries.size() / kDims);
    mrl::StageCounts counts{};
    mrl::FairLock lock;
    mrl::ScratchPool scratches;
    mrl::search(store, queries.data(), answers.size(), {.plan = plan}, lock, scratches, counts,
                [&](std::size_t query, const mrl::RowHit* hits, std::size_t count) {
                    for (std::size_t i = 0; i < count; ++i) {
                        answers[query].keys.push_back(store.keys.integer(hits[i].row));
                        answers[query].distances.push_back(hits[i].distance);
                    }
                });
    return answers;
}

inline double distance(mrl::Metric metric, const float* a, const float* b) {
    double dot = 0, aa = 0, bb = 0, gap = 0;
    for (std::size_t i = 0; i < kDims; ++i) {
        dot += static_cast<double>(a[i]) * b[i];
        aa += static_cast<double>(a[i]) * a[i];
        bb += static_cast<double>(b[i]) * b[i];
        gap += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    }
    return metric == mrl::Metric::cosine ? 1 - dot / std::sqrt(aa * bb)
           : metric == mrl::Metric::l2   ? std::sqrt(gap)
                                         : -dot;
}

inline Answer brute_force(mrl::Metric metric, const float* query,
                          const std::set<std::int64_t>& keys, std::size_t k) {
    std::vector<std::pair<double, std::int64_t>> all;
    for (const std::int64_t key : keys)
        all.emplace_back(distance(metric, query, vector_of(key).data()), key);
    std::sort(all.begin(), all.end());
    Answer answer;
    for (std::size_t i = 0; i < std::min(k, all.size()); ++i) {
        answer.keys.push_back(all[i].second);
        answer.distances.push_back(all[i].first);
    }
    return answer;
}

inline double overlap(const Answer& got, const Answer& expected) {
    std::size_t same = 0;
    for (const std::int64_t key : got.keys) {
        same +=
            static_cast<std::size_t>(std::count(expected.keys.begin(), expected.keys.end(), key));
    }
    return expected.keys.empty()
               ? 1.0
               : static_cast<double>(same) / static_cast<double>(expected.keys.size());
}

}  // namespace small
