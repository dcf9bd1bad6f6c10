#include "reserved.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace mrl {
namespace {

constexpr std::size_t kRooms[] = {64, 16, 4, 1};  // times what is wanted: the first to be had
constexpr std::size_t kLeastRoom = std::size_t{1} << 30;
// What is as large grows by huge pages, others so that they are not much larger than they must be.
constexpr std::size_t kLarge = 32 * kHugePage;

std::size_t round_up_to(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// Not readable: so that no limit of memory, also where the system promises no more than it has,
// counts it.
void* addresses(std::size_t bytes) {
    void* range =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return range == MAP_FAILED ? nullptr : range;
}

}  // namespace

Reserved::Reserved(std::size_t bytes) {
    const std::size_t least = round_up_to(std::max<std::size_t>(bytes, 1), kHugePage);
    void* range = nullptr;
    for (const std::size_t room : kRooms) {
        reserved_ = room == 1 ? least : std::max(kLeastRoom, room * least);
        range = addresses(reserved_ + kHugePage);
        if (range != nullptr) break;  // else there is a limit on addresses
    }
    if (range == nullptr) {
        reserved_ = 0;
        throw std::bad_alloc();
    }
    // Huge pages begin at their multiple: what sticks out goes back.
    auto* begin = static_cast<std::uint8_t*>(range);
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const std::size_t before = round_up_to(address, kHugePage) - address;
    if (before != 0) munmap(begin, before);
    if (before != kHugePage) munmap(begin + before + reserved_, kHugePage - before);
    begin_ = begin + before;
    prefer_huge_pages(begin_, reserved_);
}

Reserved::~Reserved() {
    if (begin_ != nullptr) munmap(begin_, reserved_);
}

void Reserved::commit(std::size_t bytes) {
    if (bytes <= ready_) return;
    const std::size_t step = ready_ >= kLarge ? kHugePage : kLargestPage;
    const std::size_t end = std::min(reserved_, round_up_to(bytes, step));
    if (mprotect(begin_ + ready_, end - ready_, PROT_READ | PROT_WRITE) != 0) {
        throw std::bad_alloc();
    }
    ready_ = end;
}

void Reserved::touch(std::size_t from) {
    constexpr std::size_t kSmallPage = 4096;
    for (std::size_t at = from; at < ready_; at += kSmallPage) {
        *static_cast<volatile std::uint8_t*>(begin_ + at) = 0;
    }
}

void Reserved::map_file(int file, std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    const std::size_t pages = round_up_to(bytes, kLargestPage);
    if (mmap(begin_, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file,
             static_cast<off_t>(offset)) == MAP_FAILED) {
        throw std::bad_alloc();
    }
    ready_ = of_file_ = pages;
}

}  // namespace mrl
