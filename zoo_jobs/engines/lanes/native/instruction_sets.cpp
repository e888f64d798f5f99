#include "instruction_sets.h"

#include <stdexcept>

namespace lanes {

const Kernels* find_kernels(const std::string& isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const bool vec4 = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx");
  if ((isa == "avx512" || isa == "auto") && avx512) return kernels_avx512();
  if ((isa == "avx2" || isa == "auto") && avx2) return kernels_avx2();
#else
  const bool vec4 = true;
#endif
  if ((isa == "vec4" || isa == "auto") && vec4) return kernels_vec4();
  if (isa == "scalar" || isa == "auto") return kernels_scalar();
  if (isa == "double") return kernels_double();
  return nullptr;
}

std::vector<std::string> available() {
  std::vector<std::string> names;
  for (const char* isa : {"avx512", "avx2", "vec4", "scalar"})
    if (find_kernels(isa)) names.push_back(isa);
  return names;
}

const Kernels& kernels_for(const std::string& isa, long left) {
  const Kernels* widest = find_kernels(isa);
  if (!widest) throw std::invalid_argument("instruction set " + isa + " is not available here");
  if (isa == "auto")
    for (const char* name : {"vec4", "avx2"}) {
      const Kernels* narrower = find_kernels(name);
      if (narrower && narrower->lanes < widest->lanes && left <= narrower->lanes) return *narrower;
    }
  return *widest;
}

}  // namespace lanes
