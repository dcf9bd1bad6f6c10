// AVX2 + FMA (+ F16C, POPCNT are not needed). Compiled with -mavx2 -mfma; C headers only.
#include <immintrin.h>
#include <string.h>

#include "code_loops.hpp"
#include "float_loops.hpp"
#include "tile_loops.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

// The first `count` of eight lanes, for vmaskmovps: it does not touch the memory of the lanes that
// are off.
inline __m256i first_lanes(size_t count) {
    alignas(32) static const int32_t kWindow[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                    0,  0,  0,  0,  0,  0,  0,  0};
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
    using tail = size_t;
    static inline tail tail_of(size_t count) { return count; }
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

// int8 widened to int16, then vpmaddwd: vpmaddubsw would be one step shorter, and saturates at the
// extremes.
struct Int8 : Sums {
    using wide = __m256i;  // sixteen int16
    static constexpr size_t bytes = 16;
    static inline wide load(const uint8_t* p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        uint8_t padded[16] = {};
        memcpy(padded, p, count);
        return load(padded);
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
    static inline wide load_tail(const uint8_t* p, tail count) {
        return count == bytes ? load(p) : load_first(p, count);
    }
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(q, r));
    }
};

// Popcount by two table look-ups of a nibble (Mula, Kurz, Lemire, arXiv:1611.07612), summed to
// 64-bit lanes at once: no overflow.
struct Bits : Sums {
    using wide = __m256i;
    static constexpr size_t bytes = 32;
    static inline wide load(const uint8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        uint8_t padded[32] = {};
        memcpy(padded, p, count);
        return load(padded);
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
    static inline wide load_tail(const uint8_t* p, tail count) {
        return count == bytes ? load(p) : load_first(p, count);
    }
    static inline type popcount(type x) {
        const type table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                            2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const type nibble = _mm256_set1_epi8(15);
        const type low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
        const type high =
            _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
        return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
    }
};

struct BitXor : Bits {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, popcount(_mm256_xor_si256(q, r)));
    }
};

struct BitAnd : Bits {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, popcount(_mm256_and_si256(q, r)));
    }
};

// Few scores pass once the threshold is set, so the rare set bits are walked one by one.
inline size_t write_indices(unsigned mask, size_t first, uint32_t* indices) {
    size_t count = 0;
    for (; mask != 0; mask &= mask - 1)
        indices[count++] =
            static_cast<uint32_t>(first) + static_cast<uint32_t>(__builtin_ctz(mask));
    return count;
}

size_t select_below(const float* scores, size_t n, float threshold, uint32_t* indices) {
    size_t count = 0, i = 0;
    const __m256 limit = _mm256_set1_ps(threshold);
    for (; i + 8 <= n; i += 8) {
        const int mask =
            _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores + i), limit, _CMP_LT_OQ));
        count += write_indices(static_cast<unsigned>(mask), i, indices + count);
    }
    for (; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

size_t select_below_int32(const int32_t* scores, size_t n, int32_t threshold, uint32_t* indices) {
    size_t count = 0, i = 0;
    const __m256i limit = _mm256_set1_epi32(threshold);
    for (; i + 8 <= n; i += 8) {
        const __m256i below = _mm256_cmpgt_epi32(
            limit, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + i)));
        count +=
            write_indices(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(below))), i,
                          indices + count);
    }
    for (; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

// vpmaddubsw: two-bit codes times int8, four planes: at most 4 * 2 * 3 * 127 in an int16, no
// saturation.
struct Lines {
    struct query {
        __m256i half[8];  // plane p: halves 2p and 2p + 1
    };
    static inline query load_query(const LineQuery* q) {
        query loaded;
        for (size_t i = 0; i < 8; ++i)
            loaded.half[i] =
                _mm256_load_si256(reinterpret_cast<const __m256i*>(q->coordinates + 32 * i));
        return loaded;
    }
    static inline void dot4(const query& q, const uint8_t* const* lines, int32_t* out) {
        const __m256i three = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
        __m256i sum[4];
        for (size_t r = 0; r < 4; ++r) {
            sum[r] = _mm256_setzero_si256();
            for (size_t h = 0; h < 2; ++h) {
                const __m256i line =
                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lines[r] + 32 * h));
                const __m256i p0 = _mm256_maddubs_epi16(_mm256_and_si256(line, three), q.half[h]);
                const __m256i p1 = _mm256_maddubs_epi16(
                    _mm256_and_si256(_mm256_srli_epi16(line, 2), three), q.half[2 + h]);
                const __m256i p2 = _mm256_maddubs_epi16(
                    _mm256_and_si256(_mm256_srli_epi16(line, 4), three), q.half[4 + h]);
                const __m256i p3 = _mm256_maddubs_epi16(
                    _mm256_and_si256(_mm256_srli_epi16(line, 6), three), q.half[6 + h]);
                const __m256i planes =
                    _mm256_add_epi16(_mm256_add_epi16(p0, p1), _mm256_add_epi16(p2, p3));
                sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(planes, ones));
            }
        }
        Sums::sum4(sum[0], sum[1], sum[2], sum[3], out);
    }
};

struct Pairs {
    using type = __m256i;
    static constexpr size_t rows = 4;
    static inline type zero() { return _mm256_setzero_si256(); }
    static inline type load_rows(const uint8_t* p) {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static inline type broadcast4(const int8_t* p) {
        int32_t four;
        memcpy(&four, p, 4);
        return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
    }
    static inline type add_madd(type x, type y, type sum) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
    }
    static inline void store_pairs(type sum, int32_t* out) {
        const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum, sum), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(pairs));
    }
};

}  // namespace

const Kernels avx2_kernels = {
    "avx2",
    score_rows<F32, InnerProduct>,
    score_rows<F32, SquaredL2>,
    cosine_rows<F32>,
    score_int8<Int8>,
    score_bits<BitXor>,
    score_planes<BitAnd>,
    select_below,
    select_below_int32,
    rank_plain,
    select_products_plain,
    score_int8_at<Int8>,
    tile_pairs<Pairs>,
    tile_above<tile_pairs<Pairs>>,
    quantise_int8_plain,
    score_high<Lines>,
    score_both<Lines>,
    pool_append_plain,
    pool_cut_plain,
    pool_best_plain,
    pool_count_plain,
};

}  // namespace mrl
