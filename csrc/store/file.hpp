// An index as a file: a cache of what was built, mapped by every process of a machine that searches
// the same rows.
//
// Layout (little-endian; offsets count from the file's begin, nothing in it is an address):
//
//   0     8 bytes     "mrl_idx" and a zero
//   8     uint32      format version, kFormat
//   12    uint32      0x01020304
//   16    uint64      bytes of the file
//   24    uint32      sections
//   28    uint32      zero
//   32    uint64      checksum of the header: of all sections' entries and the fields above, this
//   one taken as zero 40                entries of 64 bytes, one for each section: name (32 bytes,
//   zeros behind it), offset, bytes, checksum (uint64 each), bytes
//                     of one value (uint32), zero (uint32)
//
// A section begins at a multiple of 4,096, or of 65,536 if it is large enough to be mapped (the
// largest page of any machine), and is followed by zeros up to the next such multiple. The
// sections' names are those of the members that they hold (store_file, `visit` of each class);
// "about" is text of the caller's: what was indexed, as of when. Numbers are sections of one value.
//
// A file is written under another name and renamed: who has mapped the old one keeps it. Nothing of
// a file is believed before its checksums are right and its numbers fit one another: no file,
// however damaged or made up, leads a search out of its arrays.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../system/memory.hpp"

namespace mrl {

constexpr std::uint32_t kFormat = 6;
// Smaller sections are copied: a mapping costs more than that saves.
constexpr std::size_t kCopied = 256 * 1024;

// The file is not there, not ours, damaged, of another format, or cannot be written.
class FileError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A 64-bit checksum; of words of 8 bytes, the last one filled up with zeros. Any change within one
// word is noticed for certain, as each step is a bijection of the state; others but for one in
// 2^64.
std::uint64_t checksum(const void* bytes, std::size_t size);

// Collects what is to be written.
class FileWriter {
  public:
    template <class T>
    void array(std::string_view name, const Array<T>& values) {
        add(name, values.data(), values.size(), sizeof(T));
    }
    template <class Values>
    void list(std::string_view name, const Values& values) {
        add(name, values.data(), values.size(), sizeof(*values.data()));
    }
    template <class T>
    void value(std::string_view name, const T& one) {
        static_assert(!std::is_same_v<T, bool>,
                      "a byte of a file is not always a bool: use flag()");
        add(name, nullptr, 1, sizeof(T));
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(&one);
        sections_.back().own.assign(bytes, bytes + sizeof(T));
    }
    void flag(std::string_view name, bool set) { value(name, std::uint8_t{set}); }
    std::string prefix;

    void write(const std::string& path, std::size_t threads) const;

  private:
    void add(std::string_view name, const void* values, std::size_t count, std::size_t size);

    struct Section {
        std::string name;
        const void* values;
        std::size_t count, size;
        std::vector<std::uint8_t> own{};  // instead of `values`

        const void* bytes() const { return own.empty() ? values : own.data(); }
    };
    std::vector<Section> sections_;
};

// A file that was opened and whose checksums are right: of all of it, or of the header and of each
// list that is read.
class FileReader {
  public:
    enum class Checks { all, lists };
    FileReader(const std::string& path, std::size_t threads, Checks checks = Checks::all);
    ~FileReader();
    FileReader(const FileReader&) = delete;
    FileReader& operator=(const FileReader&) = delete;

    template <class T>
    void array(std::string_view name, Array<T>& values) {
        const Section& section = find(name, sizeof(T));
        if (section.bytes < kCopied) {
            values.resize(section.bytes / sizeof(T));
            read(section, values.data());
        } else {
            values.map_file(file_, section.offset, section.bytes / sizeof(T));
        }
    }
    template <class Values>
    void list(std::string_view name, Values& values) {
        const Section& section = find(name, sizeof(*values.data()));
        if (checks_ == Checks::lists) check(section, 1);
        values.resize(section.bytes / sizeof(*values.data()));
        read(section, values.data());
    }
    template <class T>
    void value(std::string_view name, T& one) {
        const Section& section = find(name, sizeof(T));
        if (section.bytes != sizeof(T))
            throw FileError("section " + section.name + " holds not one value");
        read(section, &one);
    }
    void flag(std::string_view name, bool& set) {
        std::uint8_t byte = 0;
        value(name, byte);
        if (byte > 1) throw FileError("flag " + std::string(name) + " is neither set nor clear");
        set = byte == 1;
    }
    std::string prefix;

  private:
    struct Section {
        std::string name;
        std::uint64_t offset, bytes, checksum;
        std::uint32_t size;
    };
    const Section& find(std::string_view name, std::size_t size) const;
    void read(const Section& section, void* to) const;
    void read_header();
    void check(const Section& section, std::size_t threads) const;

    Checks checks_;
    int file_ = -1;
    const std::uint8_t* all_ = nullptr;
    std::size_t bytes_ = 0;
    std::vector<Section> sections_;
};

}  // namespace mrl
