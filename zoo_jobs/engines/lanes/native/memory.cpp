#include "memory.h"

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lanes {

// Large blocks lie on large pages where the system has them: a group's working set spans more small pages than the
// first level of address translation holds.
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
