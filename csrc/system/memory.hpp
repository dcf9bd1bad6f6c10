// Arrays for codes, rows and links: aligned to cache lines, zeroed, in huge pages where they are
// large. A random row then costs one cache miss and no page walk.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "reserved.hpp"

namespace mrl {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPage = 4096;

inline std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// How an array gets room for more: in place, while others read it, or, where that cannot be, moved.
enum class Growth { in_place, moves };

// A growing array of plain values. A small one moves as it grows, a large one only where 64 times
// as much as it began with is not enough (reserved.hpp). Memory beyond size() reads as zero
// until used.
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
    ~Array() {
        if (heap_ != 0) ::operator delete(static_cast<void*>(data_), std::align_val_t{kCacheLine});
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    // It may rise while others read: who sees it risen sees what was written below it before.
    std::size_t size() const { return __atomic_load_n(&size_, __ATOMIC_ACQUIRE); }
    // What it takes: a large one what is used of it, by whole pages.
    std::size_t bytes() const { return heap_ != 0 ? heap_ : round_up(size() * sizeof(T), kPage); }
    bool empty() const { return size() == 0; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }

    void swap(Array& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(heap_, other.heap_);
        range_.swap(other.range_);
    }

    // Takes `size` values of a file (Reserved::map_file).
    void map_file(int file, std::size_t offset, std::size_t size) {
        Array mapped;
        mapped.range_ = Reserved(size * sizeof(T));
        mapped.range_.map_file(file, offset, size * sizeof(T));
        mapped.data_ = reinterpret_cast<T*>(mapped.range_.begin());
        mapped.size_ = size;
        swap(mapped);
    }

    // Room for so many values; false where the array would have to move and may not.
    bool reserve(std::size_t capacity, Growth growth = Growth::moves) {
        const std::size_t bytes = capacity * sizeof(T);
        if (bytes <= room()) return true;
        if (range_.begin() != nullptr && range_.holds(bytes)) {
            const std::size_t before = range_.ready();
            range_.commit(bytes);
            if (growth == Growth::in_place) range_.touch(before);
            return true;
        }
        if (growth == Growth::in_place) return false;
        Array larger;
        larger.take(bytes);
        if (size_ != 0) std::memcpy(larger.data_, data_, size_ * sizeof(T));
        larger.size_ = size_;
        swap(larger);
        return true;
    }

    bool has_room(std::size_t size) const { return size * sizeof(T) <= room(); }

    // The same, and for a quarter more where it moves: growing one by one is cheap.
    bool make_room(std::size_t size, Growth growth = Growth::moves) {
        const std::size_t bytes = size * sizeof(T);
        if (bytes <= room()) return true;
        const bool stays = range_.begin() != nullptr && range_.holds(bytes);
        return reserve(stays || room() == 0 ? size : std::max(size, size_ + size_ / 4), growth);
    }

    // Before n values are written to while nobody reads: takes their pages, where they are a
    // file's, while others still may (make_own).
    void own(std::size_t first, std::size_t n) {
        if (range_.is_of_file(first * sizeof(T))) mrl::make_own(data_ + first, n * sizeof(T));
    }

    void resize(std::size_t size) {
        make_room(size);
        if (size < size_)
            std::memset(static_cast<void*>(data_ + size), 0, (size_ - size) * sizeof(T));
        __atomic_store_n(&size_, size, __ATOMIC_RELEASE);
    }

    void append(const T* values, std::size_t count) {
        const std::size_t at = size_;
        resize(at + count);
        if (count != 0) std::memcpy(data_ + at, values, count * sizeof(T));
    }

  private:
    std::size_t room() const { return heap_ != 0 ? heap_ : range_.ready(); }

    void take(std::size_t bytes) {
        if (bytes >= kHugePage) {
            range_ = Reserved(bytes);
            range_.commit(bytes);
            data_ = reinterpret_cast<T*>(range_.begin());
            return;
        }
        heap_ = round_up(std::max<std::size_t>(bytes, 1), kCacheLine);
        data_ = static_cast<T*>(::operator new(heap_, std::align_val_t{kCacheLine}));
        std::memset(static_cast<void*>(data_), 0, heap_);
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t heap_ = 0;  // bytes, of a small one …
    Reserved range_;        // … and a large one's memory
};

}  // namespace mrl
