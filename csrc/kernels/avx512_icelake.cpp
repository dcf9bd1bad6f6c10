// What VPOPCNTDQ adds to AVX-512 with VNNI: bits. Ice Lake, Zen 4 and later.
#include "avx512_lanes.hpp"
#include "instruction_set.hpp"

namespace mrl {
namespace {

struct BitXor : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(q, r)));
    }
};

struct BitAnd : Bytes {
    static inline type add_step(wide q, wide r, type sum) {
        return _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_and_si512(q, r)));
    }
};

void add(Kernels& table) { add_bits<BitXor, BitAnd>(table); }

}  // namespace

extern const InstructionSet avx512_vnni_set;
extern constinit const InstructionSet avx512_icelake_set = {
    .name = "avx512_icelake",
    .base = &avx512_vnni_set,
    .needs = cpu::kAvx512Vpopcntdq,
    .add = add,
};

}  // namespace mrl
