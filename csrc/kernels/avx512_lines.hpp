// The walk's lines in AVX-512: sixteen rows at a time. C headers only.
#pragma once

#include "avx512_lanes.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

struct WholeLines {
    struct query {
        __m512i plane[4];
    };
    static inline query load_query(const LineQuery* q) {
        query loaded;
        for (size_t p = 0; p < 4; ++p) loaded.plane[p] = _mm512_load_si512(q->coordinates + 64 * p);
        return loaded;
    }
};

// Four rows of partial sums: the sums of each row's four parts, row after row in every quarter.
inline __m512i sum_quarters(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// The sums of what four times four rows have in their quarters, in the order of rows.
inline __m512i sum_across(const __m512i* quarters) {
    const __m512i low = _mm512_add_epi32(_mm512_shuffle_i32x4(quarters[0], quarters[1], 0x88),
                                         _mm512_shuffle_i32x4(quarters[0], quarters[1], 0xdd));
    const __m512i high = _mm512_add_epi32(_mm512_shuffle_i32x4(quarters[2], quarters[3], 0x88),
                                          _mm512_shuffle_i32x4(quarters[2], quarters[3], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88),
                            _mm512_shuffle_i32x4(low, high, 0xdd));
}

// The last four bytes of four lines.
inline __m128i four_tails(const __m512i* lines) {
    const __m512i ab = _mm512_unpackhi_epi32(lines[0], lines[1]),
                  cd = _mm512_unpackhi_epi32(lines[2], lines[3]);
    return _mm512_extracti32x4_epi32(_mm512_unpackhi_epi64(ab, cd), 3);
}

// Sixteen rows at a time, all of it in registers: what is stored in pieces and loaded whole waits
// for the stores to end. L offers products(query, line), partial sums of two-bit codes with the
// query's coordinates.
template <class L, bool both>
MRL_INLINE void score_lines_in_registers(const LineQuery* query, const uint8_t* high,
                                         const uint8_t* low, const uint32_t* ids, size_t n,
                                         float* out) {
    const typename L::query q = L::load_query(query);
    const __m512i offset = _mm512_set1_epi32((both ? -15 : -12) * query->sum);
    const __m512 half_scale = _mm512_set1_ps(query->half_scale);
    for (size_t first = 0; first < n; first += kLineRows) {
        const size_t count = n - first < kLineRows ? n - first : kLineRows;
        __m512i coarse[4], fine[4], tails = _mm512_setzero_si512();
        for (size_t quarter = 0; quarter < 4; ++quarter) {
            __m512i lines[4], sums[4], low_lines[4], low_sums[4];
            for (size_t i = 0; i < 4; ++i) {
                const size_t r = 4 * quarter + i, id = ids[first + (r < count ? r : count - 1)];
                lines[i] = _mm512_loadu_si512(high + id * kLineBytes);
                sums[i] = L::products(q, lines[i]);
                if (!both) continue;
                low_lines[i] = _mm512_loadu_si512(low + id * kLineBytes);
                low_sums[i] = L::products(q, low_lines[i]);
            }
            coarse[quarter] = sum_quarters(sums[0], sums[1], sums[2], sums[3]);
            if (both)
                fine[quarter] = sum_quarters(low_sums[0], low_sums[1], low_sums[2], low_sums[3]);
            const __m128i four = four_tails(both ? low_lines : lines);
            tails = quarter == 0   ? _mm512_castsi128_si512(four)
                    : quarter == 1 ? _mm512_inserti32x4(tails, four, 1)
                    : quarter == 2 ? _mm512_inserti32x4(tails, four, 2)
                                   : _mm512_inserti32x4(tails, four, 3);
        }
        __m512i products = _mm512_add_epi32(_mm512_slli_epi32(sum_across(coarse), 3), offset);
        if (both) products = _mm512_add_epi32(products, _mm512_slli_epi32(sum_across(fine), 1));
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(products), half_scale);
        const __m512 addend = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(tails));
        const __m512 factor = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(tails, 16)));
        _mm512_mask_storeu_ps(out + first, first_lanes(count),
                              _mm512_sub_ps(addend, _mm512_mul_ps(scaled, factor)));
    }
}

template <class L>
void add_lines_in_registers(Kernels& table) {
    table.score_high = [](const LineQuery* query, const uint8_t* high, const uint32_t* ids,
                          size_t n, float* out) {
        score_lines_in_registers<L, false>(query, high, high, ids, n, out);
    };
    table.score_both = [](const LineQuery* query, const uint8_t* high, const uint8_t* low,
                          const uint32_t* ids, size_t n, float* out) {
        score_lines_in_registers<L, true>(query, high, low, ids, n, out);
    };
}

}  // namespace
}  // namespace mrl
