// What AVX-VNNI adds to AVX2: int8 products and lines. Alder Lake, Zen 5 and later, and small cores
// without AVX-512.
#include "avx2_lanes.hpp"
#include "avx2_lines.hpp"
#include "instruction_set.hpp"
#include "tile_loops.hpp"

namespace mrl {
namespace {

struct Int8 : Bytes {
    static inline wide flip(wide x) {
        return _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(0x80)));
    }
    static inline wide load(const uint8_t* p) { return flip(Bytes::load(p)); }
    static inline wide load_tail(const uint8_t* p, const tail& t) {
        return flip(Bytes::load_tail(p, t));
    }
    static inline wide load_first(const uint8_t* p, size_t count) {
        return flip(Bytes::load_first(p, count));
    }
    static inline type add_step(wide q, wide r, type sum) {
        return _mm256_dpbusd_avx_epi32(sum, r, q);
    }

    static constexpr size_t parts = 2, height = 6, width = 1, alone = 4, chunk = kWidestTile;
    using packed = __m256i;
    using Left = PlainLeft<Int8>;
    template <size_t>
    using Prepared = Left;
    static inline packed load_packed(const uint8_t* p) { return Bytes::load(p); }
    static inline packed broadcast4(int32_t four) { return _mm256_set1_epi32(four); }
    static inline type broadcast(int32_t x) { return _mm256_set1_epi32(x); }
    static inline type add_products(packed q, packed rows, type sum) {
        return add_step(q, rows, sum);
    }
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

struct Lines {
    static inline __m256i products(const int8_t* query, const uint8_t* line) {
        const __m256i three = _mm256_set1_epi8(3);
        const auto* q = reinterpret_cast<const __m256i*>(query);
        __m256i sum[2];
        for (int half = 0; half < 2; ++half) {
            const __m256i codes = Bytes::load(line + 32 * half);
            sum[half] = _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(),
                                                _mm256_and_si256(codes, three), q[half]);
            for (int plane = 1; plane < 4; ++plane) {
                const __m256i shifted = _mm256_srli_epi16(codes, 2 * plane);
                sum[half] = _mm256_dpbusd_avx_epi32(sum[half], _mm256_and_si256(shifted, three),
                                                    q[2 * plane + half]);
            }
        }
        return _mm256_add_epi32(sum[0], sum[1]);
    }
};

void add(Kernels& table) {
    add_int8_unsigned<Int8>(table);
    add_tiles<Int8>(table);
    add_lines_in_registers<Lines>(table);
}

}  // namespace

extern const InstructionSet avx2_set;
extern constinit const InstructionSet avx2_vnni_set = {
    .name = "avx2_vnni",
    .base = &avx2_set,
    .needs = cpu::kAvxVnni,
    .add = add,
};

}  // namespace mrl
