// What VNNI adds to AVX-512: int8 products and lines. Cascade Lake and later.
#include "avx512_lanes.hpp"
#include "avx512_lines.hpp"
#include "instruction_set.hpp"
#include "tile_loops.hpp"

namespace mrl {
namespace {

struct Int8 : Bytes {
    static inline wide flip(wide x) {
        return _mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    static inline wide load(const uint8_t* p) { return flip(Bytes::load(p)); }
    static inline wide load_tail(const uint8_t* p, tail mask) {
        return flip(Bytes::load_tail(p, mask));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return flip(Bytes::load_first(p, count));
    }
    static inline type add_step(wide q, wide r, type sum) { return _mm512_dpbusd_epi32(sum, r, q); }

    static constexpr size_t parts = 1, height = 6, width = 4, alone = 8, chunk = kWidestTile;
    using packed = __m512i;
    using Left = PlainLeft<Int8>;
    template <size_t>
    using Prepared = Left;
    static inline packed load_packed(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static inline packed broadcast4(int32_t four) { return _mm512_set1_epi32(four); }
    static inline type broadcast(int32_t x) { return _mm512_set1_epi32(x); }
    static inline type add_products(packed q, packed rows, type sum) {
        return add_step(q, rows, sum);
    }
    static inline void store(int32_t* p, type v) { _mm512_storeu_si512(p, v); }
    static inline int32_t row_sum(const int8_t* row, size_t dims) {
        const __m512i ones = _mm512_set1_epi8(1);
        __m512i sum = _mm512_setzero_si512();
        size_t d = 0;
        for (; d + 64 <= dims; d += 64)
            sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(row + d));
        if (d < dims) {
            sum = _mm512_dpbusd_epi32(sum, ones,
                                      _mm512_maskz_loadu_epi8(first_bytes(dims - d), row + d));
        }
        return _mm512_reduce_add_epi32(sum);
    }
    static inline bool any_above(const int32_t* products, const float* factors, float bound) {
        return any_product_above(products, factors, bound);
    }
};

struct Lines : WholeLines {
    static inline __m512i products(const query& q, __m512i line) {
        const __m512i three = _mm512_set1_epi8(3);
        __m512i even =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(line, three), q.plane[0]);
        __m512i odd =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                _mm512_and_si512(_mm512_srli_epi16(line, 2), three), q.plane[1]);
        even = _mm512_dpbusd_epi32(even, _mm512_and_si512(_mm512_srli_epi16(line, 4), three),
                                   q.plane[2]);
        odd = _mm512_dpbusd_epi32(odd, _mm512_and_si512(_mm512_srli_epi16(line, 6), three),
                                  q.plane[3]);
        return _mm512_add_epi32(even, odd);
    }
};

void add(Kernels& table) {
    add_int8_unsigned<Int8>(table);
    add_tiles<Int8>(table);
    add_lines_in_registers<Lines>(table);
}

}  // namespace

extern const InstructionSet avx512_set;
extern constinit const InstructionSet avx512_vnni_set = {
    .name = "avx512_vnni",
    .base = &avx512_set,
    .needs = cpu::kAvx512Vnni,
    .add = add,
};

}  // namespace mrl
