// What the AVX2 levels share: float lanes, masks, reductions, tails of rows. C headers only.
#pragma once

#include <immintrin.h>
#include <math.h>

#include "code_loops.hpp"
#include "float_loops.hpp"

namespace mrl {
namespace {

// The first `count` of eight lanes, for vmaskmovps and vpmaskmovd: they do not touch
// the memory of the lanes that are off.
inline __m256i first_lanes(size_t count) {
    alignas(64) static const int32_t kWindow[17] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWindow + 8 - count));
}

struct F32 {
    using type = __m256;
    static constexpr size_t lanes = 8;
    static inline type zero() { return _mm256_setzero_ps(); }
    static inline type broadcast(float x) { return _mm256_set1_ps(x); }
    static inline type load(const float* p) { return _mm256_loadu_ps(p); }
    static inline type load_first(const float* p, size_t count) {
        return _mm256_maskload_ps(p, first_lanes(count));
    }
    static inline void store_first(float* p, type v, size_t count) {
        _mm256_maskstore_ps(p, first_lanes(count), v);
    }
    static inline type fma(type a, type b, type c) { return _mm256_fmadd_ps(a, b, c); }
    static inline type add(type a, type b) { return _mm256_add_ps(a, b); }
    static inline type sub(type a, type b) { return _mm256_sub_ps(a, b); }
    static inline type mul(type a, type b) { return _mm256_mul_ps(a, b); }
    static inline type div(type a, type b) { return _mm256_div_ps(a, b); }
    static inline type sqrt(type a) { return _mm256_sqrt_ps(a); }
    static inline type min(type a, type b) { return _mm256_min_ps(a, b); }
    static inline type max(type a, type b) { return _mm256_max_ps(a, b); }
    static inline void sum4(type a, type b, type c, type d, float* out) {
        const type abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        _mm_storeu_ps(out,
                      _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
    }
};

struct Sums {
    using type = __m256i;  // eight int32
    static inline type add(type a, type b) { return _mm256_add_epi32(a, b); }
    static inline type first_lane(int32_t x) {
        return _mm256_zextsi128_si256(_mm_cvtsi32_si128(x));
    }
    static inline void sum4(type a, type b, type c, type d, int32_t* out) {
        const type abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out),
            _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1)));
    }
};

// The first `count` < 32 bytes of a row. A mask is of four bytes a lane: the last one to three of a
// row whose width is no multiple of four are read one by one.
struct Tail {
    __m256i whole, last;  // lanes
    size_t words, rest;   // whole * 4 + rest = count
};

inline Tail tail_of(size_t count) {
    const __m256i whole = first_lanes(count / 4);
    return {whole, _mm256_andnot_si256(whole, first_lanes(count / 4 + 1)), count / 4, count % 4};
}

inline int32_t last_bytes(const uint8_t* p, const Tail& tail) {
    p += 4 * tail.words;
    uint32_t bytes = p[0];
    if (tail.rest > 1) bytes |= static_cast<uint32_t>(p[1]) << 8;
    if (tail.rest > 2) bytes |= static_cast<uint32_t>(p[2]) << 16;
    return static_cast<int32_t>(bytes);
}

MRL_INLINE __m256i load_tail(const uint8_t* p, const Tail& tail) {
    const __m256i words = _mm256_maskload_epi32(reinterpret_cast<const int*>(p), tail.whole);
    if (tail.rest == 0) return words;
    const __m256i bytes = _mm256_set1_epi32(last_bytes(p, tail));
    return _mm256_or_si256(words, _mm256_and_si256(tail.last, bytes));
}

// Of `count` < 16.
MRL_INLINE __m128i load_half_tail(const uint8_t* p, const Tail& tail) {
    const __m128i words =
        _mm_maskload_epi32(reinterpret_cast<const int*>(p), _mm256_castsi256_si128(tail.whole));
    if (tail.rest == 0) return words;
    const __m128i bytes = _mm_set1_epi32(last_bytes(p, tail));
    return _mm_or_si128(words, _mm_and_si128(_mm256_castsi256_si128(tail.last), bytes));
}

struct Bytes : Sums {
    using wide = __m256i;
    static constexpr size_t bytes = 32;
    static inline wide load(const uint8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    struct tail : Tail {
        bool full;
    };
    static inline tail tail_of(size_t count) {  // count <= bytes
        return {mrl::tail_of(count < bytes ? count : 0), count == bytes};
    }
    static inline wide load_tail(const uint8_t* p, const tail& t) {
        return t.full ? load(p) : mrl::load_tail(p, t);
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return load_tail(p, tail_of(count));
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
};

// Whether factors_j * product_j > bound for one of a group's products.
inline bool any_product_above(const int32_t* products, const float* factors, float bound) {
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (size_t j = 0; j < kTileGroup; j += 8) {
        const __m256i product = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(products + j));
        const __m256 share =
            _mm256_mul_ps(_mm256_loadu_ps(factors + j), _mm256_cvtepi32_ps(product));
        most = _mm256_max_ps(most, share);
    }
    return _mm256_movemask_ps(_mm256_cmp_ps(most, _mm256_set1_ps(bound), _CMP_GT_OQ)) != 0;
}

}  // namespace
}  // namespace mrl
