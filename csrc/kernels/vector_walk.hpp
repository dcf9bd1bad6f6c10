// Selection, ranks and the walk's pool for sets without masks of their own (AVX2, NEON), written
// once over a lane type V. All of it gives the bits of the plain loops in walk_loops.hpp.
//
// V offers: lanes (4 or 8); floats and ints, registers of so many; a mask is an ints whose lanes
// are all ones or all zeros. load, store, broadcast (of both), first(count) (a mask), less and
// less_equal (masks), min, max, sub, mul, to_floats, minus (of ints), both (of two masks),
// choose(mask, a, b), bits(mask) (one a lane), and pack(x, bits): the lanes whose bit is set, in
// order, then anything.
//
// C headers only (see kernels.hpp).
#pragma once

#include <math.h>
#include <string.h>

#include "kernels.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

inline size_t count_bits(unsigned bits) { return static_cast<size_t>(__builtin_popcount(bits)); }

// Few scores pass once the threshold is set, so the rare set bits are walked one by one.
inline size_t write_indices(unsigned mask, size_t first, uint32_t* indices) {
    size_t count = 0;
    for (; mask != 0; mask &= mask - 1) {
        indices[count++] =
            static_cast<uint32_t>(first) + static_cast<uint32_t>(__builtin_ctz(mask));
    }
    return count;
}

template <class V, class Score>
size_t select_below(const Score* scores, size_t n, Score threshold, uint32_t* indices) {
    size_t count = 0, i = 0;
    const auto limit = V::broadcast(threshold);
    for (; i + V::lanes <= n; i += V::lanes) {
        const unsigned below = V::bits(V::less(V::load(scores + i), limit));
        count += write_indices(below, i, indices + count);
    }
    for (; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

// `width` registers of scores at a time, against which each score is held: what is counted stays in
// lanes, and nothing is summed across them.
template <class V, size_t width>
inline void rank_registers(const float* scores, size_t n, size_t first, uint16_t* ranks) {
    constexpr size_t kScores = width * V::lanes;
    const size_t count = n - first < kScores ? n - first : kScores;
    float own[kScores];
    int32_t below[kScores];
    for (size_t i = 0; i < kScores; ++i) own[i] = i < count ? scores[first + i] : 0.0f;
    typename V::floats held[width];
    typename V::ints sum[width];
    for (size_t r = 0; r < width; ++r) {
        held[r] = V::load(own + r * V::lanes);
        sum[r] = V::broadcast(0);
    }
    for (size_t j = 0; j < n; ++j) {
        const typename V::floats other = V::broadcast(scores[j]);
        for (size_t r = 0; r < width; ++r) sum[r] = V::minus(sum[r], V::less(other, held[r]));
    }
    for (size_t r = 0; r < width; ++r) V::store(below + r * V::lanes, sum[r]);
    for (size_t i = 0; i < count; ++i) ranks[first + i] = static_cast<uint16_t>(below[i]);
}

template <class V>
void rank(const float* scores, size_t n, uint16_t* ranks) {
    size_t first = 0;
    for (; first + 2 * V::lanes < n; first += 4 * V::lanes)
        rank_registers<V, 4>(scores, n, first, ranks);
    for (; first < n; first += V::lanes) rank_registers<V, 1>(scores, n, first, ranks);
}

// Nearly nothing passes. Without addends one multiplication tells: score < threshold where factor *
// product > -threshold / scale, but for roundings, which the slack covers; what gets through is
// scored and compared as the contract says.
template <class V>
size_t select_products(const int32_t* products, const float* factors, const float* addends,
                       size_t n, float scale, float threshold, float* scores, uint32_t* indices) {
    const bool quick =
        addends == nullptr && scale > 0.0f && threshold < 3.0e38f && threshold > -3.0e38f;
    const float edge = quick ? -threshold / scale : 0.0f;
    const auto bound = V::broadcast(edge - 1e-5f * (edge < 0.0f ? -edge : edge) - 1e-30f);
    const auto share_of = [products, factors](size_t i) {
        return V::mul(V::load(factors + i), V::to_floats(V::load(products + i)));
    };
    size_t count = 0, i = 0;
    while (i + V::lanes <= n) {
        for (; quick && i + 4 * V::lanes <= n; i += 4 * V::lanes) {
            const auto a = V::max(share_of(i), share_of(i + V::lanes)),
                       b = V::max(share_of(i + 2 * V::lanes), share_of(i + 3 * V::lanes));
            if (V::bits(V::less(bound, V::max(a, b))) != 0) break;
        }
        if (i + V::lanes > n) break;
        const auto product = V::to_floats(V::load(products + i));
        const auto factor = V::load(factors + i);
        if (!quick || V::bits(V::less(bound, V::mul(factor, product))) != 0) {
            const auto addend = addends == nullptr ? V::broadcast(0.0f) : V::load(addends + i);
            const auto score = V::sub(addend, V::mul(V::mul(V::broadcast(scale), factor), product));
            const unsigned below = V::bits(V::less(score, V::broadcast(threshold)));
            if (below != 0) {
                float here[V::lanes];
                V::store(here, score);
                for (unsigned left = below; left != 0; left &= left - 1) {
                    const unsigned lane = static_cast<unsigned>(__builtin_ctz(left));
                    scores[count] = here[lane];
                    indices[count++] = static_cast<uint32_t>(i) + lane;
                }
            }
        }
        i += V::lanes;
    }
    for (; i < n; ++i) {
        const float score = (addends == nullptr ? 0.0f : addends[i]) -
                            scale * factors[i] * static_cast<float>(products[i]);
        if (!(score < threshold)) continue;
        scores[count] = score;
        indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

template <class V>
size_t pool_append(Pool* pool, const float* scores, const uint32_t* ids, size_t n) {
    size_t size = pool->size, i = 0;
    const auto limit = V::broadcast(pool->threshold);
    for (; i + V::lanes <= n; i += V::lanes) {
        const auto score = V::load(scores + i);
        const unsigned below = V::bits(V::less(score, limit));
        if (below == 0) continue;
        const auto kept = V::pack(score, below);
        V::store(pool->key + size, kept);
        V::store(pool->open + size, kept);
        V::store(pool->id + size, V::pack(V::load(ids + i), below));
        size += count_bits(below);
    }
    const size_t appended = size - pool->size;
    pool->size = size;
    return appended + pool_append_plain(pool, scores + i, ids + i, n - i);
}

// How many keys are below the limit; what lies behind the last in its register does not count.
template <class V>
size_t pool_count(const Pool* pool, float limit_key) {
    const auto limit = V::broadcast(limit_key);
    auto sum = V::broadcast(0);
    size_t i = 0;
    for (; i + V::lanes <= pool->size; i += V::lanes)
        sum = V::minus(sum, V::less(V::load(pool->key + i), limit));
    sum = V::minus(sum, V::both(V::less(V::load(pool->key + i), limit), V::first(pool->size - i)));
    int32_t lanes[V::lanes], count = 0;
    V::store(lanes, sum);
    for (const int32_t lane : lanes) count += lane;
    return static_cast<size_t>(count);
}

template <class V>
struct VectorPool {
    static inline void range(Pool* pool, float* smallest, float* largest) {
        const auto infinity = V::broadcast(INFINITY);
        V::store(pool->key + pool->size, infinity);
        V::store(pool->open + pool->size, infinity);
        auto least = infinity, most = V::broadcast(-INFINITY);
        for (size_t i = 0; i < pool->size; i += V::lanes) {
            const auto key = V::load(pool->key + i);
            least = V::min(least, key);
            most = V::max(most, V::choose(V::less(key, infinity), key, most));
        }
        float low[V::lanes], high[V::lanes];
        V::store(low, least);
        V::store(high, most);
        for (size_t lane = 1; lane < V::lanes; ++lane) {
            low[0] = low[lane] < low[0] ? low[lane] : low[0];
            high[0] = high[lane] > high[0] ? high[lane] : high[0];
        }
        *smallest = low[0];
        *largest = high[0];
    }
    static inline size_t count(const Pool* pool, float limit) { return pool_count<V>(pool, limit); }
    static inline void keep_below(Pool* pool, float limit_key) {
        const auto limit = V::broadcast(limit_key);
        size_t kept = 0;
        for (size_t i = 0; i < pool->size; i += V::lanes) {
            const auto key = V::load(pool->key + i), open = V::load(pool->open + i);
            const auto id = V::load(pool->id + i);
            const unsigned below = V::bits(V::less(key, limit));
            V::store(pool->key + kept, V::pack(key, below));
            V::store(pool->open + kept, V::pack(open, below));
            V::store(pool->id + kept, V::pack(id, below));
            kept += count_bits(below);
        }
        pool->size = kept;
    }
};

// Each lane's best, then their order: a lane's place is how many of the others come before it, all
// of which are compared at once. A minimum taken out after the other would wait for each.
template <class V>
size_t pool_best(const Pool* pool, size_t want, uint32_t* positions) {
    constexpr size_t kParts = kPoolLanes / V::lanes;
    const auto infinity = V::broadcast(INFINITY);
    typename V::floats least[kParts];
    typename V::ints place[kParts], before[kParts];
    for (size_t r = 0; r < kParts; ++r) {
        V::store(pool->open + pool->size + r * V::lanes, infinity);
        least[r] = infinity;
        place[r] = before[r] = V::broadcast(0);
    }
    for (size_t i = 0; i < pool->size; i += kPoolLanes) {
        const auto here = V::broadcast(static_cast<int32_t>(i));
        for (size_t r = 0; r < kParts; ++r) {
            const auto open = V::load(pool->open + i + r * V::lanes);
            place[r] = V::choose(V::less(open, least[r]), here, place[r]);
            least[r] = V::min(least[r], open);
        }
    }
    alignas(64) float key[kPoolLanes];
    alignas(64) int32_t first[kPoolLanes], rank[kPoolLanes];
    size_t open = 0;
    for (size_t r = 0; r < kParts; ++r) {
        V::store(key + r * V::lanes, least[r]);
        V::store(first + r * V::lanes, place[r]);
        open += count_bits(V::bits(V::less(least[r], infinity)));
    }
    for (size_t part = 0; part < kParts; ++part) {
        for (size_t lane = 0; lane < V::lanes; ++lane) {
            const auto own = V::broadcast(key[part * V::lanes + lane]);
            for (size_t r = 0; r < kParts; ++r) {
                // Ties go to the smaller lane.
                const auto later = r < part ? V::less(own, least[r])
                                   : r > part
                                       ? V::less_equal(own, least[r])
                                       : V::choose(V::first(lane + 1), V::less(own, least[r]),
                                                   V::less_equal(own, least[r]));
                before[r] = V::minus(before[r], later);
            }
        }
    }
    for (size_t r = 0; r < kParts; ++r) V::store(rank + r * V::lanes, before[r]);
    uint32_t ordered[kPoolLanes];
    for (size_t lane = 0; lane < kPoolLanes; ++lane)
        ordered[rank[lane]] = static_cast<uint32_t>(first[lane]) + static_cast<uint32_t>(lane);
    const size_t count = open < want ? open : want;
    for (size_t i = 0; i < count; ++i) positions[i] = ordered[i];
    return count;
}

// The kernels of a walk beside its lines.
template <class V>
void add_walk(Kernels& table) {
    table.select_below = select_below<V, float>;
    table.select_below_int32 = select_below<V, int32_t>;
    table.rank = rank<V>;
    table.select_products = select_products<V>;
    table.pool_append = pool_append<V>;
    table.pool_cut = pool_cut<VectorPool<V>>;
    table.pool_best = pool_best<V>;
    table.pool_count = pool_count<V>;
}
}  // namespace
}  // namespace mrl
