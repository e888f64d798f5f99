#define LANES_SCALAR
#include "kernels.inc"

const lanes::Kernels* lanes::kernels_scalar() { return &kernels; }
