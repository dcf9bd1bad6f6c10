#include "keys.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mrl {
namespace {

__extension__ using Wide = unsigned __int128;

// A multiply-and-fold hash of eight bytes at a time (the idea of wyhash); not proof against an
// adversary, who could only slow herself.
std::uint64_t hash(std::string_view key) {
    const auto mix = [](std::uint64_t a, std::uint64_t b) {
        const Wide product = static_cast<Wide>(a) * b;
        return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    };
    std::uint64_t state = 0x9e3779b97f4a7c15u ^ key.size();
    for (std::size_t i = 0; i < key.size(); i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, key.data() + i, std::min<std::size_t>(8, key.size() - i));
        state = mix(state ^ word, 0xd6e8feb86659fd93u);
    }
    return mix(state, 0xa0761d6478bd642fu);
}

}  // namespace

void Keys::reserve(std::size_t rows) {
    if (type_ == KeyType::text) {
        begins_.reserve(rows);
        lengths_.reserve(rows);
    } else {
        fixed_.reserve(rows * key_bytes(type_));
    }
    if (rows > used_ && is_full(rows - used_)) table_ = larger_table(rows - used_);
}

std::string_view Keys::at(std::size_t row) const {
    if (type_ == KeyType::text)
        return {reinterpret_cast<const char*>(text_.data()) + begins_[row], lengths_[row]};
    const std::size_t width = key_bytes(type_);
    return {reinterpret_cast<const char*>(fixed_.data()) + row * width, width};
}

std::int64_t Keys::integer(std::size_t row) const {
    const char* p = at(row).data();
    const auto load = [p](auto value) {
        std::memcpy(&value, p, sizeof value);
        return static_cast<std::int64_t>(value);
    };
    switch (type_) {
        case KeyType::int16:
            return load(std::int16_t{});
        case KeyType::int32:
            return load(std::int32_t{});
        default:
            return load(std::int64_t{});
    }
}

void Keys::fetch(std::size_t row) const {
    if (type_ == KeyType::text) {
        __builtin_prefetch(begins_.data() + row);
        __builtin_prefetch(lengths_.data() + row);
    } else {
        __builtin_prefetch(fixed_.data() + row * key_bytes(type_));
    }
}

std::size_t Keys::position_of(std::string_view key) const {
    const std::size_t mask = table_.size() - 1;
    std::size_t position = hash(key) & mask;
    while (table_[position] != 0 && at(table_[position] - 1) != key)
        position = (position + 1) & mask;
    return position;
}

// The same keys with room for some more; all of them differ, so each goes where the first gap is.
Array<std::uint32_t> Keys::larger_table(std::size_t more) const {
    std::size_t size = std::max<std::size_t>(64, 2 * table_.size());
    while ((used_ + more) * 4 > size * 3) size *= 2;
    Array<std::uint32_t> larger(size);
    for (std::size_t i = 0; i < table_.size(); ++i) {
        if (table_[i] == 0) continue;
        std::size_t position = hash(at(table_[i] - 1)) & (size - 1);
        while (larger[position] != 0) position = (position + 1) & (size - 1);
        larger[position] = table_[i];
    }
    return larger;
}

void Keys::set(std::size_t row, std::string_view key) {
    if (is_full(1)) table_ = larger_table(1);
    if (type_ == KeyType::text) {
        if (row >= begins_.size()) {
            begins_.resize(row + 1);
            lengths_.resize(row + 1);
        }
        begins_[row] = text_.size();
        lengths_[row] = static_cast<std::uint32_t>(key.size());
        text_.append(reinterpret_cast<const unsigned char*>(key.data()), key.size());
    } else {
        if ((row + 1) * key.size() > fixed_.size()) fixed_.resize((row + 1) * key.size());
        std::memcpy(fixed_.data() + row * key.size(), key.data(), key.size());
    }
    table_[position_of(key)] = static_cast<std::uint32_t>(row + 1);
    ++used_;
}

void Keys::make_room(std::size_t rows, std::string_view key, std::size_t more, Growth growth) {
    if (growth == Growth::in_place) {
        if (is_full(more)) next_table_ = larger_table(more);
    } else if (!next_table_.empty()) {
        table_ = std::exchange(next_table_, {});
    } else if (is_full(more)) {
        table_ = larger_table(more);
    }
    if (type_ == KeyType::text) {
        begins_.make_room(rows, growth);
        lengths_.make_room(rows, growth);
        text_.make_room(text_.size() + key.size(), growth);
    } else {
        fixed_.make_room(rows * key_bytes(type_), growth);
    }
}

bool Keys::has_room(std::string_view key) const {
    if (is_full(1) || !next_table_.empty()) return false;
    if (type_ != KeyType::text) return fixed_.has_room(fixed_.size() + key.size());
    return begins_.has_room(begins_.size() + 1) && lengths_.has_room(lengths_.size() + 1) &&
           text_.has_room(text_.size() + key.size());
}

std::uint32_t Keys::find(std::string_view key) const {
    if (table_.empty()) return kNone;
    const std::uint32_t entry = table_[position_of(key)];
    return entry == 0 ? kNone : entry - 1;
}

bool Keys::restore(std::size_t rows, std::size_t live) {
    if (type_ == KeyType::text) {
        if (begins_.size() != rows || lengths_.size() != rows || !fixed_.empty()) return false;
        std::size_t sum = 0;
        for (std::size_t row = 0; row < rows; ++row) {
            if (lengths_[row] > text_.size() || begins_[row] > text_.size() - lengths_[row])
                return false;
            sum += lengths_[row];
        }
        if (sum > text_.size()) return false;
        erased_bytes_ = text_.size() - sum;
    } else if (fixed_.size() != rows * key_bytes(type_) || !text_.empty() || !begins_.empty() ||
               !lengths_.empty()) {
        return false;
    }
    if (used_ != live || (table_.size() & (table_.size() - 1)) != 0 || table_.size() <= used_)
        return table_.empty() && used_ == 0 && live == 0;
    std::size_t used = 0;
    for (std::size_t i = 0; i < table_.size(); ++i) {
        if (table_[i] > rows) return false;
        used += table_[i] != 0 ? 1 : 0;
    }
    return used == used_;
}

// Deletion from open addressing with linear probing, without tombstones (Knuth, TAOCP 3, section
// 6.4, algorithm R). An empty place ends every search, so a key that stands behind the new hole,
// and whose own place (where its search begins) is not behind the hole, must move into it, or it
// would not be found again. Its move leaves a hole in turn; the run ends at the first empty place.
void Keys::erase(std::size_t row) {
    if (!next_table_.empty()) next_table_ = {};  // of a write that failed
    const std::size_t mask = table_.size() - 1;
    std::size_t hole = position_of(at(row));
    if (table_[hole] == 0) return;
    for (std::size_t next = (hole + 1) & mask; table_[next] != 0; next = (next + 1) & mask) {
        const std::size_t home = hash(at(table_[next] - 1)) & mask;
        if (((next - home) & mask) >= ((next - hole) & mask)) {
            table_[hole] = table_[next];
            hole = next;
        }
    }
    table_[hole] = 0;
    --used_;
    if (type_ == KeyType::text) erased_bytes_ += std::exchange(lengths_[row], 0);
}

bool Keys::is_wasteful() const {
    constexpr std::size_t kLeast = 64 << 10;
    return erased_bytes_ > std::max(kLeast, text_.size() / 2);
}

Keys::Texts Keys::texts_in_use() const {
    Texts texts;
    texts.text.reserve(text_.size() - erased_bytes_);
    texts.begins.resize(begins_.size());
    for (std::size_t row = 0; row < begins_.size(); ++row) {
        texts.begins[row] = texts.text.size();
        texts.text.append(text_.data() + begins_[row], lengths_[row]);
    }
    return texts;
}

void Keys::swap_texts(Texts& texts) noexcept {
    text_.swap(texts.text);
    begins_.swap(texts.begins);
    erased_bytes_ = 0;
}

}  // namespace mrl
