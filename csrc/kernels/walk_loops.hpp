// What a walk over a graph does with lines of codes and with its pool, written once; an instruction
// set that has something better gives its own (avx512_walk.hpp). All of them give the same bits:
// sums are of integers, and the few float operations are made in one order.
//
// L offers dot4(query, four lines, out): four sums of two-bit codes with the query's coordinates.
//
// C headers only (see kernels.hpp).
#pragma once

#include <math.h>
#include <string.h>

#include "kernels.hpp"

namespace mrl {
namespace {

constexpr size_t kLineRows = 16;  // scored together: their float steps fill a register

// A finite float16 as float32: the exponent is shifted into place, and one multiplication mends its
// bias, subnormals included. Exact.
inline float finite_half(uint32_t half) {
    const uint32_t magnitude = (half & 0x7fffu) << 13;
    float value;
    memcpy(&value, &magnitude, 4);
    return half & 0x8000u ? value * -5.192296858534828e33f
                          : value * 5.192296858534828e33f;  // 2^112
}

MRL_INLINE void finish_lines(const int32_t* products, const uint32_t* tails, float half_scale,
                             float* out) {
    for (size_t r = 0; r < kLineRows; ++r) {
        const float scaled = static_cast<float>(products[r]) * half_scale;
        out[r] = finite_half(tails[r] & 0xffffu) - scaled * finite_half(tails[r] >> 16);
    }
}

MRL_INLINE uint32_t line_tail(const uint8_t* line) {
    uint32_t tail;
    memcpy(&tail, line + 60, 4);
    return tail;
}

// Sixteen rows at a time; the last few are filled up with the last row, and only theirs are
// written.
template <class L, bool both>
MRL_INLINE void score_lines(const LineQuery* query, const uint8_t* high, const uint8_t* low,
                            const uint32_t* ids, size_t n, float* out) {
    const typename L::query q = L::load_query(query);
    const int32_t offset = (both ? -15 : -12) * query->sum;
    for (size_t first = 0; first < n; first += kLineRows) {
        const size_t count = n - first < kLineRows ? n - first : kLineRows;
        alignas(64) int32_t products[kLineRows];
        alignas(64) uint32_t tails[kLineRows];
        alignas(64) float scores[kLineRows];
        for (size_t r = 0; r < kLineRows; r += 4) {
            if (r >= count) {
                memset(products + r, 0, 4 * sizeof(int32_t));
                memset(tails + r, 0, 4 * sizeof(uint32_t));
                continue;
            }
            const uint8_t *a[4], *b[4];
            for (size_t i = 0; i < 4; ++i) {
                const size_t id = ids[first + (r + i < count ? r + i : count - 1)];
                a[i] = high + id * kLineBytes;
                if (both) b[i] = low + id * kLineBytes;
                tails[r + i] = line_tail(both ? b[i] : a[i]);
            }
            int32_t fine[4] = {0, 0, 0, 0};
            L::dot4(q, a, products + r);
            if (both) L::dot4(q, b, fine);
            for (size_t i = 0; i < 4; ++i)
                products[r + i] = 8 * products[r + i] + (both ? 2 * fine[i] : 0) + offset;
        }
        if (count == kLineRows) {
            finish_lines(products, tails, query->half_scale, out + first);
        } else {
            finish_lines(products, tails, query->half_scale, scores);
            memcpy(out + first, scores, count * sizeof(float));
        }
    }
}

template <class L>
void score_high(const LineQuery* query, const uint8_t* high, const uint32_t* ids, size_t n,
                float* out) {
    score_lines<L, false>(query, high, high, ids, n, out);
}

template <class L>
void score_both(const LineQuery* query, const uint8_t* high, const uint8_t* low,
                const uint32_t* ids, size_t n, float* out) {
    score_lines<L, true>(query, high, low, ids, n, out);
}

// Eight bytes at once, and by the compiler as many more as a register holds. No byte carries into
// the next: 8 * 3 + 2 * 3 is 30, and 15 is taken from what has its highest bit set.
inline void unpack_line_plain(const uint8_t* high, const uint8_t* low, int8_t* coordinates) {
    constexpr size_t kWords = kLineBytes / 8;
    constexpr uint64_t kBytes = 0x0101010101010101u, kAll = ~static_cast<uint64_t>(0);
    constexpr uint64_t kept[kWords] = {kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll >> 32};
    uint64_t highs[kWords], lows[kWords], odd[kWords];
    memcpy(highs, high, kLineBytes);
    memcpy(lows, low, kLineBytes);
    for (size_t plane = 0; plane < 4; ++plane) {
        for (size_t w = 0; w < kWords; ++w) {
            const uint64_t twice = (highs[w] >> 2 * plane & 3 * kBytes) << 3 |
                                   (lows[w] >> 2 * plane & 3 * kBytes) << 1;
            odd[w] = (((twice | 128 * kBytes) - 15 * kBytes) ^ 128 * kBytes) & kept[w];
        }
        memcpy(coordinates + kLineBytes * plane, odd, kLineBytes);
    }
}

inline float quantise_int8_plain(const float* values, size_t n, int8_t* codes) {
    int32_t bits = 0;  // magnitudes compare as integers do, and integer maxima are what a compiler
                       // puts into registers
    for (size_t i = 0; i < n; ++i) {
        int32_t magnitude;
        memcpy(&magnitude, values + i, 4);
        magnitude &= 0x7fffffff;
        bits = magnitude > bits ? magnitude : bits;
    }
    float largest;
    memcpy(&largest, &bits, 4);
    const float scale = 127.0f / largest;
    if (!(scale <= 3.0e38f)) {  // all zero, or so small that its inverse overflows
        for (size_t i = 0; i < n; ++i) codes[i] = 0;
        return 0.0f;
    }
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even, as the
    // conversion instructions do.
    for (size_t i = 0; i < n; ++i)
        codes[i] = static_cast<int8_t>(
            static_cast<int32_t>((values[i] * scale + 12582912.0f) - 12582912.0f));
    return largest / 127.0f;
}

inline void rank_plain(const float* scores, size_t n, uint16_t* ranks) {
    for (size_t i = 0; i < n; ++i) {
        int32_t below = 0;
        for (size_t j = 0; j < n; ++j) below += scores[j] < scores[i] ? 1 : 0;
        ranks[i] = static_cast<uint16_t>(below);
    }
}

inline size_t select_products_plain(const int32_t* products, const float* factors,
                                    const float* addends, size_t n, float scale, float threshold,
                                    float* scores, uint32_t* indices) {
    constexpr size_t kAtOnce = 64;
    size_t count = 0;
    for (size_t first = 0; first < n; first += kAtOnce) {
        const size_t here = n - first < kAtOnce ? n - first : kAtOnce;
        float score[kAtOnce];
        for (size_t i = 0; i < here; ++i) {
            score[i] = (addends == nullptr ? 0.0f : addends[first + i]) -
                       scale * factors[first + i] * static_cast<float>(products[first + i]);
        }
        for (size_t i = 0; i < here; ++i) {
            scores[count] = score[i];
            indices[count] = static_cast<uint32_t>(first + i);
            count += score[i] < threshold ? 1 : 0;
        }
    }
    return count;
}

inline size_t pool_append_plain(Pool* pool, const float* scores, const uint32_t* ids, size_t n) {
    size_t size = pool->size;
    for (size_t i = 0; i < n; ++i) {
        pool->key[size] = pool->open[size] = scores[i];
        pool->id[size] = ids[i];
        size += scores[i] < pool->threshold ? 1 : 0;
    }
    const size_t appended = size - pool->size;
    pool->size = size;
    return appended;
}

// Where a pool is cut: `below_low` keys are below `low`, fewer than wanted; `below_high` are below
// `high`, at least as many.
struct Cut {
    float low, high;
    size_t below_low, below_high;
};

// Found by counting, not by sorting: bisection between the smallest and the largest key below +inf,
// by interpolation every other step. Keys are near evenly spread about the cut, so that a step of
// interpolation or two arrive; a share of a tenth at least keeps it from creeping, and the halving
// in between from doing so at all. After eight steps it is halving alone, which ends: when few more
// than wanted are left, or when what is between low and high is one value.
template <class CountBelow>
MRL_INLINE Cut find_cut(float smallest, float largest, size_t keep, CountBelow&& count_below) {
    Cut cut{smallest, nextafterf(largest, INFINITY), 0, 0};
    cut.below_high = count_below(cut.high);
    if (cut.below_high <= keep) return cut;  // those of +inf were too many already
    if (smallest == -INFINITY) {
        cut.low = nextafterf(-INFINITY, 0.0f);
        const size_t lowest = count_below(cut.low);
        if (lowest >= keep) return {-INFINITY, cut.low, 0, lowest};
        cut.below_low = lowest;
    }
    for (int step = 0; step < 8 || cut.below_high > keep + kPoolTies; ++step) {
        float share = 0.5f;
        if (step < 2 || (step % 2 == 0 && step < 8)) {
            share = (static_cast<float>(keep + 2) - static_cast<float>(cut.below_low)) /
                    static_cast<float>(cut.below_high - cut.below_low);
            share = share < 0.1f ? 0.1f : share > 0.9f ? 0.9f : share;
        }
        const float span = cut.high - cut.low;
        const float middle =
            span < INFINITY ? cut.low + span * share : 0.5f * cut.low + 0.5f * cut.high;
        if (!(middle > cut.low && middle < cut.high)) break;
        const size_t count = count_below(middle);
        if (count < keep) {
            cut.low = middle;
            cut.below_low = count;
        } else {
            cut.high = middle;
            cut.below_high = count;
            if (count <= keep + 4) break;
        }
    }
    return cut;
}

// Many candidates tie at the edge: all below it stay, and of those at it the first ones.
inline void cut_at_ties(Pool* pool, const Cut& cut, size_t keep) {
    size_t kept = 0, room = keep - cut.below_low;
    for (size_t i = 0; i < pool->size; ++i) {
        const float key = pool->key[i], open = pool->open[i];
        const uint32_t id = pool->id[i];
        if (!(key < cut.low)) {
            if (!(key < cut.high) || room == 0) continue;
            --room;
        }
        pool->key[kept] = key;
        pool->open[kept] = open;
        pool->id[kept] = id;
        ++kept;
    }
    pool->size = kept;
    pool->threshold = cut.high;
}

inline size_t pool_count_plain(const Pool* pool, float limit) {
    size_t count = 0;
    for (size_t i = 0; i < pool->size; ++i) count += pool->key[i] < limit ? 1 : 0;
    return count;
}

// P offers range (the smallest key, and the largest below +inf; it may write behind the pool's
// end), count (of keys below a limit) and keep_below (which drops the other candidates).
template <class P>
void pool_cut(Pool* pool, size_t keep) {
    if (pool->size <= keep) return;
    float smallest, largest;
    P::range(pool, &smallest, &largest);
    const Cut cut =
        find_cut(smallest, largest, keep, [pool](float limit) { return P::count(pool, limit); });
    if (cut.below_high > keep + kPoolTies) {
        cut_at_ties(pool, cut, keep);
        return;
    }
    P::keep_below(pool, cut.high);
    if (cut.below_high >= keep) pool->threshold = cut.high;
}

struct PlainPool {
    static inline void range(const Pool* pool, float* smallest, float* largest) {
        float least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < pool->size; ++i) {
            const float key = pool->key[i];
            least = key < least ? key : least;
            most = key > most && key < INFINITY ? key : most;
        }
        *smallest = least;
        *largest = most;
    }
    static inline size_t count(const Pool* pool, float limit) {
        return pool_count_plain(pool, limit);
    }
    static inline void keep_below(Pool* pool, float limit) {
        size_t kept = 0;
        for (size_t i = 0; i < pool->size; ++i) {
            const float key = pool->key[i], open = pool->open[i];
            const uint32_t id = pool->id[i];
            pool->key[kept] = key;
            pool->open[kept] = open;
            pool->id[kept] = id;
            kept += key < limit ? 1 : 0;
        }
        pool->size = kept;
    }
};

inline size_t take_lane_minima(float* lane_key, const uint32_t* lane_position, size_t want,
                               uint32_t* positions) {
    size_t count = 0;
    for (; count < want; ++count) {
        size_t best = 0;
        for (size_t lane = 1; lane < kPoolLanes; ++lane)
            best = lane_key[lane] < lane_key[best] ? lane : best;
        if (!(lane_key[best] < INFINITY)) break;
        positions[count] = lane_position[best];
        lane_key[best] = INFINITY;
    }
    return count;
}

inline size_t pool_best_plain(const Pool* pool, size_t want, uint32_t* positions) {
    float lane_key[kPoolLanes];
    uint32_t lane_position[kPoolLanes];
    for (size_t lane = 0; lane < kPoolLanes; ++lane) {
        lane_key[lane] = INFINITY;
        lane_position[lane] = 0;
    }
    for (size_t i = 0; i < pool->size; ++i) {
        const size_t lane = i % kPoolLanes;
        if (pool->open[i] < lane_key[lane]) {
            lane_key[lane] = pool->open[i];
            lane_position[lane] = static_cast<uint32_t>(i);
        }
    }
    return take_lane_minima(lane_key, lane_position, want, positions);
}

template <class L>
void add_lines(Kernels& table) {
    table.score_high = score_high<L>;
    table.score_both = score_both<L>;
}
}  // namespace
}  // namespace mrl
