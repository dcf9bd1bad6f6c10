// Int8 products by vpdpbusd, which adds four products of an unsigned byte with a signed one to an
// int32: written once over a lane type V, for registers of both widths.
//
// V is a lane type of code_loops.hpp whose add_step is vpdpbusd and whose load flips the top bit of
// each byte. A row byte r becomes r + 128, unsigned, and sum (r + 128) q = sum r q + 128 sum q: one
// constant a query, nothing a row. For tiles V offers further: parts (registers in a block of 16
// rows), load_packed, broadcast4, broadcast, store, row_sum, any_above, and the shapes that fit its
// registers: height rows of a by width blocks of b, and `alone` blocks for a row by itself.
//
// C headers only (see kernels.hpp).
#pragma once

#include <string.h>

#include "code_loops.hpp"
#include "tile_loops.hpp"

namespace mrl {
namespace {

template <class V>
void inner_product_int8_vnni(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride,
                             size_t dims, int32_t* out) {
    score_codes<V>(reinterpret_cast<const uint8_t*>(query), reinterpret_cast<const uint8_t*>(rows),
                   n, row_stride, dims, -128 * row_sum(query, dims), out);
}

template <class V>
void inner_product_int8_at_vnni(const int8_t* query, const int8_t* rows, const uint32_t* ids,
                                size_t n, size_t row_stride, size_t dims, int32_t* out) {
    score_codes_at<V>(reinterpret_cast<const uint8_t*>(query),
                      reinterpret_cast<const uint8_t*>(rows), ids, n, row_stride, dims,
                      -128 * row_sum(query, dims), out);
}

// `height` rows of a against `width` blocks of b: every sum stays in a register. Never inlined: a
// caller that looks at the sums would like to have them in registers too, of which there are none
// left, and the innermost loop would spill.
template <class V, size_t height, size_t width>
__attribute__((noinline)) void tile(const int8_t* a, const int32_t* offsets, size_t a_stride,
                                    const uint8_t* b, size_t dims, int32_t* out,
                                    size_t out_stride) {
    constexpr size_t kRegisters = width * V::parts, kRegisterBytes = 64 / V::parts;
    typename V::type sum[height][kRegisters];
    for (size_t i = 0; i < height; ++i) {
        const typename V::type offset = V::broadcast(offsets[i]);
        for (size_t j = 0; j < kRegisters; ++j) sum[i][j] = offset;
    }
    for (size_t d = 0; d < dims; d += 4) {
        typename V::type rows[kRegisters];
        for (size_t j = 0; j < kRegisters; ++j) {
            rows[j] = V::load_packed(b + j / V::parts * 16 * dims + 16 * d +
                                     j % V::parts * kRegisterBytes);
        }
        for (size_t i = 0; i < height; ++i) {
            const typename V::type q = V::broadcast4(a + i * a_stride + d);
            for (size_t j = 0; j < kRegisters; ++j) sum[i][j] = V::add_step(q, rows[j], sum[i][j]);
        }
    }
    // Unrolled by order: else the compiler sees that an array is copied, and keeps the array in
    // memory all along.
#pragma GCC unroll 8
    for (size_t i = 0; i < height; ++i) {
#pragma GCC unroll 8
        for (size_t j = 0; j < kRegisters; ++j)
            V::store(out + i * out_stride + 16 / V::parts * j, sum[i][j]);
    }
}

template <class V, size_t height, size_t width>
inline void tile_rows(const int8_t* a, size_t a_stride, const uint8_t* b, size_t dims, int32_t* out,
                      size_t out_stride) {
    int32_t offsets[height];
    for (size_t i = 0; i < height; ++i) offsets[i] = -128 * V::row_sum(a + i * a_stride, dims);
    tile<V, height, width>(a, offsets, a_stride, b, dims, out, out_stride);
}

template <class V, size_t width>
inline void tile_column(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b, size_t dims,
                        int32_t* out, size_t out_stride) {
    size_t i = 0;
    for (; i + V::height <= n_a; i += V::height) {
        tile_rows<V, V::height, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride,
                                       out_stride);
    }
    for (; i + 2 <= n_a; i += 2)
        tile_rows<V, 2, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride,
                               out_stride);
    if (i < n_a)
        tile_rows<V, 1, width>(a + i * a_stride, a_stride, b, dims, out + i * out_stride,
                               out_stride);
}

template <class V>
void tile_int8_vnni(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b, size_t n_blocks,
                    size_t dims, int32_t* out, size_t out_stride) {
    size_t block = 0;
    // One row alone: a product has a latency of four cycles or more, and two are begun in each.
    for (; n_a == 1 && block + V::alone <= n_blocks; block += V::alone) {
        tile_rows<V, 1, V::alone>(a, a_stride, b + block * 16 * dims, dims, out + block * 16,
                                  out_stride);
    }
    for (; block + V::width <= n_blocks; block += V::width) {
        tile_column<V, V::width>(a, n_a, a_stride, b + block * 16 * dims, dims, out + block * 16,
                                 out_stride);
    }
    for (; block < n_blocks; ++block) {
        tile_column<V, 1>(a, n_a, a_stride, b + block * 16 * dims, dims, out + block * 16,
                          out_stride);
    }
}

// Products go into a few lines of the first-level cache and are compared there; of ten groups nine
// go no further.
template <class V, size_t height>
MRL_INLINE void tile_group(const int8_t* a, const int32_t* offsets, size_t a_stride,
                           const uint8_t* b, size_t dims, const float* factors, const float* bounds,
                           int32_t* out, size_t out_stride, uint32_t bit, uint32_t* written) {
    alignas(64) int32_t products[height * kTileGroup];
    for (size_t block = 0; block < kTileBlocks; block += V::width) {
        tile<V, height, V::width>(a, offsets, a_stride, b + block * 16 * dims, dims,
                                  products + block * 16, kTileGroup);
    }
    for (size_t i = 0; i < height; ++i) {
        const int32_t* own = products + i * kTileGroup;
        if (!V::any_above(own, factors, bounds[i])) continue;
        written[i] |= bit;
        memcpy(out + i * out_stride, own, kTileGroup * sizeof(int32_t));
    }
}

template <class V>
void tile_int8_above_vnni(const int8_t* a, const int32_t* offsets, size_t n_a, size_t a_stride,
                          const uint8_t* b, size_t n_blocks, size_t dims, const float* factors,
                          const float* bounds, int32_t* out, size_t out_stride, uint32_t* written) {
    static_assert(kTileGroup == 16 * kTileBlocks && kTileBlocks % V::width == 0);
    memset(written, 0, n_a * sizeof(uint32_t));
    size_t block = 0;
    for (; block + kTileBlocks <= n_blocks; block += kTileBlocks) {
        const uint8_t* group = b + block * 16 * dims;
        const float* own = factors + block * 16;
        const uint32_t bit = 1u << block / kTileBlocks;
        size_t i = 0;
        for (; i + V::height <= n_a; i += V::height) {
            tile_group<V, V::height>(a + i * a_stride, offsets + i, a_stride, group, dims, own,
                                     bounds + i, out + i * out_stride + block * 16, out_stride, bit,
                                     written + i);
        }
        for (; i < n_a; ++i) {
            tile_group<V, 1>(a + i * a_stride, offsets + i, a_stride, group, dims, own, bounds + i,
                             out + i * out_stride + block * 16, out_stride, bit, written + i);
        }
    }
    if (block == n_blocks) return;
    tile_int8_vnni<V>(a, n_a, a_stride, b + block * 16 * dims, n_blocks - block, dims,
                      out + block * 16, out_stride);
    mark_above(n_a, n_blocks - block, factors + block * 16, bounds, out + block * 16, out_stride,
               block / kTileBlocks, written);
}

}  // namespace
}  // namespace mrl
