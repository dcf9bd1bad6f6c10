// What SDOT adds to NEON: int8 products and lines. Graviton 2, Ampere, Apple's and later.
#include "instruction_set.hpp"
#include "neon_lanes.hpp"

namespace mrl {
namespace {

struct Int8 : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return vdotq_s32(sum, vreinterpretq_s8_u8(q), vreinterpretq_s8_u8(r));
    }
};

struct LineProducts {
    using sums = int32x4_t;
    static inline sums none() { return vdupq_n_s32(0); }
    static MRL_INLINE sums add_quarter(uint8x16_t line, const int8_t* q, sums sum) {
        sum = vdotq_s32(sum, two_bits<0>(line), vld1q_s8(q));
        sum = vdotq_s32(sum, two_bits<1>(line), vld1q_s8(q + 64));
        sum = vdotq_s32(sum, two_bits<2>(line), vld1q_s8(q + 128));
        return vdotq_s32(sum, two_bits<3>(line), vld1q_s8(q + 192));
    }
    static inline int32x4_t lanes(sums sum) { return sum; }
};

// Bytes of b are made signed again, so that nothing is owed for them.
struct Tile {
    using type = int32x4_t;
    static constexpr size_t parts = 4, height = 6, width = 1, alone = 2, chunk = kWidestTile;
    using packed = int8x16_t;
    using Left = PlainLeft<Tile>;
    template <size_t>
    using Prepared = Left;
    static inline packed load_packed(const uint8_t* p) {
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(0x80)));
    }
    static inline packed broadcast4(int32_t four) {
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    static inline type add_products(packed q, packed rows, type sum) {
        return vdotq_s32(sum, q, rows);
    }
    static inline type broadcast(int32_t) { return vdupq_n_s32(0); }
    static inline void store(int32_t* p, type sum) { vst1q_s32(p, sum); }
    static inline int32_t row_sum(const int8_t*, size_t) { return 0; }
    static inline bool any_above(const int32_t* products, const float* factors, float bound) {
        return any_product_above(products, factors, bound);
    }
};

void add(Kernels& table) {
    add_int8<Int8>(table);
    add_tiles<Tile>(table);
    add_lines<QuarterLines<LineProducts>>(table);
}

}  // namespace

extern const InstructionSet neon_set;
extern constinit const InstructionSet neon_dotprod_set = {
    .name = "neon_dotprod",
    .base = &neon_set,
    .needs = cpu::kDotprod,
    .add = add,
};

}  // namespace mrl
