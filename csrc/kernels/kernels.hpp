// The kernel contract: what one core does to a block of memory.
//
// Every instruction set fills one `Kernels` table (instruction_set.hpp); dispatch.hpp chooses one
// at run time. The rules that hold for all of them:
//
// - One query against n rows. Row i starts at `rows + i * row_stride`; strides count elements
// (float) or bytes (codes) and may exceed
//   the width, so a kernel reads the prefix of a longer row in place. Any alignment is right; rows
//   that start on a 64-byte line are faster.
// - No byte outside [row, row + width) is ever read: the last row may end at an unreadable page.
// - n = 0 writes nothing; dims = 0 gives inner product 0, squared L2 0 and a NaN cosine distance.
// - Integer kernels return the same bits on every instruction set. Float kernels sum in an order of
// their own, and stay within
//   gamma(dims) * sum |q_j r_j| of the exact value (Higham, Accuracy and Stability of Numerical
//   Algorithms, section 3.1).
// - Nothing is allocated, thrown or printed. The same input on the same instruction set gives the
// same bits.
//
// Only C headers here: the files compiled for one instruction set include this one, and an inline
// function of a C++ header that they compiled could be picked by the linker for every CPU.
#pragma once

#include <stddef.h>
#include <stdint.h>

// A loop over a few rows is inlined into the loop over all of them: a call for every four short
// rows costs as much as the rows.
#define MRL_INLINE inline __attribute__((always_inline))

namespace mrl {

using FloatRows = void (*)(const float* query, const float* rows, size_t n, size_t row_stride,
                           size_t dims, float* out);

// Rows of int4 codes in two planes of two bits: a row has a line of 64 bytes for the high bits of
// its 240 coordinates and one for the low bits (csrc/store/line_codes.hpp). Byte b of a line, b <
// 60, holds coordinates b, 60 + b, 120 + b and 180 + b, from the lowest two bits up; then come two
// float16: the addend and the factor of the row's score.
constexpr size_t kLineBytes = 64;
constexpr size_t kLineCoordinates = 240;

// A query against them. Coordinate 60 p + b stands at 64 p + b; the four places that follow each
// sixty are zero.
struct LineQuery {
    alignas(64) int8_t coordinates[256];
    int32_t sum;       // of the coordinates
    float half_scale;  // half of what one unit of the integer product is worth
};

// The candidates of a graph's walk: three arrays aligned to 64 bytes, with room for `size` + what
// is appended + 16. A candidate's `open` is its key until it is popped, and +inf from then on. A
// key of +inf, never NaN, is a candidate that is not to be one: it is never popped, and a cut drops
// it.
struct Pool {
    float* key;
    float* open;
    uint32_t* id;
    size_t size;
    float threshold;  // what is appended has a smaller key; +inf until the pool was cut
};

// Rows of b whose products with a row of a are written together (Kernels::tile_int8_above).
constexpr size_t kTileGroup = 64;

constexpr size_t kPoolLanes = 16;
// How many more than wanted a cut may leave.
constexpr size_t kPoolTies = 16;

struct Kernels {
    const char* name;

    FloatRows inner_product;    // sum q_j r_j
    FloatRows squared_l2;       // sum (q_j - r_j)^2
    FloatRows cosine_distance;  // 1 - q.r / (|q| |r|) over these dims only, within [0, 2]; NaN when
                                // q or r is zero there

    // Sum q_j r_j of int8 codes; exact in int32 for dims up to 65,536 (255 * 128 * dims < 2^31).
    void (*inner_product_int8)(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride,
                               size_t dims, int32_t* out);

    // Number of differing bits.
    void (*hamming)(const uint8_t* query, const uint8_t* rows, size_t n, size_t row_stride,
                    size_t bytes, int32_t* out);

    // Sum over planes p of 2^p popcount(query_p AND row): the inner product of bit codes in {0, 1}
    // with a query quantised to `planes` bits (RaBitQ, arXiv:2405.12497, section 3.3). Plane p is
    // query[p * bytes .. (p + 1) * bytes), the least significant first; 1 to 8.
    void (*inner_product_bit)(const uint8_t* query, size_t planes, const uint8_t* rows, size_t n,
                              size_t row_stride, size_t bytes, int32_t* out);

    // Writes the indices of the scores below the threshold, rising, and returns how many; a NaN is
    // never below.
    size_t (*select_below)(const float* scores, size_t n, float threshold, uint32_t* indices);
    size_t (*select_below_int32)(const int32_t* scores, size_t n, int32_t threshold,
                                 uint32_t* indices);

    // ranks_i = how many of the n scores are below scores_i.
    void (*rank)(const float* scores, size_t n, uint16_t* ranks);

    // The indices, rising, of the scores addend_i - scale * factor_i * product_i below the
    // threshold, and those scores; addends may be null. Returns how many. One rounding for each
    // operation, in this order.
    size_t (*select_products)(const int32_t* products, const float* factors, const float* addends,
                              size_t n, float scale, float threshold, float* scores,
                              uint32_t* indices);

    // The same sum as inner_product_int8 for the rows ids[0], ids[1], …, in any order.
    void (*inner_product_int8_at)(const int8_t* query, const int8_t* rows, const uint32_t* ids,
                                  size_t n, size_t row_stride, size_t dims, int32_t* out);

    // out[i * out_stride + j] = sum a_i b_j of int8 codes, for n_a rows of a and 16 * n_blocks rows
    // of b. b is packed: block t holds rows 16 t … 16 t + 15, each byte + 128, four dims of each
    // row side by side ([dims / 4][16][4]). dims is a multiple of 4, at most 65,536.
    void (*tile_int8)(const int8_t* a, size_t n_a, size_t a_stride, const uint8_t* b,
                      size_t n_blocks, size_t dims, int32_t* out, size_t out_stride);

    // The same products, where they matter: those of row i of a with a group of kTileGroup rows of
    // b (the last one may be smaller) are written, and bit g of written_i is set, when factors_j *
    // product_ij > bounds_i for one of them; else they may be left out. offsets_i is -128 * sum
    // a_i. There are 16 * n_blocks factors, and at most 32 groups.
    void (*tile_int8_above)(const int8_t* a, const int32_t* offsets, size_t n_a, size_t a_stride,
                            const uint8_t* b, size_t n_blocks, size_t dims, const float* factors,
                            const float* bounds, int32_t* out, size_t out_stride,
                            uint32_t* written);

    // codes_j = values_j * 127 / max |values|, to nearest even; returns max / 127, or 0 when all
    // values are zero. Finite values only.
    float (*quantise_int8)(const float* values, size_t n, int8_t* codes);

    // Scores of the rows ids[0], … by their high bits: addend - factor * half_scale * (8 sum q_j
    // high_j - 12 sum q_j); smaller is nearer.
    void (*score_high)(const LineQuery* query, const uint8_t* high, const uint32_t* ids, size_t n,
                       float* out);

    // … and by both planes, with the low line's addend and factor: 8 sum q_j high_j + 2 sum q_j
    // low_j - 15 sum q_j.
    void (*score_both)(const LineQuery* query, const uint8_t* high, const uint8_t* low,
                       const uint32_t* ids, size_t n, float* out);

    // The coordinates of a row, 2 code - 15, placed as in LineQuery; 256 bytes.
    void (*unpack_line)(const uint8_t* high, const uint8_t* low, int8_t* coordinates);

    // Appends the rows whose score is below the pool's threshold, in order; n <= 4,096. Returns how
    // many.
    size_t (*pool_append)(Pool* pool, const float* scores, const uint32_t* ids, size_t n);

    // Where there are more than `keep` candidates: lowers the threshold so that about as many are
    // below it, never fewer, and drops the others; at most keep + kPoolTies stay. When fewer have a
    // key below +inf these stay, and so does the threshold.
    void (*pool_cut)(Pool* pool, size_t keep);

    // Writes the positions of the best open candidates, best first, at most `want` <= 16, one for
    // each lane (position modulo 16) and so not always the very best; ties go to the smaller lane,
    // within a lane to the smaller position. Returns how many.
    size_t (*pool_best)(const Pool* pool, size_t want, uint32_t* positions);

    // How many candidates, popped ones included, have a key below the limit.
    size_t (*pool_count)(const Pool* pool, float limit);
};

}  // namespace mrl
