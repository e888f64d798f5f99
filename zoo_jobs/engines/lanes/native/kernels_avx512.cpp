#define LANES_AVX512
#include "kernels.inc"

const lanes::Kernels* lanes::kernels_avx512() { return &kernels; }
