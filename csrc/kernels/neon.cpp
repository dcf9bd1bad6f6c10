// NEON, as every 64-bit ARM has it.
#include "instruction_set.hpp"
#include "neon_lanes.hpp"

namespace mrl {
namespace {

// A product of two int8 fits an int16, also (-128)(-128); neighbours are added into int32.
struct Int8 : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        const int8x16_t a = vreinterpretq_s8_u8(q), b = vreinterpretq_s8_u8(r);
        sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        return vpadalq_s16(sum, vmull_high_s8(a, b));
    }
};

struct BitXor : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        const uint16x8_t pairs = vpaddlq_u8(vcntq_u8(veorq_u8(q, r)));
        return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), pairs));
    }
};

struct BitAnd : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        const uint16x8_t pairs = vpaddlq_u8(vcntq_u8(vandq_u8(q, r)));
        return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), pairs));
    }
};

// A lane of a line's sum has sixteen products of at most 3 * 127: an int16 holds them.
struct LineProducts {
    using sums = int16x8_t;
    static inline sums none() { return vdupq_n_s16(0); }
    template <int plane>
    static MRL_INLINE sums add_plane(uint8x16_t line, const int8_t* q, sums sum) {
        const int8x16_t codes = two_bits<plane>(line), coordinates = vld1q_s8(q + 64 * plane);
        sum = vmlal_s8(sum, vget_low_s8(codes), vget_low_s8(coordinates));
        return vmlal_high_s8(sum, codes, coordinates);
    }
    static MRL_INLINE sums add_quarter(uint8x16_t line, const int8_t* q, sums sum) {
        sum = add_plane<1>(line, q, add_plane<0>(line, q, sum));
        return add_plane<3>(line, q, add_plane<2>(line, q, sum));
    }
    static inline int32x4_t lanes(sums sum) { return vpaddlq_s16(sum); }
};

// Bytes of b are made signed again, so that nothing is owed for them.
struct Tile {
    struct type {
        int32x4_t low, high;  // two rows each, two sums for a row
    };
    static constexpr size_t parts = 4, height = 3, width = 1, alone = 1, chunk = kWidestTile;
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
        return {vpadalq_s16(sum.low, vmull_s8(vget_low_s8(q), vget_low_s8(rows))),
                vpadalq_s16(sum.high, vmull_high_s8(q, rows))};
    }
    static inline type broadcast(int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static inline void store(int32_t* p, const type& sum) {
        vst1q_s32(p, vpaddq_s32(sum.low, sum.high));
    }
    static inline int32_t row_sum(const int8_t*, size_t) { return 0; }
    static inline bool any_above(const int32_t* products, const float* factors, float bound) {
        return any_product_above(products, factors, bound);
    }
};

// The bytes of the lanes whose bit is set, first and in order: of each four bits.
struct PackOrder {
    uint8_t bytes[16][16];
};
constexpr PackOrder make_pack_order() {
    PackOrder order{};
    for (unsigned bits = 0; bits < 16; ++bits) {
        unsigned count = 0;
        for (unsigned lane = 0; lane < 4; ++lane) {
            if ((bits >> lane & 1) == 0) continue;
            for (unsigned byte = 0; byte < 4; ++byte)
                order.bytes[bits][4 * count + byte] = static_cast<uint8_t>(4 * lane + byte);
            ++count;
        }
    }
    return order;
}
alignas(64) constexpr PackOrder kPackOrder = make_pack_order();

// The lanes of vector_walk.hpp.
struct Lanes {
    using floats = float32x4_t;
    using ints = int32x4_t;
    static constexpr size_t lanes = 4;
    static inline floats load(const float* p) { return vld1q_f32(p); }
    static inline ints load(const int32_t* p) { return vld1q_s32(p); }
    static inline ints load(const uint32_t* p) { return vreinterpretq_s32_u32(vld1q_u32(p)); }
    static inline void store(float* p, floats x) { vst1q_f32(p, x); }
    static inline void store(int32_t* p, ints x) { vst1q_s32(p, x); }
    static inline void store(uint32_t* p, ints x) { vst1q_u32(p, vreinterpretq_u32_s32(x)); }
    static inline floats broadcast(float x) { return vdupq_n_f32(x); }
    static inline ints broadcast(int32_t x) { return vdupq_n_s32(x); }
    static inline ints first(size_t count) {
        static const int32_t kWindow[8] = {-1, -1, -1, -1};
        return vld1q_s32(kWindow + 4 - count);
    }
    static inline ints mask(uint32x4_t x) { return vreinterpretq_s32_u32(x); }
    static inline ints less(floats a, floats b) { return mask(vcltq_f32(a, b)); }
    static inline ints less(ints a, ints b) { return mask(vcltq_s32(a, b)); }
    static inline ints less_equal(floats a, floats b) { return mask(vcleq_f32(a, b)); }
    static inline floats min(floats a, floats b) { return vminq_f32(a, b); }
    static inline floats max(floats a, floats b) { return vmaxq_f32(a, b); }
    static inline floats sub(floats a, floats b) { return vsubq_f32(a, b); }
    static inline floats mul(floats a, floats b) { return vmulq_f32(a, b); }
    static inline floats to_floats(ints x) { return vcvtq_f32_s32(x); }
    static inline ints minus(ints a, ints b) { return vsubq_s32(a, b); }
    static inline ints both(ints a, ints b) { return vandq_s32(a, b); }
    static inline floats choose(ints mask, floats a, floats b) {
        return vbslq_f32(vreinterpretq_u32_s32(mask), a, b);
    }
    static inline ints choose(ints mask, ints a, ints b) {
        return vbslq_s32(vreinterpretq_u32_s32(mask), a, b);
    }
    static inline unsigned bits(ints mask) {
        static const uint32_t kBit[4] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vreinterpretq_u32_s32(mask), vld1q_u32(kBit)));
    }
    static inline ints pack(ints x, unsigned bits) {
        const uint8x16_t order = vld1q_u8(kPackOrder.bytes[bits]);
        return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(x), order));
    }
    static inline floats pack(floats x, unsigned bits) {
        return vreinterpretq_f32_s32(pack(vreinterpretq_s32_f32(x), bits));
    }
};

void add(Kernels& table) {
    add_float<F32>(table);
    add_int8<Int8>(table);
    add_bits<BitXor, BitAnd>(table);
    add_tiles<Tile>(table);
    add_lines<QuarterLines<LineProducts>>(table);
    add_walk<Lanes>(table);
}

}  // namespace

extern const InstructionSet scalar_set;
extern constinit const InstructionSet neon_set = {
    .name = "neon",
    .base = &scalar_set,
    .needs = cpu::kNeon,
    .add = add,
};

}  // namespace mrl
