// An instruction set as data. Each has a file of its own, named like it, which defines
// `NAME_set`: what it is built on, what it needs of the CPU beside that, and what it does better.
// To add one: that file, and its line in CMakeLists.txt (the compiler's flags, and its rank).
//
// C headers only (see kernels.hpp).
#pragma once

#include "../system/cpu.hpp"
#include "kernels.hpp"

namespace mrl {

struct InstructionSet {
    const char* name;
    const InstructionSet* base;   // its kernels stay wherever `add` gives none; nullptr: gives all
    cpu::Features needs;          // beside what the base needs
    void (*add)(Kernels& table);  // compiled for this set: called only where it runs
};

}  // namespace mrl
