// Rows of a tile for sets that multiply pairs of int16 (AVX2 and AVX-512 without VNNI). Of four
// bytes the even ones make a pair and the odd ones another: two multiplications give an int32 a
// row, where bytes widened in their order would give two to be added in the end, and take twice as
// many registers. The bytes of b are unsigned, and a mask and a shift split them; those of a are
// split once for many rows of b.
//
// C headers only.
#pragma once

#include <immintrin.h>

#include "tile_loops.hpp"

namespace mrl {
namespace {

// V offers pair(p): an even pair and an odd one, eight bytes, each repeated.
template <class V>
struct PairLeft {
    const int16_t* pairs;
    size_t stride;
    MRL_INLINE typename V::packed four(size_t i, size_t d) const {
        return V::pair(pairs + i * stride + d);
    }
};

template <class V, size_t height>
struct PreparedPairs {
    alignas(64) int16_t pairs[height * V::chunk];

    inline PairLeft<V> rows(const int8_t* a, size_t a_stride, size_t dims) {
        for (size_t i = 0; i < height; ++i) {
            const int8_t* row = a + i * a_stride;
            int16_t* to = pairs + i * V::chunk;
            size_t d = 0;
            for (; d + 16 <= dims; d += 16) {
                const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d));
                const __m128i even = _mm_srai_epi16(_mm_slli_epi16(bytes, 8), 8),
                              odd = _mm_srai_epi16(bytes, 8);
                auto* out = reinterpret_cast<__m128i*>(to + d);
                _mm_store_si128(out, _mm_unpacklo_epi32(even, odd));
                _mm_store_si128(out + 1, _mm_unpackhi_epi32(even, odd));
            }
            for (; d < dims; d += 4) {
                to[d] = row[d];
                to[d + 1] = row[d + 2];
                to[d + 2] = row[d + 1];
                to[d + 3] = row[d + 3];
            }
        }
        return {pairs, V::chunk};
    }
};

inline int32_t pair_at(const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, 4);
    return pair;
}

}  // namespace
}  // namespace mrl
