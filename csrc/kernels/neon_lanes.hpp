// What the NEON levels share: float lanes, reductions, tails, the lanes of a walk. NEON has no
// masked loads: the last few values of a row are copied. C headers only.
#pragma once

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "code_loops.hpp"
#include "float_loops.hpp"
#include "tile_loops.hpp"
#include "vector_walk.hpp"

namespace mrl {
namespace {

struct F32 {
    using type = float32x4_t;
    static constexpr size_t lanes = 4;
    static inline type zero() { return vdupq_n_f32(0.0f); }
    static inline type broadcast(float x) { return vdupq_n_f32(x); }
    static inline type load(const float* p) { return vld1q_f32(p); }
    static inline type load_first(const float* p, size_t count) {
        float padded[4] = {};
        memcpy(padded, p, count * sizeof(float));
        return load(padded);
    }
    static inline void store_first(float* p, type v, size_t count) {
        float all[4];
        vst1q_f32(all, v);
        memcpy(p, all, count * sizeof(float));
    }
    static inline type fma(type a, type b, type c) { return vfmaq_f32(c, a, b); }
    static inline type add(type a, type b) { return vaddq_f32(a, b); }
    static inline type sub(type a, type b) { return vsubq_f32(a, b); }
    static inline type mul(type a, type b) { return vmulq_f32(a, b); }
    static inline type div(type a, type b) { return vdivq_f32(a, b); }
    static inline type sqrt(type a) { return vsqrtq_f32(a); }
    // A NaN in either stays one.
    static inline type min(type a, type b) { return vminq_f32(a, b); }
    static inline type max(type a, type b) { return vmaxq_f32(a, b); }
    static inline void sum4(type a, type b, type c, type d, float* out) {
        vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
    }
};

struct Sums {
    using type = int32x4_t;
    static inline type add(type a, type b) { return vaddq_s32(a, b); }
    static inline type first_lane(int32_t x) { return vsetq_lane_s32(x, vdupq_n_s32(0), 0); }
    static inline void sum4(type a, type b, type c, type d, int32_t* out) {
        vst1q_s32(out, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
    }
};

struct Bytes : Sums {
    using wide = uint8x16_t;
    static constexpr size_t bytes = 16;
    using tail = size_t;
    static inline tail tail_of(size_t count) { return count; }
    static inline wide load(const uint8_t* p) { return vld1q_u8(p); }
    static inline wide load_first(const uint8_t* p, size_t count) {
        uint8_t padded[16] = {};
        memcpy(padded, p, count);
        return load(padded);
    }
    static inline wide load_tail(const uint8_t* p, tail count) {
        return count == bytes ? load(p) : load_first(p, count);
    }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
};

// Whether factors_j * product_j > bound for one of a group's products.
inline bool any_product_above(const int32_t* products, const float* factors, float bound) {
    float32x4_t most = vdupq_n_f32(-INFINITY);
    for (size_t j = 0; j < kTileGroup; j += 4) {
        const float32x4_t product = vcvtq_f32_s32(vld1q_s32(products + j));
        most = vmaxq_f32(most, vmulq_f32(vld1q_f32(factors + j), product));
    }
    return vmaxvq_f32(most) > bound;
}

// Two bits of each byte of a quarter of a line.
template <int plane>
MRL_INLINE int8x16_t two_bits(uint8x16_t line) {
    if constexpr (plane == 3) {
        return vreinterpretq_s8_u8(vshrq_n_u8(line, 6));
    } else if constexpr (plane == 0) {
        return vreinterpretq_s8_u8(vandq_u8(line, vdupq_n_u8(3)));
    } else {
        return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(line, 2 * plane), vdupq_n_u8(3)));
    }
}

// Lines by D::add_quarter(line, query, sum), which adds the products of the four planes of sixteen
// bytes; D::sum of it has four int32.
template <class D>
struct QuarterLines {
    using query = const int8_t*;
    static inline query load_query(const LineQuery* q) { return q->coordinates; }
    static inline void dot4(query q, const uint8_t* const* lines, int32_t* out) {
        int32x4_t sum[4];
        for (size_t r = 0; r < 4; ++r) {
            typename D::sums partial = D::none();
            for (size_t quarter = 0; quarter < 4; ++quarter) {
                partial =
                    D::add_quarter(vld1q_u8(lines[r] + 16 * quarter), q + 16 * quarter, partial);
            }
            sum[r] = D::lanes(partial);
        }
        Sums::sum4(sum[0], sum[1], sum[2], sum[3], out);
    }
};

}  // namespace
}  // namespace mrl
