// Selection, and the walk's pool, in AVX-512: candidates are appended and cut by register compress,
// popped by lane minima. C headers only.
#pragma once

#include "avx512_lanes.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

// The register form of compress with a merge mask: on Zen 4 the memory form is microcode, and a
// zeroing mask drags the old register along.
inline size_t write_indices(__mmask16 mask, __m512i positions, uint32_t* indices) {
    const size_t count = static_cast<size_t>(__builtin_popcount(mask));
    const __m512i packed = _mm512_mask_compress_epi32(_mm512_setzero_si512(), mask, positions);
    _mm512_mask_storeu_epi32(indices, first_lanes(count), packed);
    return count;
}

inline __m512i positions_from(size_t first) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(first)), lane);
}

size_t select_below(const float* scores, size_t n, float threshold, uint32_t* indices) {
    size_t count = 0;
    const __m512 limit = _mm512_set1_ps(threshold);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = first_lanes(n - i < 16 ? n - i : 16);
        const __mmask16 below = _mm512_mask_cmp_ps_mask(
            valid, _mm512_maskz_loadu_ps(valid, scores + i), limit, _CMP_LT_OQ);
        if (below != 0) count += write_indices(below, positions_from(i), indices + count);
    }
    return count;
}

size_t select_below_int32(const int32_t* scores, size_t n, int32_t threshold, uint32_t* indices) {
    size_t count = 0;
    const __m512i limit = _mm512_set1_epi32(threshold);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = first_lanes(n - i < 16 ? n - i : 16);
        const __mmask16 below =
            _mm512_mask_cmplt_epi32_mask(valid, _mm512_maskz_loadu_epi32(valid, scores + i), limit);
        if (below != 0) count += write_indices(below, positions_from(i), indices + count);
    }
    return count;
}

inline __m512 packed(__mmask16 mask, __m512 x) {
    return _mm512_mask_compress_ps(_mm512_setzero_ps(), mask, x);
}
inline __m512i packed(__mmask16 mask, __m512i x) {
    return _mm512_mask_compress_epi32(_mm512_setzero_si512(), mask, x);
}

// Scores stay in registers, `width` of them; each score is compared with all at once.
template <size_t width>
inline void rank_registers(const float* scores, size_t n, uint16_t* ranks) {
    __m512 all[width];
    for (size_t r = 0; r < width; ++r) {
        const size_t left = n > 16 * r ? n - 16 * r : 0;
        all[r] = _mm512_mask_loadu_ps(_mm512_set1_ps(INFINITY), first_lanes(left < 16 ? left : 16),
                                      scores + 16 * r);
    }
    for (size_t i = 0; i < n; ++i) {
        const __m512 own = _mm512_set1_ps(scores[i]);
        int below = 0;
        for (size_t r = 0; r < width; ++r)
            below += __builtin_popcount(_mm512_cmp_ps_mask(all[r], own, _CMP_LT_OQ));
        ranks[i] = static_cast<uint16_t>(below);
    }
}

void rank(const float* scores, size_t n, uint16_t* ranks) {
    if (n <= 16) {
        rank_registers<1>(scores, n, ranks);
    } else if (n <= 32) {
        rank_registers<2>(scores, n, ranks);
    } else if (n <= 64) {
        rank_registers<4>(scores, n, ranks);
    } else if (n <= 128) {
        rank_registers<8>(scores, n, ranks);
    } else if (n <= 256) {
        rank_registers<16>(scores, n, ranks);
    } else {
        rank_plain(scores, n, ranks);
    }
}

size_t select_products(const int32_t* products, const float* factors, const float* addends,
                       size_t n, float scale, float threshold, float* scores, uint32_t* indices) {
    size_t count = 0;
    const __m512 limit = _mm512_set1_ps(threshold), unit = _mm512_set1_ps(scale);
    // Nearly nothing passes. Without addends one multiplication tells: score < threshold where
    // factor * product > -threshold / scale, but for roundings, which the slack covers; what gets
    // through is scored and compared as the contract says.
    const bool quick =
        addends == nullptr && scale > 0.0f && threshold < 3.0e38f && threshold > -3.0e38f;
    const float edge = quick ? -threshold / scale : 0.0f;
    const __m512 bound = _mm512_set1_ps(edge - 1e-5f * (edge < 0.0f ? -edge : edge) - 1e-30f);
    const auto share_of = [products, factors](size_t i) {
        return _mm512_mul_ps(_mm512_loadu_ps(factors + i),
                             _mm512_cvtepi32_ps(_mm512_loadu_si512(products + i)));
    };
    for (size_t i = 0; i < n; i += 16) {
        for (; quick && i + 64 <= n; i += 64) {
            const __m512 a = _mm512_max_ps(share_of(i), share_of(i + 16)),
                         b = _mm512_max_ps(share_of(i + 32), share_of(i + 48));
            if (_mm512_cmp_ps_mask(_mm512_max_ps(a, b), bound, _CMP_GT_OQ) != 0) break;
        }
        if (i >= n) break;
        const __mmask16 valid = first_lanes(n - i < 16 ? n - i : 16);
        const __m512 product = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(valid, products + i));
        const __m512 factor = _mm512_maskz_loadu_ps(valid, factors + i);
        if (quick && _mm512_cmp_ps_mask(_mm512_mul_ps(factor, product), bound, _CMP_GT_OQ) == 0)
            continue;
        const __m512 addend =
            addends == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(valid, addends + i);
        const __m512 score =
            _mm512_sub_ps(addend, _mm512_mul_ps(_mm512_mul_ps(unit, factor), product));
        const __mmask16 below = _mm512_mask_cmp_ps_mask(valid, score, limit, _CMP_LT_OQ);
        if (below == 0) continue;
        const __mmask16 here = first_lanes(static_cast<size_t>(__builtin_popcount(below)));
        _mm512_mask_storeu_ps(scores + count, here, packed(below, score));
        count += write_indices(below, positions_from(i), indices + count);
    }
    return count;
}

size_t pool_append(Pool* pool, const float* scores, const uint32_t* ids, size_t n) {
    size_t size = pool->size;
    const __m512 limit = _mm512_set1_ps(pool->threshold);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = first_lanes(n - i < 16 ? n - i : 16);
        const __m512 score = _mm512_maskz_loadu_ps(valid, scores + i);
        const __mmask16 below = _mm512_mask_cmp_ps_mask(valid, score, limit, _CMP_LT_OQ);
        const __m512 kept = packed(below, score);
        _mm512_storeu_ps(pool->key + size, kept);
        _mm512_storeu_ps(pool->open + size, kept);
        _mm512_storeu_si512(pool->id + size,
                            packed(below, _mm512_maskz_loadu_epi32(valid, ids + i)));
        size += static_cast<size_t>(__builtin_popcount(below));
    }
    const size_t appended = size - pool->size;
    pool->size = size;
    return appended;
}

size_t pool_count(const Pool* pool, float limit) {
    const __m512 below = _mm512_set1_ps(limit);
    size_t count = 0, i = 0;
    for (; i + 16 <= pool->size; i += 16) {
        count += static_cast<size_t>(__builtin_popcount(
            _mm512_cmp_ps_mask(_mm512_load_ps(pool->key + i), below, _CMP_LT_OQ)));
    }
    const __m512 rest = _mm512_maskz_load_ps(first_lanes(pool->size - i), pool->key + i);
    const __mmask16 mask =
        _mm512_mask_cmp_ps_mask(first_lanes(pool->size - i), rest, below, _CMP_LT_OQ);
    return count + static_cast<size_t>(__builtin_popcount(mask));
}

struct WholeRegisters {
    static inline size_t registers(const Pool* pool) { return (pool->size + 15) / 16; }
    // What lies behind the last candidate in its register becomes +inf: no limit is above it.
    static inline void range(Pool* pool, float* smallest, float* largest) {
        for (size_t i = pool->size; i < 16 * registers(pool); ++i)
            pool->key[i] = pool->open[i] = INFINITY;
        const __m512 infinity = _mm512_set1_ps(INFINITY);
        __m512 least = infinity, most = _mm512_set1_ps(-INFINITY);
        for (size_t i = 0; i < registers(pool); ++i) {
            const __m512 key = _mm512_load_ps(pool->key + 16 * i);
            least = _mm512_min_ps(least, key);
            most =
                _mm512_mask_max_ps(most, _mm512_cmp_ps_mask(key, infinity, _CMP_LT_OQ), most, key);
        }
        *smallest = _mm512_reduce_min_ps(least);
        *largest = _mm512_reduce_max_ps(most);
    }
    static inline size_t count(const Pool* pool, float limit) {
        const __m512 below = _mm512_set1_ps(limit);
        size_t count = 0;
        for (size_t i = 0; i < registers(pool); ++i) {
            const __m512 key = _mm512_load_ps(pool->key + 16 * i);
            count +=
                static_cast<size_t>(__builtin_popcount(_mm512_cmp_ps_mask(key, below, _CMP_LT_OQ)));
        }
        return count;
    }
    static inline void keep_below(Pool* pool, float limit_key) {
        const __m512 limit = _mm512_set1_ps(limit_key);
        size_t kept = 0;
        for (size_t i = 0; i < registers(pool); ++i) {
            const __m512 key = _mm512_load_ps(pool->key + 16 * i),
                         open = _mm512_load_ps(pool->open + 16 * i);
            const __m512i id = _mm512_load_si512(pool->id + 16 * i);
            const __mmask16 below = _mm512_cmp_ps_mask(key, limit, _CMP_LT_OQ);
            _mm512_storeu_ps(pool->key + kept, packed(below, key));
            _mm512_storeu_ps(pool->open + kept, packed(below, open));
            _mm512_storeu_si512(pool->id + kept, packed(below, id));
            kept += static_cast<size_t>(__builtin_popcount(below));
        }
        pool->size = kept;
    }
};

size_t pool_best(const Pool* pool, size_t want, uint32_t* positions) {
    const size_t registers = (pool->size + 15) / 16;
    _mm512_storeu_ps(pool->open + pool->size, _mm512_set1_ps(INFINITY));
    __m512 least = _mm512_set1_ps(INFINITY);
    __m512i place = _mm512_setzero_si512();
    for (size_t i = 0; i < registers; ++i) {
        const __m512 open = _mm512_load_ps(pool->open + 16 * i);
        const __mmask16 less = _mm512_cmp_ps_mask(open, least, _CMP_LT_OQ);
        least = _mm512_mask_mov_ps(least, less, open);
        place = _mm512_mask_mov_epi32(place, less, _mm512_set1_epi32(static_cast<int32_t>(16 * i)));
    }
    // Each lane's rank among them, by comparing all with each: their order without one reduction
    // after the other.
    alignas(64) float key[16];
    alignas(64) uint32_t first[16];
    _mm512_store_ps(key, least);
    _mm512_store_si512(first, place);
    const size_t open = static_cast<size_t>(
        __builtin_popcount(_mm512_cmp_ps_mask(least, _mm512_set1_ps(INFINITY), _CMP_LT_OQ)));
    uint32_t ordered[16];
    for (unsigned lane = 0; lane < 16; ++lane) {
        const __m512 own = _mm512_set1_ps(key[lane]);
        const unsigned before = _mm512_cmp_ps_mask(least, own, _CMP_LT_OQ) |
                                (_mm512_cmp_ps_mask(least, own, _CMP_EQ_OQ) & ((1u << lane) - 1));
        ordered[__builtin_popcount(before)] = first[lane] + lane;
    }
    const size_t count = open < want ? open : want;
    memcpy(positions, ordered, count * sizeof(uint32_t));
    return count;
}

}  // namespace
}  // namespace mrl
