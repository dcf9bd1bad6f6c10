// Pages of memory, where operating systems and machines differ.
#pragma once

#include <cstddef>

namespace mrl {

// The largest that a system gives as the ordinary one: 4 KiB on x86, 16 KiB on Apple's, 64 KiB on
// some ARM servers. What is a multiple of it is one of theirs.
constexpr std::size_t kLargestPage = 65536;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Asks for huge pages in this range, before it is first touched; nothing where there are none.
void prefer_huge_pages(void* begin, std::size_t bytes);

// Makes the pages of this range the process's own, as a first write to each would, where the system
// can do so beside others that read them; what they hold stays. Elsewhere the first write does.
void make_own(void* begin, std::size_t bytes);

}  // namespace mrl
