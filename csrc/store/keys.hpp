// The keys of an index's rows, and the row of a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../system/memory.hpp"
#include "words.hpp"

namespace mrl {

// Keys as they come off the wire (CopyDecoder), to be added or looked up.
struct KeySpan {
    KeyType type;
    const unsigned char*
        bytes;  // key_bytes(type) each in the machine's order; text keys one after another
    const std::int64_t* offsets;  // text: n + 1 offsets into bytes; else nullptr
    std::size_t n;

    std::string_view at(std::size_t i) const {
        const auto* begin = reinterpret_cast<const char*>(bytes);
        if (offsets != nullptr)
            return {begin + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i])};
        const std::size_t width = key_bytes(type);
        return {begin + i * width, width};
    }
};

class Keys {
  public:
    explicit Keys(KeyType type) : type_(type) {}

    static constexpr std::uint32_t kNone = 0xffffffffu;

    void reserve(std::size_t rows);
    // Gives a row, a new one or one whose key was taken away, its key. The key must not be there.
    void set(std::size_t row, std::string_view key);
    // Room for `key`, one of `more` that come, and so many rows, so that to set it does not throw.
    // In place others may look keys up meanwhile; a larger table then waits for the next call that
    // moves, before which no key may be set or erased.
    void make_room(std::size_t rows, std::string_view key, std::size_t more, Growth growth);
    // Whether there is room for another row with this key without anything moving.
    bool has_room(std::string_view key) const;
    // The row of a key, or kNone.
    std::uint32_t find(std::string_view key) const;
    void erase(std::size_t row);

    // Text keys that were erased leave their bytes behind: whether they are more than those of the
    // others, and those of the others anew, in the order of rows, for `swap_texts`.
    bool is_wasteful() const;
    struct Texts {
        Array<unsigned char> text;
        Array<std::uint64_t> begins;
    };
    Texts texts_in_use() const;
    void swap_texts(Texts& texts) noexcept;

    std::string_view at(std::size_t row) const;
    std::int64_t integer(std::size_t row) const;
    void fetch(std::size_t row)
        const;  // before it is looked at: a miss of the cache for each hit is a tenth of a search
    bool integers() const { return type_ != KeyType::uuid && type_ != KeyType::text; }
    // Integers by value, uuid and text by their bytes.
    bool less(std::size_t a, std::size_t b) const {
        return integers() ? integer(a) < integer(b) : at(a) < at(b);
    }

    template <class Visitor>
    void visit(Visitor& v) {
        v.array("keys.fixed", fixed_);
        v.array("keys.text", text_);
        v.array("keys.begins", begins_);
        v.array("keys.lengths", lengths_);
        v.array("keys.table", table_);
        v.value("keys.used", used_);
    }
    // Finishes what came out of a file; false when it is no table of so many rows.
    bool restore(std::size_t rows, std::size_t live);

    KeyType type() const { return type_; }
    std::size_t bytes() const {
        return fixed_.bytes() + text_.bytes() + begins_.bytes() + lengths_.bytes() + table_.bytes();
    }

  private:
    std::size_t position_of(
        std::string_view key) const;  // of the key, or of the empty one where it belongs
    bool is_full(std::size_t more) const { return (used_ + more) * 4 > table_.size() * 3; }
    Array<std::uint32_t> larger_table(std::size_t more) const;

    KeyType type_;
    Array<unsigned char> fixed_;
    Array<unsigned char> text_;  // text keys, and those that were erased
    Array<std::uint64_t> begins_;
    Array<std::uint32_t> lengths_;
    Array<std::uint32_t> table_;       // open addressing: row + 1, or 0
    Array<std::uint32_t> next_table_;  // a larger one that is to replace it, or empty
    std::size_t used_ = 0;
    std::size_t erased_bytes_ = 0;  // of text_
};

}  // namespace mrl
