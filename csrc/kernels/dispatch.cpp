#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "instruction_set.hpp"

namespace mrl {

// CMakeLists.txt lists the instruction sets of this build, the best last: SET(scalar) SET(avx2) …
#define SET(name) extern const InstructionSet name##_set;
MRL_INSTRUCTION_SETS
#undef SET

namespace {

#define SET(name) &name##_set,
constexpr const InstructionSet* kSets[] = {MRL_INSTRUCTION_SETS};
#undef SET

// CPU features that a set and its bases need and that are missing here.
cpu::Features lacking(const InstructionSet& set) {
    return (set.needs & ~cpu::features()) | (set.base == nullptr ? 0 : lacking(*set.base));
}

void fill(const InstructionSet& set, Kernels& table) {
    if (set.base != nullptr) fill(*set.base, table);
    set.add(table);
    table.name = set.name;
}

// The tables of the sets that run here, made at the first use.
const std::vector<Kernels>& tables() {
    static const std::vector<Kernels> all = [] {
        std::vector<Kernels> made;
        for (const InstructionSet* set : kSets) {
            if (lacking(*set) == 0) fill(*set, made.emplace_back());
        }
        return made;
    }();
    return all;
}

std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    return all;
}

const Kernels& named(const std::string& name, const char* said_by) {
    std::vector<std::string> running, missing;
    for (const Kernels& table : tables()) {
        if (name == table.name) return table;
        running.emplace_back(table.name);
    }
    for (const InstructionSet* set : kSets) {
        if (name != set->name) continue;
        for (cpu::Features bits = lacking(*set); bits != 0; bits &= bits - 1)
            missing.emplace_back(cpu::name_of(bits & (~bits + 1)));
    }
    throw std::runtime_error(
        std::string(said_by) + " asks for the instruction set \"" + name + "\", this " +
        (missing.empty()
             ? "build has " + joined(running) + " for this CPU; " + "name one of these, or unset it"
             : "CPU lacks " + joined(missing) + "; unset it, and the best that runs here " +
                   "is chosen"));
}

const Kernels& chosen() {
    const char* name = std::getenv("MRL_DB_SIMD");
    if (name != nullptr && *name != '\0') return named(name, "MRL_DB_SIMD");
    return tables().back();
}

std::atomic<const Kernels*> in_use{nullptr};

}  // namespace

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> running;
    for (const Kernels& table : tables()) running.push_back(&table);
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
