// What this CPU can do and its operating system lets it do, asked of the two directly.
// `__builtin_cpu_supports` is no help: with some compilers' runtimes it always answers no, and a
// build would run the portable kernels in silence.
//
// C headers only: files that are compiled for one instruction set include this one.
#pragma once

#include <stdint.h>

namespace mrl::cpu {

// One bit each, so that a number says all that an instruction set needs.
using Features = uint32_t;
constexpr Features kAvx2 = 1u << 0;
constexpr Features kFma = 1u << 1;
constexpr Features kF16c = 1u << 2;
constexpr Features kPopcnt = 1u << 3;
constexpr Features kAvxVnni = 1u << 4;
constexpr Features kAvx512f = 1u << 5;
constexpr Features kAvx512bw = 1u << 6;
constexpr Features kAvx512vl = 1u << 7;
constexpr Features kAvx512dq = 1u << 8;
constexpr Features kAvx512Vnni = 1u << 9;
constexpr Features kAvx512Vpopcntdq = 1u << 10;
constexpr Features kNeon = 1u << 11;
constexpr Features kDotprod = 1u << 12;

// Those that are here. Registers that the operating system does not save do not count.
Features features();

// How Linux calls a single one of them (the flags of /proc/cpuinfo).
const char* name_of(Features feature);

// Between two looks at what another core will change.
inline void pause_core() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace mrl::cpu
