#include "line_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../kernels/dispatch.hpp"
#include "../kernels/pack.hpp"

namespace mrl {
namespace {

constexpr float kStep = 0.25f;           // of the row's rms, for codes of sixteen steps
constexpr std::size_t kPlane = 60;       // coordinates in each of the four two-bit places of a line
constexpr std::size_t kQueryPlane = 64;  // and where the next plane's begin in a query
constexpr float kLargestHalf = 65504.0f;

void put_tail(std::uint8_t* line, float addend, float factor) {
    const std::uint16_t halves[2] = {
        float_to_half(std::clamp(addend, -kLargestHalf, kLargestHalf)),
        float_to_half(std::clamp(factor, -kLargestHalf, kLargestHalf))};
    std::memcpy(line + kPlane, halves, sizeof halves);
}

}  // namespace

void LineCodes::encode(std::size_t slot, const float* z, float square) {
    std::uint8_t* high = high_.data() + slot * kLineBytes;
    std::uint8_t* low = low_.data() + slot * kLineBytes;
    std::memset(high, 0, kLineBytes);
    std::memset(low, 0, kLineBytes);
    float sum = 0;
    for (std::size_t j = 0; j < kLineCoordinates; ++j) sum += z[j] * z[j];
    const float addend = metric_ == Metric::l2 ? 0.5f * square / (unit_ * unit_) : 0.0f;
    const float rms = std::sqrt(sum / static_cast<float>(kLineCoordinates));
    const float inverse = 1.0f / (kStep * rms);
    if (!(inverse < 1e30f)) {  // the row is the mean, as far as the projection can see
        put_tail(high, addend, 0.0f);
        put_tail(low, addend, 0.0f);
        return;
    }
    float with_high = 0, with_both = 0;
    for (std::size_t j = 0; j < kLineCoordinates; ++j) {
        const int code = static_cast<int>(std::clamp(z[j] * inverse + 8.0f, 0.0f, 15.0f));
        with_high += (static_cast<float>(4 * (code >> 2)) - 6.0f) * z[j];
        with_both += (static_cast<float>(code) - 7.5f) * z[j];
        const std::size_t byte = j % kPlane, shift = 2 * (j / kPlane);
        high[byte] = static_cast<std::uint8_t>(high[byte] | (code >> 2) << shift);
        low[byte] = static_cast<std::uint8_t>(low[byte] | (code & 3) << shift);
    }
    const float length = metric_ == Metric::cosine ? std::sqrt(square * sum) : sum;
    put_tail(high, addend, length / with_high / unit_);
    put_tail(low, addend, length / with_both / unit_);
}

void LineCodes::put_nowhere(std::uint8_t* high, std::uint8_t* low) {
    for (std::uint8_t* line : {high, low}) {
        std::memset(line, 0, kLineBytes);
        put_tail(line, kLargestHalf, 0.0f);
    }
}

float LineCodes::unpack(const std::uint8_t* high, const std::uint8_t* low,
                        std::int8_t* coordinates) const {
    kernels().unpack_line(high, low, coordinates);
    std::uint16_t half;
    std::memcpy(&half, low + kPlane + sizeof half, sizeof half);
    return 0.5f * unit_ * half_to_float(half);
}

void LineCodes::decode(const std::uint8_t* high, const std::uint8_t* low, float* z) const {
    std::int8_t coordinates[4 * kQueryPlane];
    const float scale = unpack(high, low, coordinates);
    for (std::size_t p = 0; p < 4; ++p) {
        for (std::size_t b = 0; b < kPlane; ++b)
            z[kPlane * p + b] = scale * static_cast<float>(coordinates[kQueryPlane * p + b]);
    }
}

void LineCodes::prepare(const float* coordinates, LineQuery& query) const {
    std::int8_t codes[kLineCoordinates];
    const float scale = kernels().quantise_int8(coordinates, kLineCoordinates, codes);
    std::memset(query.coordinates, 0, sizeof query.coordinates);
    query.sum = 0;
    for (std::size_t p = 0; p < 4; ++p)
        std::memcpy(query.coordinates + kQueryPlane * p, codes + kPlane * p, kPlane);
    for (std::size_t j = 0; j < kLineCoordinates; ++j) query.sum += codes[j];
    query.half_scale = 0.5f * scale / unit_;
}

}  // namespace mrl
