// What kernels read in a layout or a format of its own: packed tiles, and float16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mrl {

// Packs n rows of `width` bytes (a multiple of 4) as Kernels::tile_int8 reads them; blocks are
// filled up with zero rows.
inline void pack_tile(const std::int8_t* const* rows, std::size_t n, std::size_t width,
                      std::uint8_t* packed) {
    for (std::size_t block = 0; block * 16 < n; ++block, packed += 16 * width) {
        for (std::size_t r = 0; r < 16; ++r) {
            const std::int8_t* row = block * 16 + r < n ? rows[block * 16 + r] : nullptr;
            for (std::size_t d = 0; d < width; d += 4) {
                std::uint32_t four = 0;
                if (row != nullptr) std::memcpy(&four, row + d, 4);
                four ^= 0x80808080u;
                std::memcpy(packed + 16 * d + 4 * r, &four, 4);
            }
        }
    }
}

// IEEE 754 binary16 to binary32, exact: shift the exponent into place and let one multiplication
// normalise the subnormals.
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
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);  // NaN
    if (bits >= 0x477ff000u)
        return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and beyond round to infinity
    if (bits >= 0x38800000u) {                              // normal: 2^-14 and beyond
        bits -= 0x38000000u;
        return static_cast<std::uint16_t>(sign | ((bits + 0x0fffu + (bits >> 13 & 1u)) >> 13));
    }
    // Subnormal: adding 0.5 leaves the half's bits, rounded to even by the addition, at the bottom
    // of the sum.
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
}

}  // namespace mrl
