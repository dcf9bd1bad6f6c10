// Memory that grows in place: addresses for more than is wanted, of which only the beginning is
// memory. What is there never moves, so that others may read it while it grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "pages.hpp"

namespace mrl {

class Reserved {
  public:
    Reserved() = default;
    // Addresses for so many bytes, aligned to huge pages, and, where the process may have as many,
    // for 64 times as many and a GiB at least. None of it is memory yet. Throws bad_alloc.
    explicit Reserved(std::size_t bytes);
    ~Reserved();
    Reserved(Reserved&& other) noexcept { swap(other); }
    Reserved& operator=(Reserved&& other) noexcept {
        Reserved(std::move(other)).swap(*this);
        return *this;
    }
    void swap(Reserved& other) noexcept {
        std::swap(begin_, other.begin_);
        std::swap(reserved_, other.reserved_);
        std::swap(ready_, other.ready_);
        std::swap(of_file_, other.of_file_);
    }

    std::uint8_t* begin() const { return begin_; }
    bool holds(std::size_t bytes) const { return bytes <= reserved_; }
    std::size_t ready() const { return ready_; }  // bytes that may be read and written

    // Makes the first `bytes` memory, zero where it was not: `holds` them. Throws bad_alloc.
    void commit(std::size_t bytes);
    // Has the system find the pages from there on now, not when they are first written to.
    void touch(std::size_t from);
    // Begins with a part of a file, at a multiple of kLargestPage, that is followed by zeros up to
    // the next: its pages are shared until they are written to. Nothing was committed before.
    void map_file(int file, std::size_t offset, std::size_t bytes);

    // Whether a byte is of a file's pages, if not this process's own by now.
    bool is_of_file(std::size_t byte) const { return byte < of_file_; }

  private:
    std::uint8_t* begin_ = nullptr;
    std::size_t reserved_ = 0, ready_ = 0, of_file_ = 0;
};

}  // namespace mrl
