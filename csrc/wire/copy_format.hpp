// PostgreSQL's binary COPY format (documentation, "COPY", "Binary Format") and pgvector's send
// format (vector_send, halfvec_send).
//
// Stream: an 11-byte signature, int32 flags, int32 length of a header extension; then rows: int16
// number of fields, and for each field an int32 length (-1 for NULL) and its bytes; then int16 -1.
// All integers are big-endian. A vector field: int16 dims, int16 zero, dims * float4. A halfvec
// field: the same with float2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernels/pack.hpp"
#include "../store/words.hpp"

namespace mrl::wire {

constexpr char kSignature[] = "PGCOPY\n\377\r\n";  // 11 bytes with its closing zero
constexpr std::size_t kSignatureBytes = 11;
constexpr std::size_t kHeaderBytes = kSignatureBytes + 8;
static_assert(sizeof kSignature == kSignatureBytes);

enum class VectorType { float32, float16 };  // vector, halfvec

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

}  // namespace mrl::wire
