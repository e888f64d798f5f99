#define LANES_VEC4
#include "kernels.inc"

const lanes::Kernels* lanes::kernels_vec4() { return &kernels; }
