// AVX2 with FMA, F16C and POPCNT, as every CPU with AVX2 has them: Haswell, Zen and later.
#include "avx2_lanes.hpp"
#include "avx2_lines.hpp"
#include "instruction_set.hpp"
#include "tile_loops.hpp"

namespace mrl {
namespace {

// int8 widened to int16, then vpmaddwd: vpmaddubsw would be one step shorter, and saturates at the
// extremes.
struct Int8 : Sums {
    using wide = __m256i;  // sixteen int16
    static constexpr size_t bytes = 16;
    static inline wide load(const uint8_t* p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    struct tail : Tail {
        bool full;
    };
    static inline tail tail_of(size_t count) {  // count <= bytes
        return {mrl::tail_of(count < bytes ? count : 0), count == bytes};
    }
    static inline wide load_tail(const uint8_t* p, const tail& t) {
        return t.full ? load(p) : _mm256_cvtepi8_epi16(load_half_tail(p, t));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return load_tail(p, tail_of(count));
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(q, r));
    }
};

// Popcount by two table look-ups of a nibble (Mula, Kurz, Lemire, arXiv:1611.07612), summed to
// 64-bit lanes at once: no overflow.
struct Bits : Bytes {
    static inline type popcount(type x) {
        const type table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                            2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const type nibble = _mm256_set1_epi8(15);
        const type low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
        const type high =
            _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
        return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
    }
};

struct BitXor : Bits {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, popcount(_mm256_xor_si256(q, r)));
    }
};

struct BitAnd : Bits {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_add_epi32(sum, popcount(_mm256_and_si256(q, r)));
    }
};

// Few scores pass once the threshold is set, so the rare set bits are walked one by one.
inline size_t write_indices(unsigned mask, size_t first, uint32_t* indices) {
    size_t count = 0;
    for (; mask != 0; mask &= mask - 1)
        indices[count++] =
            static_cast<uint32_t>(first) + static_cast<uint32_t>(__builtin_ctz(mask));
    return count;
}

size_t select_below(const float* scores, size_t n, float threshold, uint32_t* indices) {
    size_t count = 0, i = 0;
    const __m256 limit = _mm256_set1_ps(threshold);
    for (; i + 8 <= n; i += 8) {
        const int mask =
            _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores + i), limit, _CMP_LT_OQ));
        count += write_indices(static_cast<unsigned>(mask), i, indices + count);
    }
    for (; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

size_t select_below_int32(const int32_t* scores, size_t n, int32_t threshold, uint32_t* indices) {
    size_t count = 0, i = 0;
    const __m256i limit = _mm256_set1_epi32(threshold);
    for (; i + 8 <= n; i += 8) {
        const __m256i below = _mm256_cmpgt_epi32(
            limit, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + i)));
        count +=
            write_indices(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(below))), i,
                          indices + count);
    }
    for (; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

// vpmaddubsw: two-bit codes times int8, four planes of two halves: at most 8 * 2 * 3 * 127 in an
// int16, no saturation. The query stays in memory: it is eight registers of sixteen.
struct Lines {
    static inline __m256i products(const int8_t* query, const uint8_t* line) {
        const __m256i three = _mm256_set1_epi8(3);
        const auto* q = reinterpret_cast<const __m256i*>(query);
        __m256i sum[2];
        for (int half = 0; half < 2; ++half) {
            const __m256i codes =
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 32 * half));
            const __m256i p0 = _mm256_maddubs_epi16(_mm256_and_si256(codes, three), q[half]);
            const __m256i p1 = _mm256_maddubs_epi16(
                _mm256_and_si256(_mm256_srli_epi16(codes, 2), three), q[2 + half]);
            const __m256i p2 = _mm256_maddubs_epi16(
                _mm256_and_si256(_mm256_srli_epi16(codes, 4), three), q[4 + half]);
            const __m256i p3 = _mm256_maddubs_epi16(
                _mm256_and_si256(_mm256_srli_epi16(codes, 6), three), q[6 + half]);
            sum[half] = _mm256_add_epi16(_mm256_add_epi16(p0, p1), _mm256_add_epi16(p2, p3));
        }
        return _mm256_madd_epi16(_mm256_add_epi16(sum[0], sum[1]), _mm256_set1_epi16(1));
    }
};

struct Pairs {
    using type = __m256i;
    static constexpr size_t rows = 4;
    static inline type zero() { return _mm256_setzero_si256(); }
    static inline type load_rows(const uint8_t* p) {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static inline type broadcast4(const int8_t* p) {
        int32_t four;
        memcpy(&four, p, 4);
        return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
    }
    static inline type add_madd(type x, type y, type sum) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
    }
    static inline void store_pairs(type sum, int32_t* out) {
        const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum, sum), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(pairs));
    }
};

void add(Kernels& table) {
    table.inner_product = score_rows<F32, InnerProduct>;
    table.squared_l2 = score_rows<F32, SquaredL2>;
    table.cosine_distance = cosine_rows<F32>;
    table.inner_product_int8 = score_int8<Int8>;
    table.hamming = score_bits<BitXor>;
    table.inner_product_bit = score_planes<BitAnd>;
    table.select_below = select_below;
    table.select_below_int32 = select_below_int32;
    table.rank = rank_plain;
    table.select_products = select_products_plain;
    table.inner_product_int8_at = score_int8_at<Int8>;
    table.tile_int8 = tile_pairs<Pairs>;
    table.tile_int8_above = tile_above<tile_pairs<Pairs>>;
    table.quantise_int8 = quantise_int8_plain;
    table.score_high = score_high_in_registers<Lines>;
    table.score_both = score_both_in_registers<Lines>;
    table.pool_append = pool_append_plain;
    table.pool_cut = pool_cut<PlainPool>;
    table.pool_best = pool_best_plain;
    table.pool_count = pool_count_plain;
}

}  // namespace

extern const InstructionSet scalar_set;
extern constinit const InstructionSet avx2_set = {
    .name = "avx2",
    .base = &scalar_set,
    .needs = cpu::kAvx2 | cpu::kFma | cpu::kF16c | cpu::kPopcnt,
    .add = add,
};

}  // namespace mrl
