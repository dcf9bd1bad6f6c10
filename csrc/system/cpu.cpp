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

enum class Word { basic_ecx, extended_ebx, extended_ecx, more_eax };  // of leaves 1, 7 and 7.1
enum class Saved { any, ymm, zmm };  // registers that the operating system must save for it

struct Feature {
    Features feature;
    const char* name;
    Word word;
    unsigned bit;
    Saved saved;
};

// Bits as in Intel's Software Developer's Manual, volume 2A, CPUID.
constexpr Feature kFeatures[] = {
    {kPopcnt, "popcnt", Word::basic_ecx, 23, Saved::any},
    {kFma, "fma", Word::basic_ecx, 12, Saved::ymm},
    {kF16c, "f16c", Word::basic_ecx, 29, Saved::ymm},
    {kAvx2, "avx2", Word::extended_ebx, 5, Saved::ymm},
    {kAvxVnni, "avx_vnni", Word::more_eax, 4, Saved::ymm},
    {kAvx512f, "avx512f", Word::extended_ebx, 16, Saved::zmm},
    {kAvx512dq, "avx512dq", Word::extended_ebx, 17, Saved::zmm},
    {kAvx512bw, "avx512bw", Word::extended_ebx, 30, Saved::zmm},
    {kAvx512vl, "avx512vl", Word::extended_ebx, 31, Saved::zmm},
    {kAvx512Vnni, "avx512_vnni", Word::extended_ecx, 11, Saved::zmm},
    {kAvx512Vpopcntdq, "avx512_vpopcntdq", Word::extended_ecx, 14, Saved::zmm},
};

Features ask() {
    const Answer basic = cpuid(1, 0), extended = cpuid(7, 0);
    const Answer more = extended.eax >= 1 ? cpuid(7, 1) : Answer{};
    const uint32_t words[] = {basic.ecx, extended.ebx, extended.ecx, more.eax};
    const auto has = [&words](Word word, unsigned bit) {
        return (words[static_cast<int>(word)] >> bit & 1) != 0;
    };
    if (!has(Word::basic_ecx, 27)) return 0;  // OSXSAVE: XGETBV may be asked
    // Bits of XCR0: the same manual, volume 1, section 13.3.
    const uint64_t saved = saved_registers();
    const bool ymm = (saved & 0x06) == 0x06 && has(Word::basic_ecx, 28);  // AVX
    const bool saves[] = {true, ymm, ymm && (saved & 0xe6) == 0xe6};
    Features present = 0;
    for (const Feature& each : kFeatures) {
        if (saves[static_cast<int>(each.saved)] && has(each.word, each.bit))
            present |= each.feature;
    }
    return present;
}

#else

struct Feature {
    Features feature;
    const char* name;
};

#if defined(__aarch64__)
constexpr Feature kFeatures[] = {{kNeon, "asimd"}, {kDotprod, "asimddp"}};

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
constexpr Feature kFeatures[] = {{0, "?"}};

Features ask() { return 0; }
#endif

#endif

}  // namespace

Features features() {
    static const Features here = ask();
    return here;
}

const char* name_of(Features feature) {
    for (const Feature& each : kFeatures) {
        if (each.feature == feature) return each.name;
    }
    return "?";
}

}  // namespace mrl::cpu
