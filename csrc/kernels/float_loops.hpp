// The float32 loops, written once over a lane type V (one per instruction set).
//
// V offers: type, lanes, zero, load, load_first(p, count), fma, sub, add, mul, div, sqrt, min, max,
// broadcast, store_first(p, v, count), and sum4(a, b, c, d, out), which reduces four vectors at
// once: four rows share one tree of shuffles.
//
// Two shapes, measured on Zen 5 (benchmarks/bench_kernels.py), meet at eight registers a row. A
// long row is read alone, front to back, with four chains to hide the latency of fma: reading four
// long rows side by side costs a third of the second-level cache's bandwidth. Of short rows four go
// together, as they share the query's loads and leave no time for the latency of one row's few
// steps.
//
// C headers only (see kernels.hpp); everything here is a template or lives in an anonymous
// namespace of the including file.
#pragma once

#include "kernels.hpp"

namespace mrl {
namespace {

constexpr size_t kShortRow = 8;  // registers
constexpr size_t kChains = 4;

// How far ahead of the reading memory is fetched.
constexpr size_t kAheadBytes = 4096;

// How many rows ahead a short row's lines are fetched: kAheadBytes of touched memory. Rows that lie
// apart (a prefix of long rows) have no stream that the hardware would follow, and rows of one line
// leave its prefetcher too late.
inline size_t rows_ahead(size_t row_bytes) {
    return row_bytes == 0 ? 0 : 4 + (kAheadBytes / row_bytes & ~static_cast<size_t>(3));
}

inline void fetch(const void* p) { __builtin_prefetch(p, 0, 3); }

struct InnerProduct {
    template <class V>
    static inline typename V::type step(typename V::type q, typename V::type r,
                                        typename V::type sum) {
        return V::fma(q, r, sum);
    }
};

struct SquaredL2 {
    template <class V>
    static inline typename V::type step(typename V::type q, typename V::type r,
                                        typename V::type sum) {
        const typename V::type difference = V::sub(q, r);
        return V::fma(difference, difference, sum);
    }
};

// One row, four chains. Returns lanes still to be summed.
template <class V, class Op>
MRL_INLINE typename V::type sum_long_row(const float* query, const float* row, size_t dims) {
    typename V::type sum[kChains];
    for (size_t c = 0; c < kChains; ++c) sum[c] = V::zero();
    size_t i = 0;
    for (; i + kChains * V::lanes <= dims; i += kChains * V::lanes) {
        for (size_t c = 0; c < kChains; ++c) {
            sum[c] = Op::template step<V>(V::load(query + i + c * V::lanes),
                                          V::load(row + i + c * V::lanes), sum[c]);
        }
    }
    for (; i + V::lanes <= dims; i += V::lanes)
        sum[0] = Op::template step<V>(V::load(query + i), V::load(row + i), sum[0]);
    if (i < dims)
        sum[1] = Op::template step<V>(V::load_first(query + i, dims - i),
                                      V::load_first(row + i, dims - i), sum[1]);
    return V::add(V::add(sum[0], sum[1]), V::add(sum[2], sum[3]));
}

// Four short rows side by side. Writes lanes still to be summed.
template <class V, class Op>
MRL_INLINE void sum_short_rows(const float* query, const float* row, size_t row_stride, size_t dims,
                               size_t ahead, typename V::type* sum) {
    for (size_t r = 0; r < 4; ++r) sum[r] = V::zero();
    for (size_t line = 0; line < dims; line += 16) {
        for (size_t r = 0; r < 4; ++r) fetch(row + (r + ahead) * row_stride + line);
    }
    size_t i = 0;
    for (; i + V::lanes <= dims; i += V::lanes) {
        const typename V::type q = V::load(query + i);
        for (size_t r = 0; r < 4; ++r)
            sum[r] = Op::template step<V>(q, V::load(row + r * row_stride + i), sum[r]);
    }
    if (i < dims) {
        const typename V::type q = V::load_first(query + i, dims - i);
        for (size_t r = 0; r < 4; ++r)
            sum[r] =
                Op::template step<V>(q, V::load_first(row + r * row_stride + i, dims - i), sum[r]);
    }
}

template <class V, class Op>
void score_rows(const float* query, const float* rows, size_t n, size_t row_stride, size_t dims,
                float* out) {
    size_t row = 0;
    if (dims < kShortRow * V::lanes) {
        const size_t ahead = rows_ahead(4 * dims);
        for (; row + 4 <= n; row += 4) {
            typename V::type sum[4];
            sum_short_rows<V, Op>(query, rows + row * row_stride, row_stride, dims, ahead, sum);
            V::sum4(sum[0], sum[1], sum[2], sum[3], out + row);
        }
    } else {
        for (; row + 4 <= n; row += 4) {
            typename V::type sum[4];
            for (size_t r = 0; r < 4; ++r)
                sum[r] = sum_long_row<V, Op>(query, rows + (row + r) * row_stride, dims);
            V::sum4(sum[0], sum[1], sum[2], sum[3], out + row);
        }
    }
    for (; row < n; ++row) {
        float four[4];
        const typename V::type sum = sum_long_row<V, Op>(query, rows + row * row_stride, dims);
        V::sum4(sum, sum, sum, sum, four);
        out[row] = four[0];
    }
}

// q.r and r.r in one pass over the row, two chains each: the row is what costs. Returns lanes still
// to be summed.
template <class V>
MRL_INLINE void sum_row_and_square(const float* query, const float* row, size_t dims,
                                   typename V::type* dot, typename V::type* square) {
    typename V::type dot0 = V::zero(), dot1 = V::zero(), square0 = V::zero(), square1 = V::zero();
    size_t i = 0;
    for (; i + 2 * V::lanes <= dims; i += 2 * V::lanes) {
        const typename V::type x0 = V::load(row + i), x1 = V::load(row + i + V::lanes);
        fetch(reinterpret_cast<const char*>(row + i) + kAheadBytes);
        if constexpr (V::lanes > 8)
            fetch(reinterpret_cast<const char*>(row + i) + kAheadBytes + 64);
        dot0 = V::fma(V::load(query + i), x0, dot0);
        square0 = V::fma(x0, x0, square0);
        dot1 = V::fma(V::load(query + i + V::lanes), x1, dot1);
        square1 = V::fma(x1, x1, square1);
    }
    if (i + V::lanes <= dims) {
        const typename V::type x = V::load(row + i);
        dot0 = V::fma(V::load(query + i), x, dot0);
        square0 = V::fma(x, x, square0);
        i += V::lanes;
    }
    if (i < dims) {
        const typename V::type x = V::load_first(row + i, dims - i);
        dot1 = V::fma(V::load_first(query + i, dims - i), x, dot1);
        square1 = V::fma(x, x, square1);
    }
    *dot = V::add(dot0, dot1);
    *square = V::add(square0, square1);
}

// The same for four rows of less than four registers, side by side.
template <class V>
MRL_INLINE void sum_short_rows_and_squares(const float* query, const float* row, size_t row_stride,
                                           size_t dims, size_t ahead, typename V::type* dot,
                                           typename V::type* square) {
    for (size_t r = 0; r < 4; ++r) dot[r] = square[r] = V::zero();
    for (size_t line = 0; line < dims; line += 16) {
        for (size_t r = 0; r < 4; ++r) fetch(row + (r + ahead) * row_stride + line);
    }
    for (size_t i = 0; i < dims; i += V::lanes) {
        const bool whole = i + V::lanes <= dims;
        const typename V::type q = whole ? V::load(query + i) : V::load_first(query + i, dims - i);
        for (size_t r = 0; r < 4; ++r) {
            const float* p = row + r * row_stride + i;
            const typename V::type x = whole ? V::load(p) : V::load_first(p, dims - i);
            dot[r] = V::fma(q, x, dot[r]);
            square[r] = V::fma(x, x, square[r]);
        }
    }
}

// distance = 1 - clamp(dot / (|q| |r|), -1, 1), the clamp as in pgvector's cosine_distance. The two
// norms are rooted apart: their product in float32 would overflow at |q| |r| = 1e19. V::min and
// V::max return their second argument when either is a NaN, so that it stays one.
template <class V>
inline void finish_cosine(float query_square, const float* dots, const float* squares, size_t count,
                          float* out) {
    const typename V::type one = V::broadcast(1.0f), minus_one = V::broadcast(-1.0f);
    const typename V::type query_norm = V::sqrt(V::broadcast(query_square));
    for (size_t i = 0; i < count; i += V::lanes) {
        const size_t here = count - i < V::lanes ? count - i : V::lanes;
        const typename V::type norm = V::mul(query_norm, V::sqrt(V::load_first(squares + i, here)));
        const typename V::type similarity = V::div(V::load_first(dots + i, here), norm);
        V::store_first(out + i, V::sub(one, V::max(minus_one, V::min(one, similarity))), here);
    }
}

template <class V>
void cosine_rows(const float* query, const float* rows, size_t n, size_t row_stride, size_t dims,
                 float* out) {
    constexpr size_t kBlock = 64;
    const size_t ahead = rows_ahead(4 * dims);
    typename V::type dot[4], square[4];
    float query_square[4];
    sum_row_and_square<V>(query, query, dims, &dot[0], &square[0]);
    V::sum4(square[0], square[0], square[0], square[0], query_square);
    for (size_t first = 0; first < n; first += kBlock) {
        const size_t count = n - first < kBlock ? n - first : kBlock;
        float squares[kBlock], dots[kBlock];
        size_t row = 0;
        for (; row + 4 <= count; row += 4) {
            const float* four = rows + (first + row) * row_stride;
            if (dims < 4 * V::lanes) {
                sum_short_rows_and_squares<V>(query, four, row_stride, dims, ahead, dot, square);
            } else {
                for (size_t r = 0; r < 4; ++r)
                    sum_row_and_square<V>(query, four + r * row_stride, dims, &dot[r], &square[r]);
            }
            V::sum4(dot[0], dot[1], dot[2], dot[3], dots + row);
            V::sum4(square[0], square[1], square[2], square[3], squares + row);
        }
        if (row < count) {  // the last few, and the last one again: kBlock is a multiple of four,
                            // so there is room
            for (size_t r = 0; r < 4; ++r) {
                const size_t place = row + r < count ? row + r : count - 1;
                sum_row_and_square<V>(query, rows + (first + place) * row_stride, dims, &dot[r],
                                      &square[r]);
            }
            V::sum4(dot[0], dot[1], dot[2], dot[3], dots + row);
            V::sum4(square[0], square[1], square[2], square[3], squares + row);
        }
        finish_cosine<V>(query_square[0], dots, squares, count, out + first);
    }
}

// The kernels of float32 rows, over the registers V.
template <class V>
void add_float(Kernels& table) {
    table.inner_product = score_rows<V, InnerProduct>;
    table.squared_l2 = score_rows<V, SquaredL2>;
    table.cosine_distance = cosine_rows<V>;
}
}  // namespace
}  // namespace mrl
