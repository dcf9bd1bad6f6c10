#include "pages.hpp"

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace mrl {

void prefer_huge_pages([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
    madvise(begin, bytes, MADV_HUGEPAGE);  // refused where huge pages are off
#endif
}

void make_own([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_POPULATE_WRITE)
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto from = reinterpret_cast<std::uintptr_t>(begin), first = from / page * page;
    madvise(reinterpret_cast<void*>(first), from + bytes - first, MADV_POPULATE_WRITE);
#endif
}

}  // namespace mrl
