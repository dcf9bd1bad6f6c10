// Chooses the instruction set: once, at the first use, by what the CPU and its operating system
// offer, or by the name in MRL_DB_SIMD.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace mrl {

// The kernels in use. Throws std::runtime_error when MRL_DB_SIMD names a set that is unknown or
// that this CPU lacks.
const Kernels& kernels();

// All sets that run here, the slowest first.
std::vector<const Kernels*> available_kernels();

// Forces one by name from now on (tests, benchmarks); an empty name returns to the choice made from
// the environment and the CPU.
void use_kernels(const std::string& name);

}  // namespace mrl
