#include "flat_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../kernels/dispatch.hpp"

namespace mrl {
float inverse_norm(const float* v, std::size_t dims) {
    double square = 0;
    for (std::size_t i = 0; i < dims; ++i) square += static_cast<double>(v[i]) * v[i];
    return square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.0f;
}

FlatCodes::FlatCodes(Metric metric, Space space, std::size_t dims, Precision precision,
                     std::vector<float> mean)
    : metric_(metric),
      space_(space),
      dims_(dims),
      precision_(precision),
      stride_(precision == Precision::bit ? round_up((dims + 7) / 8, 8)
              : dims % kCacheLine == 0    ? dims
                                          : round_up(dims, 16)),
      mean_(std::move(mean)) {}

void FlatCodes::resize(std::size_t rows) {
    codes_.resize(rows * stride_);
    factor_.resize(rows);
    if (metric_ == Metric::l2) addend_.resize(rows);
    if (precision_ == Precision::bit) ones_.resize(rows);
}

bool FlatCodes::make_room(std::size_t rows, Growth growth) {
    bool has_room = codes_.make_room(rows * stride_, growth);
    has_room &= factor_.make_room(rows, growth);
    if (metric_ == Metric::l2) has_room &= addend_.make_room(rows, growth);
    if (precision_ == Precision::bit) has_room &= ones_.make_room(rows, growth);
    return has_room;
}

bool FlatCodes::has_room(std::size_t rows) const {
    return codes_.has_room(rows * stride_) && factor_.has_room(rows) &&
           (metric_ != Metric::l2 || addend_.has_room(rows)) &&
           (precision_ != Precision::bit || ones_.has_room(rows));
}

void FlatCodes::encode(std::size_t row, const float* vector) {
    const float inverse = metric_ == Metric::inner_product ? 1.0f : inverse_norm(vector, dims_);
    const double norm = inverse > 0 ? 1.0 / inverse : 0.0;
    encode(row, vector, metric_ == Metric::cosine ? inverse : 1.0f, 0.5 * norm * norm);
}

void FlatCodes::encode(std::size_t row, const float* coordinates, float square) {
    const float whole =
        metric_ == Metric::cosine ? std::sqrt(square) * inverse_norm(coordinates, dims_) : 1.0f;
    encode(row, coordinates, whole, 0.5 * square);
}

void FlatCodes::encode(std::size_t row, const float* values, float stretch, double half_square) {
    std::uint8_t* code = codes_.data() + row * stride_;
    if (precision_ == Precision::int8) {
        factor_[row] =
            stretch * kernels().quantise_int8(values, dims_, reinterpret_cast<std::int8_t*>(code));
        if (metric_ == Metric::l2) addend_[row] = static_cast<float>(half_square);
        return;
    }
    std::memset(code, 0, stride_);
    double square = 0, magnitudes = 0;
    std::size_t ones = 0;
    for (std::size_t i = 0; i < dims_; ++i) {
        const float y = stretch * values[i] - (mean_.empty() ? 0.0f : mean_[i]);
        square += static_cast<double>(y) * y;
        magnitudes += std::fabs(y);
        if (y > 0) {
            code[i / 8] = static_cast<std::uint8_t>(code[i / 8] | 1 << (i % 8));
            ++ones;
        }
    }
    factor_[row] = magnitudes > 0 ? static_cast<float>(square / magnitudes) : 0.0f;
    ones_[row] = static_cast<std::uint16_t>(ones);
    if (metric_ == Metric::l2)
        addend_[row] = static_cast<float>(mean_.empty() ? half_square : 0.5 * square);
}

}  // namespace mrl
