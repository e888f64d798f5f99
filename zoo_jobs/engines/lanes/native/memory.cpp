#include "memory.h"

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lanes {

// Large blocks are put on large pages if the system has them, because the working set of a group spans more small pages
// than the first-level TLB holds.
Memory allocate(size_t bytes) {
  constexpr size_t kLarge = size_t(1) << 21;
  const size_t alignment = bytes >= kLarge ? kLarge : 4096;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, (bytes + 4095) / 4096 * 4096 + (bytes ? 0 : 4096))) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kLarge) madvise(p, bytes, MADV_HUGEPAGE);
#endif
  return Memory(p);
}

}  // namespace lanes
