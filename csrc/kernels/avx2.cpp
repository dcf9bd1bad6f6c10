// AVX2 with FMA, F16C and POPCNT, as every CPU with AVX2 has them: Haswell, Zen and later.
#include "avx2_lanes.hpp"
#include "avx2_lines.hpp"
#include "instruction_set.hpp"
#include "pair_rows.hpp"
#include "vector_walk.hpp"

namespace mrl {
namespace {

// The lanes whose bit is set, first and in order, for vpermd: of each byte of bits its eight lanes.
struct PackOrder {
    uint8_t lanes[256][8];
};
constexpr PackOrder make_pack_order() {
    PackOrder order{};
    for (unsigned bits = 0; bits < 256; ++bits) {
        unsigned count = 0;
        for (uint8_t lane = 0; lane < 8; ++lane) {
            if ((bits >> lane & 1) != 0) order.lanes[bits][count++] = lane;
        }
    }
    return order;
}
alignas(64) constexpr PackOrder kPackOrder = make_pack_order();

// The lanes of vector_walk.hpp.
struct Lanes {
    using floats = __m256;
    using ints = __m256i;
    static constexpr size_t lanes = 8;
    static inline floats load(const float* p) { return _mm256_loadu_ps(p); }
    static inline ints load(const int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static inline ints load(const uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static inline void store(float* p, floats x) { _mm256_storeu_ps(p, x); }
    static inline void store(int32_t* p, ints x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
    }
    static inline void store(uint32_t* p, ints x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
    }
    static inline floats broadcast(float x) { return _mm256_set1_ps(x); }
    static inline ints broadcast(int32_t x) { return _mm256_set1_epi32(x); }
    static inline ints first(size_t count) { return first_lanes(count); }
    static inline ints less(floats a, floats b) {
        return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
    }
    static inline ints less(ints a, ints b) { return _mm256_cmpgt_epi32(b, a); }
    static inline ints less_equal(floats a, floats b) {
        return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
    }
    static inline floats min(floats a, floats b) { return _mm256_min_ps(a, b); }
    static inline floats max(floats a, floats b) { return _mm256_max_ps(a, b); }
    static inline floats sub(floats a, floats b) { return _mm256_sub_ps(a, b); }
    static inline floats mul(floats a, floats b) { return _mm256_mul_ps(a, b); }
    static inline floats to_floats(ints x) { return _mm256_cvtepi32_ps(x); }
    static inline ints minus(ints a, ints b) { return _mm256_sub_epi32(a, b); }
    static inline ints both(ints a, ints b) { return _mm256_and_si256(a, b); }
    static inline floats choose(ints mask, floats a, floats b) {
        return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask));
    }
    static inline ints choose(ints mask, ints a, ints b) { return _mm256_blendv_epi8(b, a, mask); }
    static inline unsigned bits(ints mask) {
        return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(mask)));
    }
    static inline ints order(unsigned bits) {
        return _mm256_cvtepu8_epi32(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPackOrder.lanes[bits])));
    }
    static inline floats pack(floats x, unsigned bits) {
        return _mm256_permutevar8x32_ps(x, order(bits));
    }
    static inline ints pack(ints x, unsigned bits) {
        return _mm256_permutevar8x32_epi32(x, order(bits));
    }
};

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
    static constexpr size_t parts = 2, height = 4, width = 1, alone = 2, chunk = 1024;
    struct packed {
        type even, odd;
    };
    using Left = PairLeft<Pairs>;
    template <size_t rows>
    using Prepared = PreparedPairs<Pairs, rows>;
    static inline packed pair(const int16_t* p) {
        return {_mm256_set1_epi32(pair_at(p)), _mm256_set1_epi32(pair_at(p + 2))};
    }
    static inline packed load_packed(const uint8_t* p) {
        const type bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(bytes, 8)};
    }
    static inline type add_products(const packed& q, const packed& rows, type sum) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(q.even, rows.even));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(q.odd, rows.odd));
    }
    static inline type broadcast(int32_t x) { return _mm256_set1_epi32(x); }
    static inline void store(int32_t* p, type v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    }
    static inline int32_t row_sum(const int8_t* row, size_t dims) {
        return mrl::row_sum(row, dims);
    }
    static inline bool any_above(const int32_t* products, const float* factors, float bound) {
        return any_product_above(products, factors, bound);
    }
};

void add(Kernels& table) {
    add_float<F32>(table);
    add_int8<Int8>(table);
    add_bits<BitXor, BitAnd>(table);
    add_tiles<Pairs>(table);
    add_lines_in_registers<Lines>(table);
    add_walk<Lanes>(table);
    table.quantise_int8 = quantise_int8_plain;  // in these registers, by the compiler
    table.unpack_line = unpack_line_plain;      // and these
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
