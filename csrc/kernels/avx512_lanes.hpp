// What the AVX-512 levels share: float lanes, masks, reductions. F, BW, VL and DQ only. C headers
// only.
#pragma once

#include <immintrin.h>
#include <math.h>

#include "code_loops.hpp"
#include "float_loops.hpp"

namespace mrl {
namespace {

inline __mmask16 first_lanes(size_t count) {
    return static_cast<__mmask16>((1u << count) - 1);
}  // count < 32
inline __mmask64 first_bytes(size_t count) {
    return (static_cast<__mmask64>(1) << count) - 1;
}  // count < 64

struct F32 {
    using type = __m512;
    static constexpr size_t lanes = 16;
    static inline type zero() { return _mm512_setzero_ps(); }
    static inline type broadcast(float x) { return _mm512_set1_ps(x); }
    static inline type load(const float* p) { return _mm512_loadu_ps(p); }
    static inline type load_first(const float* p, size_t count) {
        return _mm512_maskz_loadu_ps(first_lanes(count), p);
    }
    static inline void store_first(float* p, type v, size_t count) {
        _mm512_mask_storeu_ps(p, first_lanes(count), v);
    }
    static inline type fma(type a, type b, type c) { return _mm512_fmadd_ps(a, b, c); }
    static inline type add(type a, type b) { return _mm512_add_ps(a, b); }
    static inline type sub(type a, type b) { return _mm512_sub_ps(a, b); }
    static inline type mul(type a, type b) { return _mm512_mul_ps(a, b); }
    static inline type div(type a, type b) { return _mm512_div_ps(a, b); }
    static inline type sqrt(type a) { return _mm512_sqrt_ps(a); }
    static inline type min(type a, type b) { return _mm512_min_ps(a, b); }
    static inline type max(type a, type b) { return _mm512_max_ps(a, b); }
    // Halves folded first, so that all but two of the shuffles are 256 bits wide: two a cycle on
    // Zen 4, not one.
    static inline void sum4(type a, type b, type c, type d, float* out) {
        const __m256 ab = _mm256_hadd_ps(fold(a), fold(b)), cd = _mm256_hadd_ps(fold(c), fold(d));
        const __m256 abcd = _mm256_hadd_ps(ab, cd);
        _mm_storeu_ps(out,
                      _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
    }
    static inline __m256 fold(type a) {
        return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    }
};

struct Sums {
    using type = __m512i;  // sixteen int32
    static inline type add(type a, type b) { return _mm512_add_epi32(a, b); }
    static inline type first_lane(int32_t x) {
        return _mm512_zextsi128_si512(_mm_cvtsi32_si128(x));
    }
    static inline __m256i fold(type a) {
        return _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti32x8_epi32(a, 1));
    }
    static inline void sum4(type a, type b, type c, type d, int32_t* out) {
        const __m256i ab = _mm256_hadd_epi32(fold(a), fold(b)),
                      cd = _mm256_hadd_epi32(fold(c), fold(d));
        const __m256i abcd = _mm256_hadd_epi32(ab, cd);
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out),
            _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1)));
    }
};

struct Bytes : Sums {
    using wide = __m512i;
    static constexpr size_t bytes = 64;
    static inline wide load(const uint8_t* p) { return _mm512_loadu_si512(p); }
    using tail = __mmask64;
    static inline tail tail_of(size_t count) {
        return count < bytes ? first_bytes(count) : ~static_cast<tail>(0);
    }
    static inline wide load_tail(const uint8_t* p, tail mask) {
        return _mm512_maskz_loadu_epi8(mask, p);
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
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (size_t j = 0; j < kTileGroup; j += 16) {
        const __m512 product = _mm512_cvtepi32_ps(_mm512_loadu_si512(products + j));
        most = _mm512_max_ps(most, _mm512_mul_ps(_mm512_loadu_ps(factors + j), product));
    }
    return _mm512_cmp_ps_mask(most, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
}

}  // namespace
}  // namespace mrl
