// The kernel contract: what one core does to a block of memory.
//
// Every instruction set provides one `Kernels` table; dispatch.hpp chooses one at run time. The rules that hold for all of them:
//
// - One query against n rows. Row i starts at `rows + i * row_stride`; strides count elements (float) or bytes (codes) and may exceed
//   the width, so a kernel reads the prefix of a longer row in place. Any alignment is right; rows that start on a 64-byte line are faster.
// - No byte outside [row, row + width) is ever read: the last row may end at an unreadable page.
// - n = 0 writes nothing; dims = 0 gives inner product 0, squared L2 0 and a NaN cosine distance.
// - Integer kernels return the same bits on every instruction set. Float kernels sum in an order of their own, and stay within
//   gamma(dims) * sum |q_j r_j| of the exact value (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
// - Nothing is allocated, thrown or printed. The same input on the same instruction set gives the same bits.
//
// Only C headers here: the files compiled for one instruction set include this one, and an inline function of a C++ header that they
// compiled could be picked by the linker for every CPU.
#pragma once

#include <stddef.h>
#include <stdint.h>

// A loop over a few rows is inlined into the loop over all of them: a call for every four short rows costs as much as the rows.
#define MRL_INLINE inline __attribute__((always_inline))

namespace mrl {

using FloatRows = void (*)(const float* query, const float* rows, size_t n, size_t row_stride, size_t dims, float* out);

struct Kernels {
    const char* name;

    FloatRows inner_product;    // sum q_j r_j
    FloatRows squared_l2;       // sum (q_j - r_j)^2
    FloatRows cosine_distance;  // 1 - q.r / (|q| |r|) over these dims only, within [0, 2]; NaN when q or r is zero there

    // Sum q_j r_j of int8 codes; exact in int32 for dims up to 65,536 (255 * 128 * dims < 2^31).
    void (*inner_product_int8)(const int8_t* query, const int8_t* rows, size_t n, size_t row_stride, size_t dims, int32_t* out);

    // Number of differing bits.
    void (*hamming)(const uint8_t* query, const uint8_t* rows, size_t n, size_t row_stride, size_t bytes, int32_t* out);

    // Sum over planes p of 2^p popcount(query_p AND row): the inner product of bit codes in {0, 1} with a query quantised to `planes`
    // bits (RaBitQ, arXiv:2405.12497, section 3.3). Plane p is query[p * bytes .. (p + 1) * bytes), the least significant first; 1 to 8.
    void (*inner_product_bit)(const uint8_t* query, size_t planes, const uint8_t* rows, size_t n, size_t row_stride, size_t bytes,
                              int32_t* out);

    // Writes the indices of the scores below the threshold, rising, and returns how many; a NaN is never below.
    size_t (*select_below)(const float* scores, size_t n, float threshold, uint32_t* indices);
    size_t (*select_below_int32)(const int32_t* scores, size_t n, int32_t threshold, uint32_t* indices);
};

extern const Kernels scalar_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_vnni_kernels;
#endif

}  // namespace mrl
