// The blob of an index: projection, entries and what was measured as bytes. Sections one behind the
// other, each a count of bytes and then these; what is read back is believed in nothing but its
// bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "../system/memory.hpp"

namespace mrl {

class BlobWriter {
  public:
    template <class T>
    void value(const char*, const T& value) {
        put(&value, sizeof value);
    }
    template <class T>
    void array(const char*, const Array<T>& values) {
        put(values.data(), values.size() * sizeof(T));
    }
    template <class T>
    void list(const char*, const std::vector<T>& values) {
        put(values.data(), values.size() * sizeof(T));
    }
    std::vector<std::uint8_t> bytes;

  private:
    void put(const void* from, std::uint64_t n) {
        const auto* count = reinterpret_cast<const std::uint8_t*>(&n);
        const auto* begin = static_cast<const std::uint8_t*>(from);
        bytes.insert(bytes.end(), count, count + sizeof n);
        if (n != 0) bytes.insert(bytes.end(), begin, begin + n);
    }
};

class BlobReader {
  public:
    BlobReader(const std::uint8_t* bytes, std::size_t n) : at_(bytes), end_(bytes + n) {}
    template <class T>
    void value(const char*, T& value) {
        if (next() != sizeof value) damaged();
        take(&value, sizeof value);
    }
    template <class T>
    void array(const char*, Array<T>& values) {
        fill<T>(values);
    }
    template <class T>
    void list(const char*, std::vector<T>& values) {
        fill<T>(values);
    }

  private:
    [[noreturn]] static void damaged() { throw std::runtime_error("the index's blob is damaged"); }
    std::uint64_t next() {
        std::uint64_t n;
        take(&n, sizeof n);
        if (n > static_cast<std::uint64_t>(end_ - at_)) damaged();
        return n;
    }
    void take(void* to, std::size_t n) {
        if (n > static_cast<std::size_t>(end_ - at_)) damaged();
        if (n != 0) std::memcpy(to, at_, n);
        at_ += n;
    }
    template <class T, class Values>
    void fill(Values& values) {
        const std::uint64_t n = next();
        if (n % sizeof(T) != 0) damaged();
        values.resize(n / sizeof(T));
        take(values.data(), n);
    }
    const std::uint8_t *at_, *end_;
};

}  // namespace mrl
