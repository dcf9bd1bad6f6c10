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

Projection::Projection(Metric metric, std::size_t dims, const float* matrix, const float* mean)
    : metric_(metric), dims_(dims), stride_(round_up(dims, kCacheLine)) {
    columns_.resize(kColumns * stride_);
    packed_.resize(kColumns * stride_);
    scale_.assign(kColumns, 0.0f);
    centre_.assign(kLineCoordinates, 0.0f);
    std::vector<float> column(dims);
    const std::int8_t* rows[kColumns];
    for (std::size_t c = 0; c < kColumns; ++c) {
        std::fill(column.begin(), column.end(), 0.0f);
        double centre = 0;
        for (std::size_t d = 0; d < dims && c < kLineCoordinates; ++d) {
            column[d] = matrix[d * kLineCoordinates + c];
            centre += static_cast<double>(column[d]) * mean[d];
        }
        if (c < kLineCoordinates) centre_[c] = static_cast<float>(centre);
        if (c == kLineCoordinates) std::copy_n(mean, dims, column.begin());
        scale_[c] = kernels().quantise_int8(column.data(), dims, columns_.data() + c * stride_);
        rows[c] = columns_.data() + c * stride_;
    }
    for (std::size_t d = 0; d < dims; ++d) mean_square_ += static_cast<double>(mean[d]) * mean[d];
    pack_tile(rows, kColumns, stride_, packed_.data());
}

bool Projection::restore(Metric metric, std::size_t dims) {
    metric_ = metric;
    dims_ = dims;
    stride_ = round_up(dims, kCacheLine);
    if (columns_.size() != kColumns * stride_ || scale_.size() != kColumns ||
        centre_.size() != kLineCoordinates)
        return false;
    const std::int8_t* rows[kColumns];
    for (std::size_t c = 0; c < kColumns; ++c) rows[c] = columns_.data() + c * stride_;
    packed_.resize(kColumns * stride_);
    pack_tile(rows, kColumns, stride_, packed_.data());
    return true;
}

void Projection::project(const Rows& rows, const std::uint32_t* which, std::size_t n,
                         float* coordinates, float* squares) const {
    constexpr std::size_t kAtOnce = 24;
    std::vector<std::int8_t> gathered(kAtOnce * stride_);
    std::vector<std::int32_t> products(kAtOnce * kColumns);
    for (std::size_t first = 0; first < n; first += kAtOnce) {
        const std::size_t count = std::min(kAtOnce, n - first);
        for (std::size_t i = 0; i < count; ++i)
            std::memcpy(gathered.data() + i * stride_, rows.code(which[first + i]), stride_);
        kernels().tile_int8(gathered.data(), count, stride_, packed_.data(), kColumns / 16, stride_,
                            products.data(), kColumns);
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t* product = products.data() + i * kColumns;
            const float scale = rows.scale(which[first + i]);
            float* z = coordinates + (first + i) * kLineCoordinates;
            for (std::size_t c = 0; c < kLineCoordinates; ++c)
                z[c] = scale * scale_[c] * static_cast<float>(product[c]) - centre_[c];
            const double with_mean =
                static_cast<double>(scale) * scale_[kLineCoordinates] * product[kLineCoordinates];
            squares[first + i] = static_cast<float>(
                std::max(0.0, rows.square(which[first + i]) - 2.0 * with_mean + mean_square_));
        }
    }
}

void Projection::project(const RowQuery& query, float* coordinates) const {
    std::int32_t products[kColumns];
    kernels().tile_int8(query.code.data(), 1, stride_, packed_.data(), kColumns / 16, stride_,
                        products, kColumns);
    const bool centred = metric_ == Metric::l2;
    for (std::size_t c = 0; c < kLineCoordinates; ++c) {
        coordinates[c] = query.scale * scale_[c] * static_cast<float>(products[c]) -
                         (centred ? centre_[c] : 0.0f);
    }
}

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

float LineCodes::unpack(const std::uint8_t* high, const std::uint8_t* low,
                        std::int8_t* coordinates) const {
    std::uint16_t half;
    std::memcpy(&half, low + kPlane + sizeof half, sizeof half);
    for (std::size_t plane = 0; plane < 4; ++plane) {
        const std::size_t shift = 2 * plane;
        for (std::size_t byte = 0; byte < kPlane; ++byte) {
            const int code = 4 * (high[byte] >> shift & 3) + (low[byte] >> shift & 3);
            coordinates[kPlane * plane + byte] = static_cast<std::int8_t>(2 * code - 15);
        }
    }
    return 0.5f * unit_ * half_to_float(half);
}

void LineCodes::decode(std::size_t slot, float* z) const {
    std::int8_t coordinates[kLineCoordinates];
    const float scale =
        unpack(high_.data() + slot * kLineBytes, low_.data() + slot * kLineBytes, coordinates);
    for (std::size_t j = 0; j < kLineCoordinates; ++j) {
        z[j] = scale * static_cast<float>(coordinates[j]);
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
