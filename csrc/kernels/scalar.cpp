// The portable twin: plain C++ that builds anywhere. It is what runs when no other instruction set
// may.
#include <math.h>
#include <string.h>

#include "code_loops.hpp"
#include "float_loops.hpp"
#include "instruction_set.hpp"
#include "tile_loops.hpp"
#include "walk_loops.hpp"

namespace mrl {
namespace {

struct F32 {
    using type = float;
    static constexpr size_t lanes = 1;
    static inline type zero() { return 0.0f; }
    static inline type broadcast(float x) { return x; }
    static inline type load(const float* p) { return *p; }
    static inline type load_first(const float* p, size_t) { return *p; }
    static inline void store_first(float* p, type v, size_t) { *p = v; }
    static inline type fma(type a, type b, type c) { return a * b + c; }
    static inline type add(type a, type b) { return a + b; }
    static inline type sub(type a, type b) { return a - b; }
    static inline type mul(type a, type b) { return a * b; }
    static inline type div(type a, type b) { return a / b; }
    static inline type sqrt(type a) { return sqrtf(a); }
    static inline type min(type a, type b) { return a < b ? a : b; }
    static inline type max(type a, type b) { return a > b ? a : b; }
    static inline void sum4(type a, type b, type c, type d, float* out) {
        out[0] = a;
        out[1] = b;
        out[2] = c;
        out[3] = d;
    }
};

inline int32_t popcount64(uint64_t x) {
    x = x - ((x >> 1) & 0x5555555555555555u);
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<int32_t>((x * 0x0101010101010101u) >> 56);
}

struct Sums {
    using type = int32_t;
    using tail = size_t;
    static inline tail tail_of(size_t count) { return count; }
    static inline type first_lane(int32_t x) { return x; }
    static inline type add(type a, type b) { return a + b; }
    static inline void sum4(type a, type b, type c, type d, int32_t* out) {
        out[0] = a;
        out[1] = b;
        out[2] = c;
        out[3] = d;
    }
};

struct Int8 : Sums {
    using wide = int32_t;
    static constexpr size_t bytes = 1;
    static inline wide load(const uint8_t* p) { return static_cast<int8_t>(*p); }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_first(const uint8_t* p, size_t) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t) { return load(p); }
    static inline wide load_tail(const uint8_t* p, tail) { return load(p); }
    static inline type add_step(wide q, wide r, type sum) { return sum + q * r; }
};

struct Word : Sums {
    using wide = uint64_t;
    static constexpr size_t bytes = 8;
    static inline wide load_first(const uint8_t* p, size_t count) {
        wide word = 0;
        memcpy(&word, p, count);
        return word;
    }
    static inline wide load(const uint8_t* p) { return load_first(p, 8); }
    static inline wide load_query(const uint8_t* p) { return load(p); }
    static inline wide load_query_first(const uint8_t* p, size_t count) {
        return load_first(p, count);
    }
    static inline wide load_tail(const uint8_t* p, tail count) { return load_first(p, count); }
};

struct BitXor : Word {
    static inline type add_step(wide q, wide r, type sum) { return sum + popcount64(q ^ r); }
};

struct BitAnd : Word {
    static inline type add_step(wide q, wide r, type sum) { return sum + popcount64(q & r); }
};

struct Lines {
    using query = const int8_t*;
    static inline query load_query(const LineQuery* q) { return q->coordinates; }
    static inline void dot4(query q, const uint8_t* const* lines, int32_t* out) {
        for (size_t r = 0; r < 4; ++r) {
            int32_t sum = 0;
            for (size_t b = 0; b < 60; ++b) {
                const int32_t byte = lines[r][b];
                sum += (byte & 3) * q[b] + (byte >> 2 & 3) * q[64 + b] +
                       (byte >> 4 & 3) * q[128 + b] + (byte >> 6) * q[192 + b];
            }
            out[r] = sum;
        }
    }
};

template <class Score>
size_t select_below(const Score* scores, size_t n, Score threshold, uint32_t* indices) {
    size_t count = 0;
    for (size_t i = 0; i < n; ++i) {
        if (scores[i] < threshold) indices[count++] = static_cast<uint32_t>(i);
    }
    return count;
}

void add(Kernels& table) {
    add_float<F32>(table);
    add_int8<Int8>(table);
    add_bits<BitXor, BitAnd>(table);
    add_lines<Lines>(table);
    table.select_below = select_below<float>;
    table.select_below_int32 = select_below<int32_t>;
    table.rank = rank_plain;
    table.select_products = select_products_plain;
    table.tile_int8 = tile_plain;
    table.tile_int8_above = tile_above<tile_plain>;
    table.quantise_int8 = quantise_int8_plain;
    table.unpack_line = unpack_line_plain;
    table.pool_append = pool_append_plain;
    table.pool_cut = pool_cut<PlainPool>;
    table.pool_best = pool_best_plain;
    table.pool_count = pool_count_plain;
}

}  // namespace

extern constinit const InstructionSet scalar_set = {
    .name = "scalar",
    .base = nullptr,
    .needs = 0,
    .add = add,
};

}  // namespace mrl
