#include "file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <random>

#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are little-endian");

constexpr char kMagic[8] = {'m', 'r', 'l', '_', 'i', 'd', 'x', '\0'};
constexpr std::uint32_t kOrder = 0x01020304;
constexpr std::size_t kHeader = 40, kEntry = 64, kName = 32, kChecksumAt = 32;
constexpr std::size_t kMostSections = 1024;
constexpr std::size_t kChunk = std::size_t{4}
                               << 20;  // checksums are taken of so much at a time, by all threads

std::string reason() { return std::strerror(errno); }

template <class T>
T load(const std::uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

template <class T>
void store(std::vector<std::uint8_t>& bytes, std::size_t at, const T& value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

// The checksum of a section: of the checksums of its chunks.
std::uint64_t section_checksum(const void* bytes, std::size_t size, std::size_t threads) {
    std::vector<std::uint64_t> chunks((size + kChunk - 1) / kChunk);
    parallel_for(
        chunks.size() > 1 ? threads : 1, chunks.size(), [&](std::size_t chunk, std::size_t) {
            chunks[chunk] = checksum(static_cast<const std::uint8_t*>(bytes) + chunk * kChunk,
                                     std::min(kChunk, size - chunk * kChunk));
        });
    return checksum(chunks.data(), chunks.size() * sizeof(std::uint64_t));
}

void write_all(int file, const void* bytes, std::size_t size) {
    const auto* at = static_cast<const std::uint8_t*>(bytes);
    while (size != 0) {
        const ssize_t written = ::write(file, at, std::min(size, std::size_t{1} << 30));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) throw FileError("cannot write the file: " + reason());
        at += written;
        size -= static_cast<std::size_t>(written);
    }
}

std::size_t alignment(std::size_t bytes) { return bytes < kCopied ? kPage : kLargestPage; }

}  // namespace

std::uint64_t checksum(const void* bytes, std::size_t size) {
    constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;
    constexpr std::size_t kLanes = 8;
    const auto* at = static_cast<const std::uint8_t*>(bytes);
    std::uint64_t lanes[kLanes];
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = (lane + 1) * kOdd ^ size;
    std::size_t i = 0;
    for (; i + 8 * kLanes <= size; i += 8 * kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const std::uint64_t mixed =
                (lanes[lane] ^ load<std::uint64_t>(at + i + 8 * lane)) * kOdd;
            lanes[lane] = mixed ^ mixed >> 29;
        }
    }
    for (std::size_t lane = 0; i < size; i += 8, ++lane) {
        std::uint64_t word = 0;
        std::memcpy(&word, at + i, std::min<std::size_t>(8, size - i));
        const std::uint64_t mixed = (lanes[lane] ^ word) * kOdd;
        lanes[lane] = mixed ^ mixed >> 29;
    }
    std::uint64_t sum = size;
    for (const std::uint64_t lane : lanes) {
        const std::uint64_t mixed = (sum ^ lane) * kOdd;
        sum = mixed ^ mixed >> 32;
    }
    return sum;
}

// Writing

void FileWriter::add(std::string_view name, const void* values, std::size_t count,
                     std::size_t size) {
    sections_.push_back({prefix + std::string(name), values, count, size});
    if (sections_.back().name.size() >= kName)
        throw std::logic_error("the name of a section is too long");
}

void FileWriter::write(const std::string& path, std::size_t threads) const {
    std::vector<std::uint8_t> header(round_up(kHeader + kEntry * sections_.size(), kPage));
    std::size_t offset = header.size();
    for (std::size_t i = 0; i < sections_.size(); ++i) {
        const Section& section = sections_[i];
        const std::size_t at = kHeader + kEntry * i, bytes = section.count * section.size;
        offset = round_up(offset, alignment(bytes));
        std::memcpy(header.data() + at, section.name.data(), section.name.size());
        store<std::uint64_t>(header, at + 32, offset);
        store<std::uint64_t>(header, at + 40, bytes);
        store<std::uint64_t>(header, at + 48, section_checksum(section.bytes(), bytes, threads));
        store<std::uint32_t>(header, at + 56, static_cast<std::uint32_t>(section.size));
        offset += round_up(bytes, alignment(bytes));
    }
    std::memcpy(header.data(), kMagic, sizeof kMagic);
    store<std::uint32_t>(header, 8, kFormat);
    store<std::uint32_t>(header, 12, kOrder);
    store<std::uint64_t>(header, 16, offset);
    store<std::uint32_t>(header, 24, static_cast<std::uint32_t>(sections_.size()));
    store<std::uint64_t>(header, kChecksumAt, checksum(header.data(), header.size()));

    // Not by the process's number: two containers may both be number 1 on one volume.
    const std::string fresh = path + "." + std::to_string(std::random_device()()) + ".new";
    const int file =
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) throw FileError("cannot write " + fresh + ": " + reason());
    try {
        const std::vector<std::uint8_t> zeros(kLargestPage);
        write_all(file, header.data(), header.size());
        std::size_t end = header.size();
        const auto fill = [&](std::size_t to) {
            write_all(file, zeros.data(), to - end);
            end = to;
        };
        for (const Section& section : sections_) {
            const std::size_t bytes = section.count * section.size, multiple = alignment(bytes);
            fill(round_up(end, multiple));
            write_all(file, section.bytes(), bytes);
            end += bytes;
            fill(round_up(end, multiple));
        }
        if (::rename(fresh.c_str(), path.c_str()) != 0)
            throw FileError("cannot rename " + fresh + ": " + reason());
    } catch (...) {
        ::close(file);
        ::unlink(fresh.c_str());
        throw;
    }
    ::close(file);
}

// Reading

FileReader::FileReader(const std::string& path, std::size_t threads, Checks checks)
    : checks_(checks) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file_ < 0) throw FileError("cannot open " + path + ": " + reason());
    try {
        struct stat found{};
        if (fstat(file_, &found) != 0 || !S_ISREG(found.st_mode))
            throw FileError(path + " is not a file");
        if (found.st_uid != geteuid() || (found.st_mode & 022) != 0)
            throw FileError(path + " may be written by others");
        bytes_ = static_cast<std::size_t>(found.st_size);
        if (bytes_ < kPage) throw FileError("the file is too short");
        void* all = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file_, 0);
        if (all == MAP_FAILED) throw FileError("cannot map " + path + ": " + reason());
        all_ = static_cast<const std::uint8_t*>(all);
        read_header();
        for (std::size_t i = 0; i < sections_.size() && checks == Checks::all; ++i) {
            check(sections_[i], threads);
        }
    } catch (...) {
        if (all_ != nullptr) munmap(const_cast<std::uint8_t*>(all_), bytes_);
        ::close(file_);
        throw;
    }
}

FileReader::~FileReader() {
    munmap(const_cast<std::uint8_t*>(all_), bytes_);
    ::close(file_);
}

void FileReader::read_header() {
    if (std::memcmp(all_, kMagic, sizeof kMagic) != 0 || load<std::uint32_t>(all_ + 12) != kOrder)
        throw FileError("no file of an index");
    if (load<std::uint32_t>(all_ + 8) != kFormat) throw FileError("a file of another format");
    if (load<std::uint64_t>(all_ + 16) != bytes_)
        throw FileError("the file has another length than it says");
    const std::size_t count = load<std::uint32_t>(all_ + 24);
    if (count > kMostSections) throw FileError("the header is damaged");
    const std::size_t length = round_up(kHeader + kEntry * count, kPage);
    if (length > bytes_) throw FileError("the file is too short");
    std::vector<std::uint8_t> header(all_, all_ + length);
    const auto said = load<std::uint64_t>(header.data() + kChecksumAt);
    store<std::uint64_t>(header, kChecksumAt, 0);
    if (checksum(header.data(), header.size()) != said) throw FileError("the header is damaged");
    std::size_t end = length;
    const auto check_zeros = [&](std::size_t from, std::size_t to, const std::string& name) {
        if (to > bytes_) throw FileError("the file is too short");
        if (std::any_of(all_ + from, all_ + to, [](std::uint8_t byte) { return byte != 0; }))
            throw FileError("section " + name + " is damaged");
    };
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* at = header.data() + kHeader + kEntry * i;
        const auto* name = reinterpret_cast<const char*>(at);
        Section section{std::string(name, strnlen(name, kName)), load<std::uint64_t>(at + 32),
                        load<std::uint64_t>(at + 40), load<std::uint64_t>(at + 48),
                        load<std::uint32_t>(at + 56)};
        if (section.bytes > bytes_ || section.size == 0 || section.bytes % section.size != 0)
            throw FileError("section " + section.name + " is not where it should be");
        const std::size_t multiple = alignment(section.bytes), begin = round_up(end, multiple);
        if (section.offset != begin)
            throw FileError("section " + section.name + " is not where it should be");
        check_zeros(end, begin, section.name);
        end = begin + round_up(section.bytes, multiple);
        check_zeros(begin + section.bytes, end, section.name);
        sections_.push_back(std::move(section));
    }
}

void FileReader::check(const Section& section, std::size_t threads) const {
    if (section_checksum(all_ + section.offset, section.bytes, threads) != section.checksum) {
        throw FileError("section " + section.name + " is damaged");
    }
}

const FileReader::Section& FileReader::find(std::string_view name, std::size_t size) const {
    const std::string full = prefix + std::string(name);
    for (const Section& section : sections_) {
        if (section.name != full) continue;
        if (section.size != size)
            throw FileError("section " + full + " holds values of another size");
        return section;
    }
    throw FileError("the file has no section " + full);
}

void FileReader::read(const Section& section, void* to) const {
    if (section.bytes != 0) std::memcpy(to, all_ + section.offset, section.bytes);
}

}  // namespace mrl
