#include "flat_codes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "../kernels/dispatch.hpp"

namespace mrl {
namespace {

constexpr std::size_t kPlanes =
    6;  // bits of a query's dim against bit codes: its error is then well below theirs
constexpr std::size_t kScan = 256;

float inverse_norm(const float* v, std::size_t dims) {
    double square = 0;
    for (std::size_t i = 0; i < dims; ++i) square += static_cast<double>(v[i]) * v[i];
    return square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.0f;
}

}  // namespace

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

void FlatCodes::prepare(const float* query, FlatQuery& prepared) const {
    if (precision_ == Precision::int8) {
        prepared.code.assign(round_up(dims_, kCacheLine), 0);
        prepared.scale = kernels().quantise_int8(query, dims_, prepared.code.data());
        if (metric_ == Metric::cosine) prepared.scale *= inverse_norm(query, dims_);
        return;
    }
    std::vector<float> centred(query, query + dims_);
    for (std::size_t i = 0; i < mean_.size() && metric_ == Metric::l2; ++i) centred[i] -= mean_[i];
    const auto [low, high] = std::minmax_element(centred.begin(), centred.end());
    constexpr int kSteps = (1 << kPlanes) - 1;
    prepared.lowest = *low;
    prepared.scale = (*high - *low) / static_cast<float>(kSteps);
    prepared.planes.assign(kPlanes * stride_, 0);
    int sum = 0;
    for (std::size_t i = 0; i < dims_; ++i) {
        const int step =
            prepared.scale > 0
                ? static_cast<int>(std::lrint((centred[i] - prepared.lowest) / prepared.scale))
                : 0;
        sum += step;
        for (std::size_t p = 0; p < kPlanes; ++p) {
            if ((step >> p & 1) == 0) continue;
            std::uint8_t& byte = prepared.planes[p * stride_ + i / 8];
            byte = static_cast<std::uint8_t>(byte | 1 << (i % 8));
        }
    }
    prepared.sum =
        prepared.lowest * static_cast<float>(dims_) + prepared.scale * static_cast<float>(sum);
}

void FlatCodes::finish(const FlatQuery& query, const std::int32_t* products,
                       const std::uint32_t* rows, std::size_t first, std::size_t n,
                       float* scores) const {
    const auto row = [&](std::size_t i) { return rows == nullptr ? first + i : rows[i]; };
    if (precision_ == Precision::int8) {
        for (std::size_t i = 0; i < n; ++i)
            scores[i] = -query.scale * factor_[row(i)] * static_cast<float>(products[i]);
    } else {
        for (std::size_t i = 0; i < n; ++i) {
            const float set = query.lowest * static_cast<float>(ones_[row(i)]) +
                              query.scale * static_cast<float>(products[i]);
            scores[i] = factor_[row(i)] * (query.sum - 2.0f * set);
        }
    }
    if (metric_ != Metric::l2) return;
    for (std::size_t i = 0; i < n; ++i) scores[i] += addend_[row(i)];
}

void FlatCodes::score(const Kernels& kernels, const FlatQuery& query, std::size_t first,
                      std::size_t n, float* scores) const {
    std::int32_t products[kScan];
    const std::uint8_t* codes = codes_.data() + first * stride_;
    if (precision_ == Precision::int8) {
        kernels.inner_product_int8(query.code.data(), reinterpret_cast<const std::int8_t*>(codes),
                                   n, stride_, dims_, products);
    } else {
        kernels.inner_product_bit(query.planes.data(), kPlanes, codes, n, stride_, stride_,
                                  products);
    }
    finish(query, products, nullptr, first, n, scores);
}

std::size_t FlatCodes::select(const Kernels& kernels, const FlatQuery& query, std::size_t first,
                              std::size_t n, float threshold, float* scores,
                              std::uint32_t* places) const {
    std::int32_t products[kScan];
    kernels.inner_product_int8(query.code.data(), code(first), n, stride_, dims_, products);
    return kernels.select_products(products, factors() + first,
                                   addends() == nullptr ? nullptr : addends() + first, n,
                                   query.scale, threshold, scores, places);
}

void FlatCodes::score_at(const Kernels& kernels, const FlatQuery& query, const std::uint32_t* rows,
                         std::size_t n, float* scores) const {
    for (std::size_t first = 0; first < n; first += kScan) {
        const std::size_t count = std::min(kScan, n - first);
        std::int32_t products[kScan];
        if (precision_ == Precision::int8) {
            kernels.inner_product_int8_at(query.code.data(),
                                          reinterpret_cast<const std::int8_t*>(codes_.data()),
                                          rows + first, count, stride_, dims_, products);
        } else {
            for (std::size_t i = 0; i < count; ++i) {
                kernels.inner_product_bit(query.planes.data(), kPlanes,
                                          codes_.data() + rows[first + i] * stride_, 1, stride_,
                                          stride_, products + i);
            }
        }
        finish(query, products, rows + first, 0, count, scores + first);
    }
}

}  // namespace mrl
