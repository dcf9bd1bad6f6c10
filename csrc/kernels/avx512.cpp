// AVX-512 F, BW, VL and DQ: Skylake-X and later. Integer work without VNNI and
// VPOPCNTDQ.
#include "avx512_lanes.hpp"
#include "avx512_lines.hpp"
#include "avx512_walk.hpp"
#include "instruction_set.hpp"
#include "pair_rows.hpp"

namespace mrl {
namespace {

struct Int8 : Sums {
    using wide = __m512i;  // thirty-two int16
    static constexpr size_t bytes = 32;
    static inline wide load(const uint8_t* p) {
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    using tail = __mmask32;
    static inline tail tail_of(size_t count) {
        return static_cast<tail>((1ull << count) - 1);
    }  // count <= 32
    static inline wide load_tail(const uint8_t* p, tail mask) {
        return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, p));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return load_tail(p, tail_of(count));
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi32(sum, _mm512_madd_epi16(q, r));
    }
};

// Popcount by table look-up, as in avx2.cpp.
inline __m512i popcount(__m512i x) {
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(x, nibble));
    const __m512i high =
        _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));
    return _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512());
}

struct BitXor : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi32(sum, popcount(_mm512_xor_si512(q, r)));
    }
};

struct BitAnd : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi32(sum, popcount(_mm512_and_si512(q, r)));
    }
};

// As in avx2.cpp: at most 4 * 2 * 3 * 127 in an int16.
struct Lines : WholeLines {
    static inline __m512i products(const query& q, __m512i line) {
        const __m512i three = _mm512_set1_epi8(3);
        const __m512i p0 = _mm512_maddubs_epi16(_mm512_and_si512(line, three), q.plane[0]);
        const __m512i p1 =
            _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(line, 2), three), q.plane[1]);
        const __m512i p2 =
            _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(line, 4), three), q.plane[2]);
        const __m512i p3 =
            _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(line, 6), three), q.plane[3]);
        const __m512i planes = _mm512_add_epi16(_mm512_add_epi16(p0, p1), _mm512_add_epi16(p2, p3));
        return _mm512_madd_epi16(planes, _mm512_set1_epi16(1));
    }
};

struct Pairs {
    using type = __m512i;
    static constexpr size_t parts = 1, height = 6, width = 2, alone = 4, chunk = 1024;
    struct packed {
        type even, odd;
    };
    using Left = PairLeft<Pairs>;
    template <size_t rows>
    using Prepared = PreparedPairs<Pairs, rows>;
    static inline packed pair(const int16_t* p) {
        return {_mm512_set1_epi32(pair_at(p)), _mm512_set1_epi32(pair_at(p + 2))};
    }
    static inline packed load_packed(const uint8_t* p) {
        const type bytes = _mm512_loadu_si512(p);
        return {_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(bytes, 8)};
    }
    static inline type add_products(const packed& q, const packed& rows, type sum) {
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(q.even, rows.even));
        return _mm512_add_epi32(sum, _mm512_madd_epi16(q.odd, rows.odd));
    }
    static inline type broadcast(int32_t x) { return _mm512_set1_epi32(x); }
    static inline void store(int32_t* p, type v) { _mm512_storeu_si512(p, v); }
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
    table.select_below = select_below;
    table.select_below_int32 = select_below_int32;
    table.rank = rank;
    table.select_products = select_products;
    table.quantise_int8 = quantise_int8_plain;  // in these registers, by the compiler
    table.unpack_line = unpack_line_plain;      // and these
    table.pool_append = pool_append;
    table.pool_cut = pool_cut<WholeRegisters>;
    table.pool_best = pool_best;
    table.pool_count = pool_count;
}

}  // namespace

extern const InstructionSet avx2_set;
extern constinit const InstructionSet avx512_set = {
    .name = "avx512",
    .base = &avx2_set,
    .needs = cpu::kAvx512f | cpu::kAvx512bw | cpu::kAvx512vl | cpu::kAvx512dq,
    .add = add,
};

}  // namespace mrl
