// The tile: rows of a against packed blocks of sixteen rows of b, int8, written once over a lane
// type T that multiplies pairs of int16. (VNNI has a tile of its own in avx512_vnni.cpp.) Four
// blocks of b, 64 rows, stay in the first-level cache while the rows of a go by.
//
// T offers: lanes of b's rows in one register (`rows`), type, zero, load_rows(p) (rows * 4 bytes as
// int16), broadcast4(p) (four int8 as int16, repeated), add_madd(x, y, sum), and store_pairs(sum,
// out), which adds neighbours and writes `rows` int32.
//
// C headers only (see kernels.hpp).
#pragma once

#include <string.h>

#include "kernels.hpp"

namespace mrl {
namespace {

constexpr size_t kTileBlocks = 4;

inline int32_t row_sum(const int8_t* row, size_t dims) {
    int32_t sum = 0;
    for (size_t i = 0; i < dims; ++i) sum += row[i];
    return sum;
}

template <class T>
void tile_pairs(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b, size_t n_blocks,
                size_t dims, int32_t* out, size_t out_stride) {
    constexpr size_t kParts = 16 / T::rows;
    for (size_t first = 0; first < n_blocks; first += kTileBlocks) {
        const size_t last = first + kTileBlocks < n_blocks ? first + kTileBlocks : n_blocks;
        for (size_t i = 0; i < n_a; ++i) {
            const int8_t* row = a + i * a_stride;
            const int32_t offset = -128 * row_sum(row, dims);
            for (size_t block = first; block < last; ++block) {
                const uint8_t* p = b + block * 16 * dims;
                typename T::type sum[kParts];
                for (size_t part = 0; part < kParts; ++part) sum[part] = T::zero();
                for (size_t d = 0; d < dims; d += 4) {
                    const typename T::type q = T::broadcast4(row + d);
                    for (size_t part = 0; part < kParts; ++part) {
                        sum[part] = T::add_madd(T::load_rows(p + 16 * d + part * T::rows * 4), q,
                                                sum[part]);
                    }
                }
                int32_t* to = out + i * out_stride + block * 16;
                for (size_t part = 0; part < kParts; ++part)
                    T::store_pairs(sum[part], to + part * T::rows);
                for (size_t j = 0; j < 16; ++j) to[j] += offset;
            }
        }
    }
}

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

}  // namespace
}  // namespace mrl
