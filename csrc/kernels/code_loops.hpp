// The integer loops over codes (int8, bits), written once over a lane type C (one per instruction
// set and operation).
//
// C offers: wide (a register of `bytes` code bytes), type (a register of partial sums),
// first_lane(x) (x in one sum), load, load_first(p, count) with zeros beyond, tail_of(count) and
// load_tail(p, tail) for the same with the count prepared, add_step(query, row, sum), add, and
// sum4(a, b, c, d, out), which reduces four registers of partial sums to four int32. Integer sums
// have no order, so every instruction set returns the same bits.
//
// C headers only (see kernels.hpp).
#pragma once

#include "float_loops.hpp"
#include "kernels.hpp"

namespace mrl {
namespace {

// One row, four chains: the step of every operation has a latency of a few cycles. Returns partial
// sums.
template <class C, bool stream = true>
MRL_INLINE typename C::type sum_long_row(const uint8_t* query, const uint8_t* row, size_t bytes,
                                         typename C::type start) {
    typename C::type sum[4] = {start, C::first_lane(0), C::first_lane(0), C::first_lane(0)};
    size_t i = 0;
    for (; i + 4 * C::bytes <= bytes; i += 4 * C::bytes) {
        for (size_t line = 0; stream && line < 4 * C::bytes; line += 64)
            fetch(row + i + line + kAheadBytes);
        for (size_t c = 0; c < 4; ++c)
            sum[c] = C::add_step(C::load_query(query + i + c * C::bytes),
                                 C::load(row + i + c * C::bytes), sum[c]);
    }
    for (; i + C::bytes <= bytes; i += C::bytes)
        sum[0] = C::add_step(C::load_query(query + i), C::load(row + i), sum[0]);
    if (i < bytes)
        sum[1] = C::add_step(C::load_query_first(query + i, bytes - i),
                             C::load_first(row + i, bytes - i), sum[1]);
    return C::add(C::add(sum[0], sum[1]), C::add(sum[2], sum[3]));
}

// Four short rows side by side. Writes partial sums.
template <class C>
MRL_INLINE void sum_short_rows(const uint8_t* query, const uint8_t* row, size_t row_stride,
                               size_t bytes, size_t ahead, typename C::type start,
                               typename C::type* sum) {
    for (size_t r = 0; r < 4; ++r) sum[r] = start;
    for (size_t line = 0; line < bytes; line += 64) {
        for (size_t r = 0; r < 4; ++r) fetch(row + (r + ahead) * row_stride + line);
    }
    size_t i = 0;
    for (; i + C::bytes <= bytes; i += C::bytes) {
        const typename C::wide q = C::load_query(query + i);
        for (size_t r = 0; r < 4; ++r)
            sum[r] = C::add_step(q, C::load(row + r * row_stride + i), sum[r]);
    }
    if (i < bytes) {
        const typename C::wide q = C::load_query_first(query + i, bytes - i);
        for (size_t r = 0; r < 4; ++r)
            sum[r] = C::add_step(q, C::load_first(row + r * row_stride + i, bytes - i), sum[r]);
    }
}

inline int32_t row_sum(const int8_t* row, size_t dims) {
    int32_t sum = 0;
    for (size_t i = 0; i < dims; ++i) sum += row[i];
    return sum;
}

// Scores n rows and adds `offset` to each: the constant that an int8 loop over unsigned codes owes.
// Long and short rows as in float_loops.hpp.
template <class C>
inline void score_codes(const uint8_t* query, const uint8_t* rows, size_t n, size_t row_stride,
                        size_t bytes, int32_t offset, int32_t* out) {
    const typename C::type start = C::first_lane(offset);
    size_t row = 0;
    typename C::type sum[4];
    const size_t ahead = rows_ahead(bytes);
    if (bytes <= C::bytes && bytes != 0) {
        // One register a row: the query stays in its register, the mask of the row's bytes is made
        // once.
        const typename C::tail tail = C::tail_of(bytes);
        const typename C::wide q = C::load_query_first(query, bytes);
        const size_t step = row_stride < 64 ? 64 : row_stride;
        for (; row + 4 <= n; row += 4) {
            const uint8_t* four = rows + row * row_stride;
            for (size_t line = 0; line < 4 * row_stride; line += step)
                fetch(four + ahead * row_stride + line);
            for (size_t r = 0; r < 4; ++r)
                sum[r] = C::add_step(q, C::load_tail(four + r * row_stride, tail), start);
            C::sum4(sum[0], sum[1], sum[2], sum[3], out + row);
        }
    } else if (bytes < 4 * C::bytes) {
        for (; row + 4 <= n; row += 4) {
            sum_short_rows<C>(query, rows + row * row_stride, row_stride, bytes, ahead, start, sum);
            C::sum4(sum[0], sum[1], sum[2], sum[3], out + row);
        }
    } else {
        for (; row + 4 <= n; row += 4) {
            for (size_t r = 0; r < 4; ++r)
                sum[r] = sum_long_row<C>(query, rows + (row + r) * row_stride, bytes, start);
            C::sum4(sum[0], sum[1], sum[2], sum[3], out + row);
        }
    }
    for (; row < n; ++row) {
        int32_t four[4];
        sum[0] = sum_long_row<C>(query, rows + row * row_stride, bytes, start);
        C::sum4(sum[0], sum[0], sum[0], sum[0], four);
        out[row] = four[0];
    }
}

// Rows anywhere of just `width` registers: the query stays in as many.
template <class C, size_t width>
inline void score_registers_at(const uint8_t* query, const uint8_t* rows, const uint32_t* ids,
                               size_t n, size_t row_stride, int32_t offset, int32_t* out) {
    const typename C::type start = C::first_lane(offset);
    typename C::wide q[width];
    for (size_t i = 0; i < width; ++i) q[i] = C::load_query(query + i * C::bytes);
    const auto fetch_row = [&](size_t i) {
        for (size_t line = 0; line < width * C::bytes; line += 64)
            fetch(rows + ids[i] * row_stride + line);
    };
    for (size_t i = 0; i < n && i < 8; ++i) fetch_row(i);
    for (size_t row = 0; row < n; row += 4) {
        typename C::type sum[4];
        int32_t four[4];
        const size_t count = n - row < 4 ? n - row : 4;
        for (size_t r = 0; r < 4; ++r) {
            if (row + 8 + r < n) fetch_row(row + 8 + r);
            const uint8_t* p = rows + ids[row + (r < count ? r : count - 1)] * row_stride;
            typename C::type even = start, odd = C::first_lane(0);
            for (size_t i = 0; i < width; i += 2) {
                even = C::add_step(q[i], C::load(p + i * C::bytes), even);
                if (i + 1 < width)
                    odd = C::add_step(q[i + 1], C::load(p + (i + 1) * C::bytes), odd);
            }
            sum[r] = C::add(even, odd);
        }
        C::sum4(sum[0], sum[1], sum[2], sum[3], four);
        for (size_t r = 0; r < count; ++r) out[row + r] = four[r];
    }
}

// The same for rows anywhere, four at a time; the next four are fetched meanwhile.
template <class C>
inline void score_codes_at(const uint8_t* query, const uint8_t* rows, const uint32_t* ids, size_t n,
                           size_t row_stride, size_t bytes, int32_t offset, int32_t* out) {
    if (bytes == 4 * C::bytes)
        return score_registers_at<C, 4>(query, rows, ids, n, row_stride, offset,
                                        out);  // build codes, in AVX-512
    if (bytes == 6 * C::bytes)
        return score_registers_at<C, 6>(query, rows, ids, n, row_stride, offset, out);  // 384 dims
    const typename C::type start = C::first_lane(offset);
    const auto fetch_row = [&](size_t i) {
        for (size_t line = 0; line < bytes; line += 64) fetch(rows + ids[i] * row_stride + line);
    };
    for (size_t i = 0; i < n && i < 8; ++i) fetch_row(i);
    for (size_t row = 0; row < n; row += 4) {
        typename C::type sum[4];
        int32_t four[4];
        const size_t count = n - row < 4 ? n - row : 4;
        for (size_t r = 0; r < 4; ++r) {
            if (row + 8 + r < n) fetch_row(row + 8 + r);
            sum[r] = r < count ? sum_long_row<C, false>(query, rows + ids[row + r] * row_stride,
                                                        bytes, start)
                               : start;
        }
        C::sum4(sum[0], sum[1], sum[2], sum[3], four);
        for (size_t r = 0; r < count; ++r) out[row + r] = four[r];
    }
}

// The shapes in which a table offers score_codes.
template <class C>
void score_int8_at(const int8_t* query, const int8_t* rows, const uint32_t* ids, size_t n,
                   size_t row_stride, size_t dims, int32_t* out) {
    score_codes_at<C>(reinterpret_cast<const uint8_t*>(query),
                      reinterpret_cast<const uint8_t*>(rows), ids, n, row_stride, dims, 0, out);
}

template <class C>
void score_int8(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride, size_t dims,
                int32_t* out) {
    score_codes<C>(reinterpret_cast<const uint8_t*>(query), reinterpret_cast<const uint8_t*>(rows),
                   n, row_stride, dims, 0, out);
}

// The same over unsigned codes, as vpdpbusd multiplies an unsigned byte by a signed one: C's load
// flips the top bit of each byte. A row byte r becomes r + 128, and sum (r + 128) q = sum r q +
// 128 sum q: one constant a query, nothing a row.
template <class C>
void score_int8_unsigned(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride,
                         size_t dims, int32_t* out) {
    score_codes<C>(reinterpret_cast<const uint8_t*>(query), reinterpret_cast<const uint8_t*>(rows),
                   n, row_stride, dims, -128 * row_sum(query, dims), out);
}

template <class C>
void score_int8_unsigned_at(const int8_t* query, const int8_t* rows, const uint32_t* ids, size_t n,
                            size_t row_stride, size_t dims, int32_t* out) {
    score_codes_at<C>(reinterpret_cast<const uint8_t*>(query),
                      reinterpret_cast<const uint8_t*>(rows), ids, n, row_stride, dims,
                      -128 * row_sum(query, dims), out);
}

template <class C>
void score_bits(const uint8_t* query, const uint8_t* rows, size_t n, size_t row_stride,
                size_t bytes, int32_t* out) {
    score_codes<C>(query, rows, n, row_stride, bytes, 0, out);
}

// Sum of 2^p times the plane's score. Planes outermost within a block of rows: the block's codes
// stay in the first-level cache.
template <class C>
void score_planes(const uint8_t* query, size_t planes, const uint8_t* rows, size_t n,
                  size_t row_stride, size_t bytes, int32_t* out) {
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
            score_codes<C>(query + p * bytes, rows + first * row_stride, count, row_stride, bytes,
                           0, plane);
            for (size_t i = 0; i < count; ++i) out[first + i] += plane[i] << p;
        }
    }
}

// The kernels of int8 rows, for both signs of the query, and of bits.
template <class C>
void add_int8(Kernels& table) {
    table.inner_product_int8 = score_int8<C>;
    table.inner_product_int8_at = score_int8_at<C>;
}

template <class C>
void add_int8_unsigned(Kernels& table) {
    table.inner_product_int8 = score_int8_unsigned<C>;
    table.inner_product_int8_at = score_int8_unsigned_at<C>;
}

template <class Xor, class And>
void add_bits(Kernels& table) {
    table.hamming = score_bits<Xor>;
    table.inner_product_bit = score_planes<And>;
}
}  // namespace
}  // namespace mrl
