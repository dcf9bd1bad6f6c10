#include "cpu.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mrl::cpu {
namespace {

#if defined(__x86_64__)

struct Answer {
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;  // all zero where there is no such leaf
};

Answer cpuid(uint32_t leaf, uint32_t subleaf) {
    Answer answer;
    if (__get_cpuid_count(leaf, subleaf, &answer.eax, &answer.ebx, &answer.ecx, &answer.edx) == 0)
        return {};
    return answer;
}

// Which registers the operating system saves (XCR0). The instruction's bytes: its name needs a
// compiler's flag.
uint64_t saved_registers() {
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
}

// Bits as in Intel's Software Developer's Manual, volume 2A, CPUID, and volume 1, section 13.3.
Features ask() {
    const Answer basic = cpuid(1, 0), extended = cpuid(7, 0);
    const Answer more = extended.eax >= 1 ? cpuid(7, 1) : Answer{};
    const auto bit = [](uint32_t word, unsigned at) { return (word >> at & 1) != 0; };
    if (!bit(basic.ecx, 27)) return 0;  // OSXSAVE: XGETBV may be asked
    const uint64_t saved = saved_registers();
    const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
    Features present = 0;
    const auto add = [&present](Features feature, bool there) { present |= there ? feature : 0; };
    add(kPopcnt, bit(basic.ecx, 23));
    add(kFma, ymm && bit(basic.ecx, 12));
    add(kF16c, ymm && bit(basic.ecx, 29));
    add(kAvx2, ymm && bit(basic.ecx, 28) && bit(extended.ebx, 5));
    add(kAvxVnni, ymm && bit(more.eax, 4));
    add(kAvx512f, zmm && bit(extended.ebx, 16));
    add(kAvx512dq, zmm && bit(extended.ebx, 17));
    add(kAvx512bw, zmm && bit(extended.ebx, 30));
    add(kAvx512vl, zmm && bit(extended.ebx, 31));
    add(kAvx512Vnni, zmm && bit(extended.ecx, 11));
    add(kAvx512Vpopcntdq, zmm && bit(extended.ecx, 14));
    return present;
}

#elif defined(__aarch64__)

// NEON belongs to the architecture; the rest is optional.
Features ask() {
    bool dotprod = false;
#if defined(__APPLE__)
    int there = 0;
    size_t size = sizeof there;
    dotprod = sysctlbyname("hw.optional.arm.FEAT_DotProd", &there, &size, nullptr, 0) == 0 && there;
#elif defined(__linux__)
    constexpr unsigned long kAsimddp = 1ul << 20;  // HWCAP_ASIMDDP of Linux's asm/hwcap.h
    dotprod = (getauxval(AT_HWCAP) & kAsimddp) != 0;
#endif
    return kNeon | (dotprod ? kDotprod : 0);
}

#else

Features ask() { return 0; }

#endif

}  // namespace

Features features() {
    static const Features here = ask();
    return here;
}

const char* name_of(Features feature) {
    switch (feature) {
        case kAvx2:
            return "avx2";
        case kFma:
            return "fma";
        case kF16c:
            return "f16c";
        case kPopcnt:
            return "popcnt";
        case kAvxVnni:
            return "avx_vnni";
        case kAvx512f:
            return "avx512f";
        case kAvx512bw:
            return "avx512bw";
        case kAvx512vl:
            return "avx512vl";
        case kAvx512dq:
            return "avx512dq";
        case kAvx512Vnni:
            return "avx512_vnni";
        case kAvx512Vpopcntdq:
            return "avx512_vpopcntdq";
        case kNeon:
            return "asimd";
        case kDotprod:
            return "asimddp";
        default:
            return "?";
    }
}

}  // namespace mrl::cpu
