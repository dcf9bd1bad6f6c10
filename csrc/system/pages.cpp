#include "pages.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mrl {

void prefer_huge_pages([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
    madvise(begin, bytes, MADV_HUGEPAGE);  // refused where huge pages are off
#endif
}

}  // namespace mrl
