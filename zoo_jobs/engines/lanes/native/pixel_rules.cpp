#include "pixel_rules.h"

#include <cmath>

#include "memory.h"

namespace lanes {

namespace {

// True if the rule gives every value of `table` [256] bit for bit.
bool gives(const PixelRule& rule, const float* table) {
  const float r = 1.0f / 255.0f;
  for (int b = 0; b < 256; ++b) {
    const float byte = float(b), near = byte * r;
    const float unit = std::fmaf(std::fmaf(near, -255.0f, byte), r, near);
    const float d = unit - rule.mean, quotient = d * rule.reciprocal;
    if (std::fmaf(std::fmaf(quotient, -rule.deviation, d), rule.reciprocal, quotient) != table[b]) return false;
  }
  return true;
}

// The float that is `steps` floats above x, or below it if `steps` is negative.
float neighbour(float x, int steps) {
  for (; steps > 0; --steps) x = std::nextafterf(x, INFINITY);
  for (; steps < 0; ++steps) x = std::nextafterf(x, -INFINITY);
  return x;
}

}  // namespace

std::vector<PixelRule> pixel_rules(const float* table, int channels) {
  FlushDenormals flush;  // because the kernels compute with this setting
  std::vector<PixelRule> rules;
  for (int c = 0; c < channels; ++c, table += 256) {
    const float deviation = float(1.0 / (double(table[255]) - double(table[0])));
    const float mean = float(-double(table[0]) / (double(table[255]) - double(table[0])));
    bool found = false;
    for (int i = 0; i < 33 && !found; ++i)
      for (int j = 0; j < 33 && !found; ++j) {
        PixelRule rule{neighbour(mean, i % 2 ? -(i + 1) / 2 : i / 2), neighbour(deviation, j % 2 ? -(j + 1) / 2 : j / 2),
                       0};
        rule.reciprocal = 1.0f / rule.deviation;
        if ((found = gives(rule, table))) rules.push_back(rule);
      }
    if (!found) return {};
  }
  return rules;
}

}  // namespace lanes
