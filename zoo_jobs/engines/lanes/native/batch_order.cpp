#include "batch_order.h"

#include <algorithm>
#include <vector>

#include "plan.h"

namespace lanes {

void batch_order(uint32_t seed, int epoch, long num_rows, uint32_t* order, uint64_t* scratch) {
  uint64_t *from = scratch, *to = scratch + num_rows;
  std::vector<uint32_t> low(size_t(num_rows) + 1);
  for (long block = 0; block < (num_rows + 1) / 2; ++block) {
    uint32_t x0 = uint32_t(block), x1 = 0, x2 = uint32_t(epoch), x3 = 0, key0 = seed, key1 = kOrder;
    for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
      const uint64_t a = uint64_t(0xD2511F53u) * x0, b = uint64_t(0xCD9E8D57u) * x2;
      x0 = uint32_t(b >> 32) ^ x1 ^ key0, x1 = uint32_t(b);
      x2 = uint32_t(a >> 32) ^ x3 ^ key1, x3 = uint32_t(a);
    }
    low[size_t(2 * block)] = x0, from[2 * block] = uint64_t(x1) << 32 | uint64_t(2 * block);
    if (2 * block + 1 < num_rows) {
      low[size_t(2 * block) + 1] = x2;
      from[2 * block + 1] = uint64_t(x3) << 32 | uint64_t(2 * block + 1);
    }
  }
  for (const int shift : {32, 43, 54}) {  // radix sort by the upper halves of the words
    const uint64_t mask = shift == 54 ? 1023 : 2047;
    std::vector<long> at(2049, 0);
    for (long i = 0; i < num_rows; ++i) ++at[size_t(from[i] >> shift & mask) + 1];
    for (size_t i = 1; i < at.size(); ++i) at[i] += at[i - 1];
    for (long i = 0; i < num_rows; ++i) to[at[size_t(from[i] >> shift & mask)]++] = from[i];
    std::swap(from, to);
  }
  for (long i = 0; i < num_rows;) {  // entries with equal upper halves are sorted by the lower halves, then by row
    long stop = i + 1;
    while (stop < num_rows && from[stop] >> 32 == from[i] >> 32) ++stop;
    if (stop - i > 1)
      std::stable_sort(from + i, from + stop,
                       [&](uint64_t a, uint64_t b) { return low[uint32_t(a)] < low[uint32_t(b)]; });
    i = stop;
  }
  for (long i = 0; i < num_rows; ++i) order[i] = uint32_t(from[i]);
}

}  // namespace lanes
