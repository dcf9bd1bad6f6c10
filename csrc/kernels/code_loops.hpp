// The integer loops over codes (int8, bits), written once over a lane type C (one per instruction set and operation).
//
// C offers: wide (a register of `bytes` code bytes), type (a register of partial sums), zero, load, load_first(p, count) with zeros beyond,
// add_step(query, row, sum), and sum4(a, b, c, d, out), which reduces four registers of partial sums to four int32. Integer sums have no
// order, so every instruction set returns the same bits.
//
// C headers only (see kernels.hpp).
#pragma once

#include "kernels.hpp"

namespace mrl {
namespace {

template <class C, size_t Rows>
inline void sum_codes(const uint8_t* query, const uint8_t* row, size_t row_stride, size_t bytes, int32_t* out4) {
    typename C::type sum[Rows];
    for (size_t r = 0; r < Rows; ++r) sum[r] = C::zero();
    size_t i = 0;
    for (; i + C::bytes <= bytes; i += C::bytes) {
        const typename C::wide q = C::load_query(query + i);
        for (size_t r = 0; r < Rows; ++r) sum[r] = C::add_step(q, C::load(row + r * row_stride + i), sum[r]);
    }
    if (i < bytes) {
        const typename C::wide q = C::load_query_first(query + i, bytes - i);
        for (size_t r = 0; r < Rows; ++r) sum[r] = C::add_step(q, C::load_first(row + r * row_stride + i, bytes - i), sum[r]);
    }
    C::sum4(sum[0], sum[Rows > 1 ? 1 : 0], sum[Rows > 2 ? 2 : 0], sum[Rows > 3 ? 3 : 0], out4);
}

// Scores n rows and adds `offset` to each: the constant that an int8 loop over unsigned codes owes (see avx512_vnni.cpp).
template <class C>
inline void score_codes(const uint8_t* query, const uint8_t* rows, size_t n, size_t row_stride, size_t bytes, int32_t offset,
                        int32_t* out) {
    size_t row = 0;
    for (; row + 4 <= n; row += 4) {
        sum_codes<C, 4>(query, rows + row * row_stride, row_stride, bytes, out + row);
        for (size_t r = 0; r < 4; ++r) out[row + r] += offset;
    }
    for (; row < n; ++row) {
        int32_t four[4];
        sum_codes<C, 1>(query, rows + row * row_stride, 0, bytes, four);
        out[row] = four[0] + offset;
    }
}

// Sum of 2^p times the plane's score. Planes outermost within a block of rows: the block's codes stay in the first-level cache.
template <class C>
void score_planes(const uint8_t* query, size_t planes, const uint8_t* rows, size_t n, size_t row_stride, size_t bytes, int32_t* out) {
    if (planes == 1) {
        score_codes<C>(query, rows, n, row_stride, bytes, 0, out);
        return;
    }
    constexpr size_t kBlock = 64;
    for (size_t first = 0; first < n; first += kBlock) {
        const size_t count = n - first < kBlock ? n - first : kBlock;
        int32_t plane[kBlock];
        for (size_t i = 0; i < count; ++i) out[first + i] = 0;
        for (size_t p = 0; p < planes; ++p) {
            score_codes<C>(query + p * bytes, rows + first * row_stride, count, row_stride, bytes, 0, plane);
            for (size_t i = 0; i < count; ++i) out[first + i] += plane[i] << p;
        }
    }
}

}  // namespace
}  // namespace mrl
