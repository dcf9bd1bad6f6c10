// Arrays for codes, rows and links: aligned to cache lines, zeroed, in huge pages where they are
// large. A random row then costs one cache miss and no page walk.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "pages.hpp"

namespace mrl {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPage = 4096;

inline std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// A growing array of plain values. Growing moves it: nobody may be reading meanwhile. Memory beyond
// size() reads as zero until used.
//
// An array may begin as a part of a file: its pages are then those of the file, shared with every
// process that maps it, until they are written to; what is written, and what is appended, is this
// process's own.
template <class T>
class Array {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    Array() = default;
    explicit Array(std::size_t size) { resize(size); }
    Array(Array&& other) noexcept { swap(other); }
    Array& operator=(Array&& other) noexcept {
        Array(std::move(other)).swap(*this);
        return *this;
    }
    ~Array() { release(); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    std::size_t size() const { return size_; }
    std::size_t bytes() const {
        return of_file_ ? round_up(size_ * sizeof(T), kCacheLine) : mapped_;
    }
    bool empty() const { return size_ == 0; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }

    void swap(Array& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(mapped_, other.mapped_);
        std::swap(of_file_, other.of_file_);
    }

    // Takes `size` values of a file, which begin at a multiple of kLargestPage and are followed by
    // zeros up to the next one.
    void map_file(int file, std::size_t offset, std::size_t size) {
        const std::size_t bytes = size * sizeof(T), pages = round_up(bytes, kLargestPage);
        Array mapped;
        // Room behind it, in addresses only: a few rows more need no copy.
        const std::size_t room = std::max(kHugePage, round_up(pages + bytes / 4, kLargestPage));
        void* range = mmap(nullptr, room, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) throw std::bad_alloc();
        mapped.data_ = static_cast<T*>(range);
        mapped.mapped_ = room;
        if (bytes != 0 &&
            mmap(range, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                 file, static_cast<off_t>(offset)) == MAP_FAILED) {
            throw std::bad_alloc();
        }
        mapped.size_ = size;
        mapped.of_file_ = true;
        swap(mapped);
    }

    void reserve(std::size_t capacity) {
        if (capacity * sizeof(T) <= mapped_) return;
        Array larger;
        larger.map(capacity * sizeof(T));
        if (size_ != 0) std::memcpy(larger.data_, data_, size_ * sizeof(T));
        larger.size_ = size_;
        swap(larger);
    }

    // Room for so many values, and for a quarter more than there are: growing one by one is cheap.
    void make_room(std::size_t size) {
        if (size * sizeof(T) <= mapped_) return;
        reserve(mapped_ == 0 ? size : std::max(size, size_ + size_ / 4));
    }

    void resize(std::size_t size) {
        make_room(size);
        if (size < size_)
            std::memset(static_cast<void*>(data_ + size), 0, (size_ - size) * sizeof(T));
        size_ = size;
    }

    void append(const T* values, std::size_t count) {
        const std::size_t at = size_;
        resize(at + count);
        if (count != 0) std::memcpy(data_ + at, values, count * sizeof(T));
    }

  private:
    void map(std::size_t bytes) {
        const bool huge = bytes >= kHugePage;
        mapped_ = round_up(std::max<std::size_t>(bytes, 1), huge ? kLargestPage : kCacheLine);
        if (!huge) {
            data_ = static_cast<T*>(::operator new(mapped_, std::align_val_t{kCacheLine}));
            std::memset(static_cast<void*>(data_), 0, mapped_);
            return;
        }
        // The kernel gives pages of 2 MiB only to ranges that start at their multiple: map one
        // more, and give back what sticks out. The end stays in small pages, so that no array is
        // much larger than it must be.
        void* range = mmap(nullptr, mapped_ + kHugePage, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) {
            mapped_ = 0;
            throw std::bad_alloc();
        }
        auto* begin = static_cast<std::uint8_t*>(range);
        const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(begin), kHugePage) -
                                   reinterpret_cast<std::uintptr_t>(begin);
        if (before != 0) munmap(begin, before);
        if (before != kHugePage) munmap(begin + before + mapped_, kHugePage - before);
        data_ = reinterpret_cast<T*>(begin + before);
        prefer_huge_pages(begin + before, mapped_);
    }

    void release() {
        if (mapped_ >= kHugePage) {  // what is of a file has at least as much room
            munmap(static_cast<void*>(data_), mapped_);
        } else if (mapped_ != 0) {
            ::operator delete(static_cast<void*>(data_), std::align_val_t{kCacheLine});
        }
        data_ = nullptr;
        size_ = mapped_ = 0;
        of_file_ = false;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_ = 0;
    bool of_file_ = false;
};

}  // namespace mrl
