// The words that plans, codes and files share, and the names by which Python and errors call them.
// Files and pages have the words' numbers: a new one comes last.
#pragma once

#include <cstddef>

namespace mrl {

template <class Word>
struct Named {
    Word word;
    const char* name;
};

template <class Word, std::size_t count>
constexpr const char* name_of(const Named<Word> (&all)[count], Word word) {
    for (const Named<Word>& each : all) {
        if (each.word == word) return each.name;
    }
    return "?";
}

enum class Metric { cosine, inner_product, l2 };  // how vectors are compared: metric.hpp
inline constexpr Named<Metric> kMetrics[] = {
    {Metric::cosine, "cosine"}, {Metric::inner_product, "inner_product"}, {Metric::l2, "l2"}};

// What a code holds: the first dims, or coordinates of the projection.
enum class Space { prefix, projection };
inline constexpr Named<Space> kSpaces[] = {{Space::prefix, "prefix"},
                                           {Space::projection, "projection"}};

enum class Precision { bit, int4, int8, float32 };
inline constexpr Named<Precision> kPrecisions[] = {{Precision::bit, "bit"},
                                                   {Precision::int4, "int4"},
                                                   {Precision::int8, "int8"},
                                                   {Precision::float32, "float32"}};

// What a key looks like in memory and on the wire.
enum class KeyType { int16, int32, int64, uuid, text };
inline constexpr Named<KeyType> kKeyTypes[] = {{KeyType::int16, "int16"},
                                               {KeyType::int32, "int32"},
                                               {KeyType::int64, "int64"},
                                               {KeyType::uuid, "uuid"},
                                               {KeyType::text, "text"}};

// Bytes of a key, 0 where each has a length of its own.
inline std::size_t key_bytes(KeyType type) {
    switch (type) {
        case KeyType::int16:
            return 2;
        case KeyType::int32:
            return 4;
        case KeyType::int64:
            return 8;
        case KeyType::uuid:
            return 16;
        case KeyType::text:
            return 0;
    }
    return 0;
}

}  // namespace mrl
