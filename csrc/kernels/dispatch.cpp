#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace mrl {
namespace {

struct Offer {
    const Kernels* kernels;
    std::vector<std::string> lacking;  // CPU features that are missing here; empty when it runs
};

// Each CPUID bit is asked for by itself; __builtin_cpu_supports also asks whether the operating
// system saves the registers.
std::vector<Offer> offers() {
    std::vector<Offer> all{{&scalar_kernels, {}}};
#if defined(__x86_64__)
    __builtin_cpu_init();
    const auto add = [&all](const Kernels& kernels,
                            std::initializer_list<std::pair<const char*, bool>> features) {
        Offer offer{&kernels, {}};
        for (const auto& [feature, present] : features) {
            if (!present) offer.lacking.emplace_back(feature);
        }
        all.push_back(std::move(offer));
    };
    const bool f = __builtin_cpu_supports("avx512f"), bw = __builtin_cpu_supports("avx512bw");
    const bool vl = __builtin_cpu_supports("avx512vl"), dq = __builtin_cpu_supports("avx512dq");
    add(avx2_kernels,
        {{"avx2", __builtin_cpu_supports("avx2")}, {"fma", __builtin_cpu_supports("fma")}});
    add(avx512_kernels, {{"avx512f", f}, {"avx512bw", bw}, {"avx512vl", vl}, {"avx512dq", dq}});
    add(avx512_vnni_kernels, {{"avx512f", f},
                              {"avx512bw", bw},
                              {"avx512vl", vl},
                              {"avx512dq", dq},
                              {"avx512vnni", __builtin_cpu_supports("avx512vnni")},
                              {"avx512vpopcntdq", __builtin_cpu_supports("avx512vpopcntdq")}});
#endif
    return all;
}

const Kernels& named(const std::string& name, const char* said_by) {
    std::string known;
    for (const Offer& offer : offers()) {
        if (name != offer.kernels->name) {
            if (offer.lacking.empty())
                known += (known.empty() ? "" : ", ") + std::string(offer.kernels->name);
            continue;
        }
        if (offer.lacking.empty()) return *offer.kernels;
        std::string lacking;
        for (const std::string& feature : offer.lacking)
            lacking += (lacking.empty() ? "" : ", ") + feature;
        throw std::runtime_error(std::string(said_by) + " asks for the instruction set \"" + name +
                                 "\", this CPU lacks " + lacking +
                                 "; unset it, and the best that runs here is chosen");
    }
    throw std::runtime_error(std::string(said_by) + " asks for the instruction set \"" + name +
                             "\", this build has " + known +
                             " for this CPU; name one of these, or unset it");
}

const Kernels& chosen() {
    const char* name = std::getenv("MRL_DB_SIMD");
    if (name != nullptr && *name != '\0') return named(name, "MRL_DB_SIMD");
    return *available_kernels().back();
}

std::atomic<const Kernels*> in_use{nullptr};

}  // namespace

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> running;
    for (const Offer& offer : offers()) {
        if (offer.lacking.empty()) running.push_back(offer.kernels);
    }
    return running;
}

const Kernels& kernels() {
    const Kernels* current = in_use.load(std::memory_order_acquire);
    if (current == nullptr) {
        current = &chosen();
        in_use.store(current, std::memory_order_release);
    }
    return *current;
}

void use_kernels(const std::string& name) {
    in_use.store(name.empty() ? &chosen() : &named(name, "the caller"), std::memory_order_release);
}

}  // namespace mrl
