#include "projection.hpp"

#include <algorithm>
#include <cstring>

#include "../kernels/dispatch.hpp"
#include "../kernels/pack.hpp"

namespace mrl {

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
    const std::size_t most = std::min(kAtOnce, n);
    std::vector<std::int8_t> gathered(most * stride_);
    std::vector<std::int32_t> products(most * kColumns);
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

float Projection::project(const RowQuery& query, float* coordinates) const {
    std::int32_t products[kColumns];
    kernels().tile_int8(query.code.data(), 1, stride_, packed_.data(), kColumns / 16, stride_,
                        products, kColumns);
    const bool centred = metric_ == Metric::l2;
    for (std::size_t c = 0; c < kLineCoordinates; ++c) {
        coordinates[c] = query.scale * scale_[c] * static_cast<float>(products[c]) -
                         (centred ? centre_[c] : 0.0f);
    }
    if (metric_ == Metric::cosine) return 1.0f;
    const double square = query.norm * query.norm;
    if (!centred) return static_cast<float>(square);
    const double with_mean =
        static_cast<double>(query.scale) * scale_[kLineCoordinates] * products[kLineCoordinates];
    return static_cast<float>(std::max(0.0, square - 2.0 * with_mean + mean_square_));
}

}  // namespace mrl
