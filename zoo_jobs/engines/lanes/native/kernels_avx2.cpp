#define LANES_AVX2
#include "kernels.inc"

const lanes::Kernels* lanes::kernels_avx2() { return &kernels; }
