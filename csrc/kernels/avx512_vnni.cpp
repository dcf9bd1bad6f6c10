// AVX-512 with VNNI and VPOPCNTDQ: Ice Lake, Zen 4 and later.
#include "avx512_lanes.hpp"
#include "avx512_walk.hpp"
#include "tile_loops.hpp"

namespace mrl {
namespace {

// vpdpbusd multiplies unsigned by signed bytes. A row byte r with its top bit flipped is r + 128 as
// an unsigned byte, and sum (r + 128) q = sum r q + 128 sum q: one constant a query, nothing a row.
struct Int8 : Bytes {
    static inline wide flip(wide x) {
        return _mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    static inline wide load(const uint8_t* p) { return flip(Bytes::load(p)); }
    static inline wide load_tail(const uint8_t* p, tail mask) {
        return flip(Bytes::load_tail(p, mask));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return flip(Bytes::load_first(p, count));
    }
    static inline type add_step(wide q, wide r, type sum) { return _mm512_dpbusd_epi32(sum, r, q); }
};

struct BitXor : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(q, r)));
    }
};

struct BitAnd : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_and_si512(q, r)));
    }
};

void inner_product_int8(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride,
                        size_t dims, int32_t* out) {
    int32_t query_sum = 0;
    for (size_t i = 0; i < dims; ++i) query_sum += query[i];
    score_codes<Int8>(reinterpret_cast<const uint8_t*>(query),
                      reinterpret_cast<const uint8_t*>(rows), n, row_stride, dims, -128 * query_sum,
                      out);
}

void inner_product_int8_at(const int8_t* query, const int8_t* rows, const uint32_t* ids, size_t n,
                           size_t row_stride, size_t dims, int32_t* out) {
    int32_t query_sum = 0;
    for (size_t i = 0; i < dims; ++i) query_sum += query[i];
    score_codes_at<Int8>(reinterpret_cast<const uint8_t*>(query),
                         reinterpret_cast<const uint8_t*>(rows), ids, n, row_stride, dims,
                         -128 * query_sum, out);
}

struct Lines : WholeLines {
    static inline __m512i products(const query& q, __m512i line) {
        const __m512i three = _mm512_set1_epi8(3);
        __m512i even =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(line, three), q.plane[0]);
        __m512i odd =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                _mm512_and_si512(_mm512_srli_epi16(line, 2), three), q.plane[1]);
        even = _mm512_dpbusd_epi32(even, _mm512_and_si512(_mm512_srli_epi16(line, 4), three),
                                   q.plane[2]);
        odd = _mm512_dpbusd_epi32(odd, _mm512_and_si512(_mm512_srli_epi16(line, 6), three),
                                  q.plane[3]);
        return _mm512_add_epi32(even, odd);
    }
};

inline int32_t sum_of(const int8_t* row, size_t dims) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    size_t d = 0;
    for (; d + 64 <= dims; d += 64)
        sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(row + d));
    if (d < dims)
        sum =
            _mm512_dpbusd_epi32(sum, ones, _mm512_maskz_loadu_epi8(first_bytes(dims - d), row + d));
    return _mm512_reduce_add_epi32(sum);
}

// `height` rows of a against `width` blocks of b: every sum stays in a register. Never inlined: a
// caller that looks at the sums would like to have them in registers too, of which there are none
// left, and the innermost loop would spill.
template <size_t height, size_t width>
__attribute__((noinline)) void tile(const int8_t* a, const int32_t* offsets, size_t a_stride,
                                    const uint8_t* b, size_t dims, int32_t* out,
                                    size_t out_stride) {
    __m512i sum[height][width];
    for (size_t i = 0; i < height; ++i) {
        const __m512i offset = _mm512_set1_epi32(offsets[i]);
        for (size_t j = 0; j < width; ++j) sum[i][j] = offset;
    }
    for (size_t d = 0; d < dims; d += 4) {
        __m512i rows[width];
        for (size_t j = 0; j < width; ++j) rows[j] = _mm512_loadu_si512(b + j * 16 * dims + 16 * d);
        for (size_t i = 0; i < height; ++i) {
            int32_t four;
            memcpy(&four, a + i * a_stride + d, 4);
            const __m512i q = _mm512_set1_epi32(four);
            for (size_t j = 0; j < width; ++j)
                sum[i][j] = _mm512_dpbusd_epi32(sum[i][j], rows[j], q);
        }
    }
    // Unrolled by order: else the compiler sees that an array is copied, and keeps the array in
    // memory all along.
#pragma GCC unroll 8
    for (size_t i = 0; i < height; ++i) {
#pragma GCC unroll 8
        for (size_t j = 0; j < width; ++j)
            _mm512_storeu_si512(out + i * out_stride + 16 * j, sum[i][j]);
    }
}

template <size_t height, size_t width>
inline void tile_rows(const int8_t* a, size_t a_stride, const uint8_t* b, size_t dims, int32_t* out,
                      size_t out_stride) {
    int32_t offsets[height];
    for (size_t i = 0; i < height; ++i) offsets[i] = -128 * sum_of(a + i * a_stride, dims);
    tile<height, width>(a, offsets, a_stride, b, dims, out, out_stride);
}

template <size_t width>
inline void tile_column(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b, size_t dims,
                        int32_t* out, size_t out_stride) {
    size_t i = 0;
    for (; i + 6 <= n_a; i += 6)
        tile_rows<6, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride, out_stride);
    for (; i + 2 <= n_a; i += 2)
        tile_rows<2, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride, out_stride);
    if (i < n_a)
        tile_rows<1, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride, out_stride);
}

void tile_int8(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b, size_t n_blocks,
               size_t dims, int32_t* out, size_t out_stride) {
    size_t block = 0;
    // One row alone: a product has a latency of four cycles, and two are begun in each.
    for (; n_a == 1 && block + 8 <= n_blocks; block += 8) {
        tile_rows<1, 8>(a, a_stride, b + block * 16 * dims, dims, out + block * 16, out_stride);
    }
    for (; block + kTileBlocks <= n_blocks; block += kTileBlocks) {
        tile_column<kTileBlocks>(a, n_a, a_stride, b + block * 16 * dims, dims, out + block * 16,
                                 out_stride);
    }
    for (; block < n_blocks; ++block)
        tile_column<1>(a, n_a, a_stride, b + block * 16 * dims, dims, out + block * 16, out_stride);
}

// Products go into a few lines of the first-level cache and are compared there; of ten groups nine
// go no further.
template <size_t height>
MRL_INLINE void tile_group(const int8_t* a, const int32_t* offsets, size_t a_stride,
                           const uint8_t* b, size_t dims, const float* factors, const float* bounds,
                           int32_t* out, size_t out_stride, uint32_t bit, uint32_t* written) {
    alignas(64) int32_t products[height * kTileGroup];
    tile<height, kTileBlocks>(a, offsets, a_stride, b, dims, products, kTileGroup);
    for (size_t i = 0; i < height; ++i) {
        const int32_t* own = products + i * kTileGroup;
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (size_t j = 0; j < kTileGroup; j += 16) {
            const __m512 share = _mm512_mul_ps(_mm512_loadu_ps(factors + j),
                                               _mm512_cvtepi32_ps(_mm512_load_si512(own + j)));
            most = _mm512_max_ps(most, share);
        }
        if (_mm512_cmp_ps_mask(most, _mm512_set1_ps(bounds[i]), _CMP_GT_OQ) == 0) continue;
        written[i] |= bit;
        memcpy(out + i * out_stride, own, kTileGroup * sizeof(int32_t));
    }
}

void tile_int8_above(const int8_t* a, const int32_t* offsets, size_t n_a, size_t a_stride,
                     const uint8_t* b, size_t n_blocks, size_t dims, const float* factors,
                     const float* bounds, int32_t* out, size_t out_stride, uint32_t* written) {
    static_assert(kTileGroup == 16 * kTileBlocks);
    memset(written, 0, n_a * sizeof(uint32_t));
    size_t block = 0;
    for (; block + kTileBlocks <= n_blocks; block += kTileBlocks) {
        const uint8_t* group = b + block * 16 * dims;
        const float* own = factors + block * 16;
        const uint32_t bit = 1u << block / kTileBlocks;
        size_t i = 0;
        for (; i + 6 <= n_a; i += 6) {
            tile_group<6>(a + i * a_stride, offsets + i, a_stride, group, dims, own, bounds + i,
                          out + i * out_stride + block * 16, out_stride, bit, written + i);
        }
        for (; i < n_a; ++i) {
            tile_group<1>(a + i * a_stride, offsets + i, a_stride, group, dims, own, bounds + i,
                          out + i * out_stride + block * 16, out_stride, bit, written + i);
        }
    }
    if (block == n_blocks) return;
    tile_int8(a, n_a, a_stride, b + block * 16 * dims, n_blocks - block, dims, out + block * 16,
              out_stride);
    mark_above(n_a, n_blocks - block, factors + block * 16, bounds, out + block * 16, out_stride,
               block / kTileBlocks, written);
}

}  // namespace

const Kernels avx512_vnni_kernels = {
    "avx512_vnni",
    score_rows<F32, InnerProduct>,
    score_rows<F32, SquaredL2>,
    cosine_rows<F32>,
    inner_product_int8,
    score_bits<BitXor>,
    score_planes<BitAnd>,
    select_below,
    select_below_int32,
    rank,
    select_products,
    inner_product_int8_at,
    tile_int8,
    tile_int8_above,
    quantise_int8_plain,
    score_high_in_registers<Lines>,
    score_both_in_registers<Lines>,
    pool_append,
    pool_cut,
    pool_best,
    pool_count,
};

}  // namespace mrl
