// The instruction sets that this processor and this build have.
#pragma once
#include <string>
#include <vector>

#include "plan.h"

namespace lanes {

// Kernels of an instruction set by name; "auto" is the widest. Null if this processor or build cannot run them.
const Kernels* find_kernels(const std::string& isa);

// Names of the instruction sets that can run here, widest first.
std::vector<std::string> available();

// Kernels for a group when `left` models are left. With "auto", a last group whose models fit into narrower kernels
// gets the narrowest such kernels; the numbers are the same. Throws std::invalid_argument for an unavailable
// instruction set.
const Kernels& kernels_for(const std::string& isa, long left);

}  // namespace lanes
