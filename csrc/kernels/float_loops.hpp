// The float32 loops, written once over a lane type V (one per instruction set).
//
// V offers: type, lanes, zero, load, load_first(p, count), fma, sub, add, broadcast, sqrt, div, min, max, store_first(p, v, count), and
// sum4(a, b, c, d, out), which reduces four vectors at once: four rows share one tree of shuffles.
//
// Four rows go together because they share the query's loads (one for four rows) and because four sums, each in two halves, are the
// eight independent chains that two 4-cycle FMA pipes need. At the end of a block the last rows go one by one.
//
// C headers only (see kernels.hpp); everything here is a template or lives in an anonymous namespace of the including file.
#pragma once

#include "kernels.hpp"

namespace mrl {
namespace {

constexpr size_t kRowsTogether = 4;
// How far ahead of its reading a row's stream is fetched: measured on Zen 4, benchmarks/bench_kernels.py.
constexpr size_t kPrefetchBytes = 2048;

struct InnerProduct {
    template <class V>
    static inline typename V::type step(typename V::type q, typename V::type r, typename V::type sum) {
        return V::fma(q, r, sum);
    }
};

struct SquaredL2 {
    template <class V>
    static inline typename V::type step(typename V::type q, typename V::type r, typename V::type sum) {
        const typename V::type difference = V::sub(q, r);
        return V::fma(difference, difference, sum);
    }
};

// Adds Rows sums to out[0 .. 3]; rows beyond Rows repeat the last one, so that one reduction serves both shapes.
template <class V, class Op, size_t Rows>
inline void sum_rows(const float* query, const float* row, size_t row_stride, size_t dims, float* out4) {
    typename V::type even[Rows], odd[Rows];
    for (size_t r = 0; r < Rows; ++r) even[r] = odd[r] = V::zero();
    size_t i = 0;
    for (; i + 2 * V::lanes <= dims; i += 2 * V::lanes) {
        const typename V::type q0 = V::load(query + i), q1 = V::load(query + i + V::lanes);
        for (size_t r = 0; r < Rows; ++r) {
            const float* p = row + r * row_stride + i;
            even[r] = Op::template step<V>(q0, V::load(p), even[r]);
            odd[r] = Op::template step<V>(q1, V::load(p + V::lanes), odd[r]);
            V::prefetch(reinterpret_cast<const char*>(p) + kPrefetchBytes);
        }
    }
    if (i + V::lanes <= dims) {
        const typename V::type q0 = V::load(query + i);
        for (size_t r = 0; r < Rows; ++r) even[r] = Op::template step<V>(q0, V::load(row + r * row_stride + i), even[r]);
        i += V::lanes;
    }
    if (i < dims) {
        const typename V::type q0 = V::load_first(query + i, dims - i);
        for (size_t r = 0; r < Rows; ++r) {
            odd[r] = Op::template step<V>(q0, V::load_first(row + r * row_stride + i, dims - i), odd[r]);
        }
    }
    for (size_t r = 0; r < Rows; ++r) even[r] = V::add(even[r], odd[r]);
    V::sum4(even[0], even[Rows > 1 ? 1 : 0], even[Rows > 2 ? 2 : 0], even[Rows > 3 ? 3 : 0], out4);
}

template <class V, class Op>
void score_rows(const float* query, const float* rows, size_t n, size_t row_stride, size_t dims, float* out) {
    size_t row = 0;
    for (; row + kRowsTogether <= n; row += kRowsTogether) {
        sum_rows<V, Op, kRowsTogether>(query, rows + row * row_stride, row_stride, dims, out + row);
    }
    for (; row < n; ++row) {
        float four[4];
        sum_rows<V, Op, 1>(query, rows + row * row_stride, row_stride, dims, four);
        out[row] = four[0];
    }
}

// q.r and r.r in one pass over the row: the row is what costs.
template <class V, size_t Rows>
inline void sum_rows_and_squares(const float* query, const float* row, size_t row_stride, size_t dims, float* dot4, float* square4) {
    typename V::type dot[Rows], square[Rows];
    for (size_t r = 0; r < Rows; ++r) dot[r] = square[r] = V::zero();
    size_t i = 0;
    for (; i + V::lanes <= dims; i += V::lanes) {
        const typename V::type q = V::load(query + i);
        for (size_t r = 0; r < Rows; ++r) {
            const float* p = row + r * row_stride + i;
            const typename V::type x = V::load(p);
            dot[r] = V::fma(q, x, dot[r]);
            square[r] = V::fma(x, x, square[r]);
            V::prefetch(reinterpret_cast<const char*>(p) + kPrefetchBytes);
        }
    }
    if (i < dims) {
        const typename V::type q = V::load_first(query + i, dims - i);
        for (size_t r = 0; r < Rows; ++r) {
            const typename V::type x = V::load_first(row + r * row_stride + i, dims - i);
            dot[r] = V::fma(q, x, dot[r]);
            square[r] = V::fma(x, x, square[r]);
        }
    }
    V::sum4(dot[0], dot[Rows > 1 ? 1 : 0], dot[Rows > 2 ? 2 : 0], dot[Rows > 3 ? 3 : 0], dot4);
    V::sum4(square[0], square[Rows > 1 ? 1 : 0], square[Rows > 2 ? 2 : 0], square[Rows > 3 ? 3 : 0], square4);
}

// distance = 1 - clamp(dot / (|q| |r|), -1, 1), the clamp as in pgvector's cosine_distance. The two norms are rooted apart: their product
// in float32 would overflow at |q| |r| = 1e19. V::min and V::max return their second argument when either is a NaN, so that it stays one.
template <class V>
inline void finish_cosine(float query_square, const float* squares, size_t count, float* dots) {
    const typename V::type one = V::broadcast(1.0f), minus_one = V::broadcast(-1.0f);
    const typename V::type query_norm = V::sqrt(V::broadcast(query_square));
    for (size_t i = 0; i < count; i += V::lanes) {
        const size_t here = count - i < V::lanes ? count - i : V::lanes;
        const typename V::type norm = V::mul(query_norm, V::sqrt(V::load_first(squares + i, here)));
        const typename V::type similarity = V::div(V::load_first(dots + i, here), norm);
        V::store_first(dots + i, V::sub(one, V::max(minus_one, V::min(one, similarity))), here);
    }
}

template <class V>
void cosine_rows(const float* query, const float* rows, size_t n, size_t row_stride, size_t dims, float* out) {
    constexpr size_t kBlock = 64;
    float query_square[4], ignored[4];
    sum_rows_and_squares<V, 1>(query, query, 0, dims, ignored, query_square);
    for (size_t first = 0; first < n; first += kBlock) {
        const size_t count = n - first < kBlock ? n - first : kBlock;
        float squares[kBlock];
        size_t row = 0;
        for (; row + kRowsTogether <= count; row += kRowsTogether) {
            sum_rows_and_squares<V, kRowsTogether>(query, rows + (first + row) * row_stride, row_stride, dims, out + first + row,
                                                   squares + row);
        }
        for (; row < count; ++row) {
            float dot4[4], square4[4];
            sum_rows_and_squares<V, 1>(query, rows + (first + row) * row_stride, 0, dims, dot4, square4);
            out[first + row] = dot4[0];
            squares[row] = square4[0];
        }
        finish_cosine<V>(query_square[0], squares, count, out + first);
    }
}

}  // namespace
}  // namespace mrl
