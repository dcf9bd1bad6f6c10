// The tile: rows of a against packed blocks of sixteen rows of b, int8, written once over a lane
// type V. Four blocks of b, 64 rows, stay in the first-level cache while the rows of a go by, and
// every sum stays in a register.
//
// V offers: parts (registers for a block), type (sums of 16 / parts rows of b), packed and
// load_packed(p) (64 / parts bytes of a block, as its products want them), Prepared<height>, whose
// rows(a, stride, dims) gives a Left: some rows of a, at most `chunk` dims of them, of which
// four(i, d) is row i's dims d … d + 3, for every row of b. add_products(q, rows, sum), broadcast,
// store, row_sum, any_above; and the shapes that fit its registers: height rows of a by width
// blocks of b, or one row by `alone` blocks.
//
// C headers only (see kernels.hpp).
#pragma once

#include <string.h>

#include "code_loops.hpp"
#include "kernels.hpp"

namespace mrl {
namespace {

constexpr size_t kTileBlocks = 4;
constexpr size_t kWidestTile = 65536;  // dims
static_assert(kTileGroup == 16 * kTileBlocks);

inline void tile_plain(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b,
                       size_t n_blocks, size_t dims, int32_t* out, size_t out_stride) {
    for (size_t first = 0; first < n_blocks; first += kTileBlocks) {
        const size_t last = first + kTileBlocks < n_blocks ? first + kTileBlocks : n_blocks;
        for (size_t i = 0; i < n_a; ++i) {
            const int8_t* row = a + i * a_stride;
            for (size_t block = first; block < last; ++block) {
                int32_t sum[16] = {};
                const uint8_t* p = b + block * 16 * dims;
                for (size_t d = 0; d < dims; d += 4, p += 64) {
                    for (size_t j = 0; j < 16; ++j) {
                        for (size_t e = 0; e < 4; ++e)
                            sum[j] += row[d + e] * (static_cast<int32_t>(p[4 * j + e]) - 128);
                    }
                }
                for (size_t j = 0; j < 16; ++j) out[i * out_stride + block * 16 + j] = sum[j];
            }
        }
    }
}

// Says where products that were written matter, group `group` being the first.
inline void mark_above(size_t n_a, size_t n_blocks, const float* factors, const float* bounds,
                       const int32_t* out, size_t out_stride, size_t group, uint32_t* written) {
    for (size_t i = 0; i < n_a; ++i) {
        for (size_t first = 0; first < 16 * n_blocks; first += kTileGroup) {
            const size_t last =
                first + kTileGroup < 16 * n_blocks ? first + kTileGroup : 16 * n_blocks;
            int above = 0;
            for (size_t j = first; j < last; ++j)
                above |=
                    factors[j] * static_cast<float>(out[i * out_stride + j]) > bounds[i] ? 1 : 0;
            written[i] |= static_cast<uint32_t>(above) << (group + first / kTileGroup);
        }
    }
}

// Writes all products.
template <auto tile>
void tile_above(const int8_t* a, const int32_t*, size_t n_a, size_t a_stride, const uint8_t* b,
                size_t n_blocks, size_t dims, const float* factors, const float* bounds,
                int32_t* out, size_t out_stride, uint32_t* written) {
    memset(written, 0, n_a * sizeof(uint32_t));
    tile(a, n_a, a_stride, b, n_blocks, dims, out, out_stride);
    mark_above(n_a, n_blocks, factors, bounds, out, out_stride, 0, written);
}

// Rows of a where they are, for a V that multiplies bytes as they come (it offers broadcast4).
template <class V>
struct PlainLeft {
    const int8_t* a;
    size_t stride;
    MRL_INLINE PlainLeft rows(const int8_t* from, size_t a_stride, size_t) const {
        return {from, a_stride};
    }
    MRL_INLINE typename V::packed four(size_t i, size_t d) const {
        int32_t bytes;
        memcpy(&bytes, a + i * stride + d, 4);
        return V::broadcast4(bytes);
    }
};

// `height` rows of a against `width` blocks of b, over some of their dims: every sum stays in a
// register. Never inlined: a caller that looks at the sums would like to have them in registers
// too, of which there are none left, and the innermost loop would spill.
template <class V, size_t height, size_t width>
__attribute__((noinline)) void tile(const typename V::Left left, const int32_t* start,
                                    const uint8_t* b, size_t b_stride, size_t dims, int32_t* out,
                                    size_t out_stride) {
    constexpr size_t kRegisters = width * V::parts, kRegisterBytes = 64 / V::parts;
    typename V::type sum[height][kRegisters];
    for (size_t i = 0; i < height; ++i) {
        const typename V::type first = V::broadcast(start[i]);
        for (size_t j = 0; j < kRegisters; ++j) sum[i][j] = first;
    }
    for (size_t d = 0; d < dims; d += 4) {
        typename V::packed rows[kRegisters];
        for (size_t j = 0; j < kRegisters; ++j) {
            rows[j] = V::load_packed(b + j / V::parts * b_stride + 16 * d +
                                     j % V::parts * kRegisterBytes);
        }
        for (size_t i = 0; i < height; ++i) {
            const typename V::packed q = left.four(i, d);
            for (size_t j = 0; j < kRegisters; ++j)
                sum[i][j] = V::add_products(q, rows[j], sum[i][j]);
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

// The same against any number of blocks. Rows of a are prepared once, V::chunk dims at a time; of
// wider ones the products of later chunks are added.
template <class V, size_t height>
inline void tile_rows(const int8_t* a, const int32_t* offsets, size_t a_stride, const uint8_t* b,
                      size_t n_blocks, size_t dims, int32_t* out, size_t out_stride) {
    const auto chunk = [&](size_t first, size_t count, const int32_t* start, size_t block,
                           size_t blocks, int32_t* to, size_t to_stride) {
        typename V::template Prepared<height> prepared;
        const typename V::Left left = prepared.rows(a + first, a_stride, count);
        const uint8_t* from = b + block * 16 * dims + 16 * first;
        size_t i = 0;
        if constexpr (height == 1) {  // it waits for each of its sums: more blocks at once
            for (; i + V::alone <= blocks; i += V::alone) {
                tile<V, 1, V::alone>(left, start, from + i * 16 * dims, 16 * dims, count,
                                     to + i * 16, to_stride);
            }
        }
        for (; i + V::width <= blocks; i += V::width) {
            tile<V, height, V::width>(left, start, from + i * 16 * dims, 16 * dims, count,
                                      to + i * 16, to_stride);
        }
        for (; i < blocks; ++i) {
            tile<V, height, 1>(left, start, from + i * 16 * dims, 16 * dims, count, to + i * 16,
                               to_stride);
        }
    };
    chunk(0, dims < V::chunk ? dims : V::chunk, offsets, 0, n_blocks, out, out_stride);
    for (size_t first = V::chunk; first < dims; first += V::chunk) {
        constexpr int32_t kZero[height] = {};
        const size_t count = dims - first < V::chunk ? dims - first : V::chunk;
        for (size_t block = 0; block < n_blocks; ++block) {
            int32_t more[height * 16];
            chunk(first, count, kZero, block, 1, more, 16);
            for (size_t i = 0; i < height * 16; ++i)
                out[i / 16 * out_stride + block * 16 + i % 16] += more[i];
        }
    }
}

template <class V, size_t height>
inline void tile_offset_rows(const int8_t* a, size_t a_stride, const uint8_t* b, size_t n_blocks,
                             size_t dims, int32_t* out, size_t out_stride) {
    int32_t offsets[height];
    for (size_t i = 0; i < height; ++i) offsets[i] = -128 * V::row_sum(a + i * a_stride, dims);
    tile_rows<V, height>(a, offsets, a_stride, b, n_blocks, dims, out, out_stride);
}

template <class V>
void tile_in_registers(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b,
                       size_t n_blocks, size_t dims, int32_t* out, size_t out_stride) {
    if (n_a == 1) {  // no other row would find a group in the cache
        tile_offset_rows<V, 1>(a, a_stride, b, n_blocks, dims, out, out_stride);
        return;
    }
    for (size_t block = 0; block < n_blocks; block += kTileBlocks) {
        const size_t blocks = n_blocks - block < kTileBlocks ? n_blocks - block : kTileBlocks;
        const uint8_t* group = b + block * 16 * dims;
        int32_t* to = out + block * 16;
        size_t i = 0;
        for (; i + V::height <= n_a; i += V::height) {
            tile_offset_rows<V, V::height>(a + i * a_stride, a_stride, group, blocks, dims,
                                           to + i * out_stride, out_stride);
        }
        for (; i + 2 <= n_a; i += 2) {
            tile_offset_rows<V, 2>(a + i * a_stride, a_stride, group, blocks, dims,
                                   to + i * out_stride, out_stride);
        }
        if (i < n_a) {
            tile_offset_rows<V, 1>(a + i * a_stride, a_stride, group, blocks, dims,
                                   to + i * out_stride, out_stride);
        }
    }
}

// Products go into a few lines of the first-level cache and are compared there; of ten groups nine
// go no further.
template <class V, size_t height>
MRL_INLINE void tile_group(const int8_t* a, const int32_t* offsets, size_t a_stride,
                           const uint8_t* b, size_t dims, const float* factors, const float* bounds,
                           int32_t* out, size_t out_stride, uint32_t bit, uint32_t* written) {
    alignas(64) int32_t products[height * kTileGroup];
    tile_rows<V, height>(a, offsets, a_stride, b, kTileBlocks, dims, products, kTileGroup);
    for (size_t i = 0; i < height; ++i) {
        const int32_t* own = products + i * kTileGroup;
        if (!V::any_above(own, factors, bounds[i])) continue;
        written[i] |= bit;
        memcpy(out + i * out_stride, own, kTileGroup * sizeof(int32_t));
    }
}

template <class V>
void tile_above_in_registers(const int8_t* a, const int32_t* offsets, size_t n_a, size_t a_stride,
                             const uint8_t* b, size_t n_blocks, size_t dims, const float* factors,
                             const float* bounds, int32_t* out, size_t out_stride,
                             uint32_t* written) {
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
    tile_in_registers<V>(a, n_a, a_stride, b + block * 16 * dims, n_blocks - block, dims,
                         out + block * 16, out_stride);
    mark_above(n_a, n_blocks - block, factors + block * 16, bounds, out + block * 16, out_stride,
               block / kTileBlocks, written);
}

template <class V>
void add_tiles(Kernels& table) {
    table.tile_int8 = tile_in_registers<V>;
    table.tile_int8_above = tile_above_in_registers<V>;
}
}  // namespace
}  // namespace mrl
