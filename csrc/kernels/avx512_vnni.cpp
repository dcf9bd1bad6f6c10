// AVX-512 with VNNI and VPOPCNTDQ: Ice Lake, Zen 4 and later.
#include "avx512_lanes.hpp"

namespace mrl {
namespace {

// vpdpbusd multiplies unsigned by signed bytes. A row byte r with its top bit flipped is r + 128 as an unsigned byte, and
// sum (r + 128) q = sum r q + 128 sum q: one constant a query, nothing a row.
struct Int8 : Bytes {
    static inline wide flip(wide x) { return _mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(0x80))); }
    static inline wide load(const uint8_t* p) { return flip(Bytes::load(p)); }
    static inline wide load_tail(const uint8_t* p, tail mask) { return flip(Bytes::load_tail(p, mask)); }
    static inline wide load_first(const uint8_t* p, size_t count) { return flip(Bytes::load_first(p, count)); }
    static inline type add_step(wide q, wide r, type sum) { return _mm512_dpbusd_epi32(sum, r, q); }
};

struct BitXor : Bytes {
    static inline type add_step(wide q, wide r, type sum) { return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(q, r))); }
};

struct BitAnd : Bytes {
    static inline type add_step(wide q, wide r, type sum) { return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_and_si512(q, r))); }
};

void inner_product_int8(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride, size_t dims, int32_t* out) {
    int32_t query_sum = 0;
    for (size_t i = 0; i < dims; ++i) query_sum += query[i];
    score_codes<Int8>(reinterpret_cast<const uint8_t*>(query), reinterpret_cast<const uint8_t*>(rows), n, row_stride, dims,
                      -128 * query_sum, out);
}

}  // namespace

const Kernels avx512_vnni_kernels = {
    "avx512_vnni",
    score_rows<F32, InnerProduct>,
    score_rows<F32, SquaredL2>,
    cosine_rows<F32>,
    inner_product_int8,
    score_bits<BitXor>,
    score_planes<BitAnd>,
    select_below,
    select_below_int32,
};

}  // namespace mrl
