// The words that plans, codes and files share.
#pragma once

#include <cstddef>

namespace mrl {

enum class Metric { cosine, inner_product, l2 };  // how vectors are compared
enum class Space {
    prefix,
    projection
};  // what a code holds: the first dims, or coordinates of the projection
enum class Precision { bit, int4, int8, float32 };
enum class KeyType {
    int16,
    int32,
    int64,
    uuid,
    text
};  // what a key looks like in memory and on the wire

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
