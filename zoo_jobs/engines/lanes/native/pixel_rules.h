// Rules that compute pixel values, instead of a table.
#pragma once
#include <vector>

#include "plan.h"

namespace lanes {

// One rule per channel that gives every value of `table` [channels][256] bit for bit; empty if a channel has none.
std::vector<PixelRule> pixel_rules(const float* table, int channels);

}  // namespace lanes
