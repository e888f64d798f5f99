// The order of the training rows in an epoch.
#pragma once
#include <cstdint>

namespace lanes {

// Writes a permutation of [0, num_rows): the argsort of 64-bit words of the counter-based generator; ties keep the
// order of the rows. order [num_rows], scratch [2 * num_rows].
void batch_order(uint32_t seed, int epoch, long num_rows, uint32_t* order, uint64_t* scratch);

}  // namespace lanes
