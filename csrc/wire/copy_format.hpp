// PostgreSQL's binary COPY format (documentation, "COPY", "Binary Format") and pgvector's send format (vector_send, halfvec_send).
//
// Stream: an 11-byte signature, int32 flags, int32 length of a header extension; then rows: int16 number of fields, and for each field
// an int32 length (-1 for NULL) and its bytes; then int16 -1. All integers are big-endian.
// A vector field: int16 dims, int16 zero, dims * float4. A halfvec field: the same with float2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mrl::wire {

constexpr char kSignature[] = "PGCOPY\n\377\r\n";  // 11 bytes with its closing zero
constexpr std::size_t kSignatureBytes = 11;
constexpr std::size_t kHeaderBytes = kSignatureBytes + 8;
static_assert(sizeof kSignature == kSignatureBytes);

enum class VectorType { float32, float16 };  // vector, halfvec

// What a key looks like on the wire.
enum class KeyType { int16, int32, int64, uuid, text };

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

template <class Int>
inline Int load_big_endian(const unsigned char* p) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i) value = value << 8 | p[i];
    return static_cast<Int>(value);
}

template <class Int>
inline void store_big_endian(Int value, unsigned char* p) {
    auto bits = static_cast<std::uint64_t>(value);
    for (std::size_t i = sizeof(Int); i-- > 0; bits >>= 8) p[i] = static_cast<unsigned char>(bits);
}

// Both directions of float4[]: four bytes turned round. The compilers make a byte shuffle of it.
inline void floats_from_wire(const unsigned char* p, std::size_t count, float* out) {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, p + 4 * i, 4);
        if constexpr (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) bits = __builtin_bswap32(bits);
        std::memcpy(out + i, &bits, 4);
    }
}

inline void floats_to_wire(const float* values, std::size_t count, unsigned char* p) {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, values + i, 4);
        if constexpr (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) bits = __builtin_bswap32(bits);
        std::memcpy(p + 4 * i, &bits, 4);
    }
}

// IEEE 754 binary16 to binary32, exact: shift the exponent into place and let one multiplication normalise the subnormals.
inline float half_to_float(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    std::uint32_t bits = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
    float value;
    if (bits >= 0x0f800000u) {  // infinity or NaN: the exponent stays all ones
        bits |= 0x7f800000u;
        std::memcpy(&value, &bits, 4);
    } else {
        std::memcpy(&value, &bits, 4);
        value *= 5.192296858534828e33f;  // 2^112: the difference of the two exponent biases
        std::memcpy(&bits, &value, 4);
    }
    bits |= sign;
    std::memcpy(&value, &bits, 4);
    return value;
}

// IEEE 754 binary32 to binary16, to nearest, ties to even; beyond the range to infinity.
inline std::uint16_t float_to_half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
    if (bits >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and beyond round to infinity
    if (bits >= 0x38800000u) {                                                   // normal: 2^-14 and beyond
        bits -= 0x38000000u;
        return static_cast<std::uint16_t>(sign | ((bits + 0x0fffu + (bits >> 13 & 1u)) >> 13));
    }
    // Subnormal: adding 0.5 leaves the half's bits, rounded to even by the addition, at the bottom of the sum.
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
}

}  // namespace mrl::wire
