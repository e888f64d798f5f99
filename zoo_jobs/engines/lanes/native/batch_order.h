// The order of the training rows in an epoch.
#pragma once
#include <cstdint>

namespace lanes {

// Permutation of [0, num_rows): argsort of 64-bit words of the counter-based generator, ties by row.
// order [num_rows], scratch [2 * num_rows].
void batch_order(uint32_t seed, int epoch, long num_rows, uint32_t* order, uint64_t* scratch);

}  // namespace lanes
