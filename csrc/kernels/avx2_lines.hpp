// The walk's lines in AVX2: sixteen rows at a time, all of it in registers, as what is stored in
// pieces and loaded whole waits for the stores to end. C headers only.
#pragma once

#include "avx2_lanes.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

// Eight rows of partial sums to eight sums, in the order of rows.
inline __m256i sum_eight(const __m256i* rows) {
    const __m256i abcd =
        _mm256_hadd_epi32(_mm256_hadd_epi32(rows[0], rows[1]), _mm256_hadd_epi32(rows[2], rows[3]));
    const __m256i efgh =
        _mm256_hadd_epi32(_mm256_hadd_epi32(rows[4], rows[5]), _mm256_hadd_epi32(rows[6], rows[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(abcd, efgh, 0x20),
                            _mm256_permute2x128_si256(abcd, efgh, 0x31));
}

// Float16 in the low halves of eight int32.
inline __m256 halves_to_floats(__m256i x) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

// L offers products(query, line): partial sums of two-bit codes with the query's coordinates.
template <class L, bool both>
MRL_INLINE void score_lines_in_registers(const LineQuery* query, const uint8_t* high,
                                         const uint8_t* low, const uint32_t* ids, size_t n,
                                         float* out) {
    const __m256i offset = _mm256_set1_epi32((both ? -15 : -12) * query->sum);
    const __m256 half_scale = _mm256_set1_ps(query->half_scale);
    for (size_t first = 0; first < n; first += 8) {
        const size_t count = n - first < 8 ? n - first : 8;
        __m256i coarse[8], fine[8];
        alignas(32) uint32_t tails[8];
        for (size_t r = 0; r < 8; ++r) {
            const size_t id = ids[first + (r < count ? r : count - 1)];
            const uint8_t* line = high + id * kLineBytes;
            coarse[r] = L::products(query->coordinates, line);
            if (both) line = low + id * kLineBytes;
            if (both) fine[r] = L::products(query->coordinates, line);
            tails[r] = line_tail(line);
        }
        const __m256i tail = _mm256_setr_epi32(
            static_cast<int>(tails[0]), static_cast<int>(tails[1]), static_cast<int>(tails[2]),
            static_cast<int>(tails[3]), static_cast<int>(tails[4]), static_cast<int>(tails[5]),
            static_cast<int>(tails[6]), static_cast<int>(tails[7]));
        __m256i products = _mm256_add_epi32(_mm256_slli_epi32(sum_eight(coarse), 3), offset);
        if (both) products = _mm256_add_epi32(products, _mm256_slli_epi32(sum_eight(fine), 1));
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(products), half_scale);
        const __m256 addend = halves_to_floats(_mm256_and_si256(tail, _mm256_set1_epi32(0xffff)));
        const __m256 factor = halves_to_floats(_mm256_srli_epi32(tail, 16));
        const __m256 score = _mm256_sub_ps(addend, _mm256_mul_ps(scaled, factor));
        if (count == 8) {
            _mm256_storeu_ps(out + first, score);
        } else {
            _mm256_maskstore_ps(out + first, first_lanes(count), score);
        }
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
