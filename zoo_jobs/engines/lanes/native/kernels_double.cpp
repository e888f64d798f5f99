#define LANES_DOUBLE
#include "kernels.inc"

const lanes::Kernels* lanes::kernels_double() { return &kernels; }
