#include "rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

constexpr std::size_t kBlock = 256;  // rows that a thread encodes before it takes more

// Two sums, of even and of odd positions: a compiler may not put them into one register by itself,
// and a search waits for them.
double square_of(const float* v, std::size_t dims) {
    using Floats = float __attribute__((vector_size(8)));
    using Doubles = double __attribute__((vector_size(16)));
    Doubles sums = {0, 0};
    std::size_t i = 0;
    for (; i + 2 <= dims; i += 2) {
        Floats two;
        std::memcpy(&two, v + i, sizeof two);
        const Doubles wide = __builtin_convertvector(two, Doubles);
        sums += wide * wide;
    }
    if (i < dims) sums[0] += static_cast<double>(v[i]) * v[i];
    return sums[0] + sums[1];
}

// |x - x'|, x' what the code says.
double error_of(const float* vector, float scale, const std::int8_t* code, std::size_t dims) {
    constexpr std::size_t kLanes = 8;
    float sums[kLanes] = {};
    if (!(scale > 0)) return 0.0;
    const float inverse = 1.0f / scale;
    std::size_t i = 0;
    for (; i + kLanes <= dims; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float off = vector[i + lane] * inverse - static_cast<float>(code[i + lane]);
            sums[lane] += off * off;
        }
    }
    for (; i < dims; ++i) {
        const float off = vector[i] * inverse - static_cast<float>(code[i]);
        sums[0] += off * off;
    }
    double square = 0;
    for (const float sum : sums) square += sum;
    return scale * std::sqrt(square);
}

float rounded_up(double value) {
    return std::nextafter(static_cast<float>(value), std::numeric_limits<float>::infinity());
}

// Makes a number that others read, and raise, at least so large.
void raise(float& number, float least) {
    float now;
    __atomic_load(&number, &now, __ATOMIC_RELAXED);
    while (now < least && !__atomic_compare_exchange(&number, &now, &least, true, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
    }
}

float value_of(const float& number) {
    float now;
    __atomic_load(&number, &now, __ATOMIC_RELAXED);
    return now;
}

}  // namespace

Rows::Rows(Metric metric, std::size_t dims, bool keep_vectors)
    : metric_(metric),
      dims_(dims),
      code_stride_(round_up(dims, kCacheLine)),
      keep_vectors_(keep_vectors) {}

void Rows::reserve(std::size_t rows) {
    if (keep_vectors_) vectors_.reserve(rows * dims_);
    codes_.reserve(rows * code_stride_);
    scale_.reserve(rows);
    square_.reserve(rows);
    if (metric_ == Metric::cosine) inverse_norm_.reserve(rows);
}

bool Rows::make_room(std::size_t rows, Growth growth) {
    bool has_room = codes_.make_room(rows * code_stride_, growth);
    if (keep_vectors_) has_room &= vectors_.make_room(rows * dims_, growth);
    has_room &= scale_.make_room(rows, growth);
    has_room &= square_.make_room(rows, growth);
    if (metric_ == Metric::cosine) has_room &= inverse_norm_.make_room(rows, growth);
    return has_room;
}

bool Rows::has_room(std::size_t rows) const {
    return codes_.has_room(rows * code_stride_) && scale_.has_room(rows) &&
           square_.has_room(rows) && (!keep_vectors_ || vectors_.has_room(rows * dims_)) &&
           (metric_ != Metric::cosine || inverse_norm_.has_room(rows));
}

void Rows::encode(std::size_t row, const float* vector) {
    const double square = square_of(vector, dims_);
    const float scale = kernels().quantise_int8(vector, dims_, codes_.data() + row * code_stride_);
    double length = std::sqrt(square),
           error = error_of(vector, scale, codes_.data() + row * code_stride_, dims_);
    if (metric_ == Metric::cosine && length > 0) {
        error /= length;
        length = 1.0;
    }
    raise(most_error_, rounded_up(error));
    raise(longest_, rounded_up(length));
    if (metric_ == Metric::cosine) {
        const double norm = std::sqrt(square);
        inverse_norm_[row] =
            norm > 0 ? static_cast<float>(1.0 / norm) : std::numeric_limits<float>::quiet_NaN();
        scale_[row] = norm > 0 ? static_cast<float>(scale / norm) : 0.0f;
        square_[row] = norm > 0 ? 1.0f : 0.0f;
    } else {
        scale_[row] = scale;
        square_[row] =
            static_cast<float>(std::min<double>(square, std::numeric_limits<float>::max()));
    }
    if (keep_vectors_) std::copy_n(vector, dims_, vectors_.data() + row * dims_);
}

void Rows::append(const float* vectors, std::size_t n, std::size_t vector_stride,
                  std::size_t threads) {
    const std::size_t first = size(), rows = first + n;
    make_room(rows, Growth::moves);
    parallel_for(threads, (n + kBlock - 1) / kBlock, [&](std::size_t block, std::size_t) {
        const std::size_t end = std::min(n, (block + 1) * kBlock);
        for (std::size_t i = block * kBlock; i < end; ++i)
            encode(first + i, vectors + i * vector_stride);
    });
    lengthen(rows);
}

void Rows::write_ahead(const float* vector) { encode(size(), vector); }

// The scales last: they are what size() goes by.
void Rows::lengthen(std::size_t rows) {
    if (keep_vectors_) vectors_.resize(rows * dims_);
    codes_.resize(rows * code_stride_);
    square_.resize(rows);
    if (metric_ == Metric::cosine) inverse_norm_.resize(rows);
    scale_.resize(rows);
}

bool Rows::equals(std::size_t row, const float* vector) const {
    if (keep_vectors_) return std::memcmp(this->vector(row), vector, dims_ * sizeof(float)) == 0;
    std::vector<std::int8_t> other(code_stride_);
    const double square = square_of(vector, dims_);
    const float scale = kernels().quantise_int8(vector, dims_, other.data());
    if (std::memcmp(code(row), other.data(), dims_) != 0) return false;
    if (metric_ != Metric::cosine) return scale_[row] == scale;
    return scale_[row] == (square > 0 ? static_cast<float>(scale / std::sqrt(square)) : 0.0f);
}

void Rows::replace(std::size_t row, const float* vector) { encode(row, vector); }

void Rows::prepare(const float* query, RowQuery& prepared) const {
    prepared.values = query;
    // In float64, in one order: it is in the margin that ends a walk, and a walk is the same on
    // every instruction set.
    prepared.norm = std::sqrt(square_of(query, dims_));
    prepared.code.assign(code_stride_, 0);
    prepared.scale = kernels().quantise_int8(query, dims_, prepared.code.data());
    if (metric_ == Metric::cosine)
        prepared.scale =
            prepared.norm > 0 ? static_cast<float>(prepared.scale / prepared.norm) : 0.0f;
}

float score_noise(const RowQuery& query, Metric metric, float scale, float square) {
    const bool cosine = metric == Metric::cosine;
    const double with_row = scale * (cosine ? 1.0 : query.norm),
                 with_query = query.scale * (cosine ? 1.0 : std::sqrt(static_cast<double>(square)));
    return static_cast<float>(std::sqrt((with_row * with_row + with_query * with_query) / 12.0));
}

void Rows::score(const Kernels& kernels, const RowQuery& query, const std::uint32_t* rows,
                 std::size_t n, float* scores) const {
    constexpr std::size_t kAtOnce = 256;
    std::int32_t products[kAtOnce];
    for (std::size_t first = 0; first < n; first += kAtOnce) {
        const std::size_t count = std::min(kAtOnce, n - first);
        for (std::size_t i = 0; i < count; ++i) {
            __builtin_prefetch(scale_.data() + rows[first + i]);
            if (metric_ == Metric::l2) __builtin_prefetch(square_.data() + rows[first + i]);
        }
        kernels.inner_product_int8_at(query.code.data(), codes_.data(), rows + first, count,
                                      code_stride_, dims_, products);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t row = rows[first + i];
            const float base = metric_ == Metric::l2 ? 0.5f * square_[row] : 0.0f;
            scores[first + i] = base - query.scale * scale_[row] * static_cast<float>(products[i]);
        }
    }
}

void Rows::distances(const Kernels& kernels, const RowQuery& query, const std::uint32_t* rows,
                     std::size_t n, double* out) const {
    constexpr std::size_t kAhead = 3;
    for (std::size_t i = 0; i < n && i < kAhead; ++i) fetch_vector(rows[i]);
    for (std::size_t i = 0; i < n; ++i) {
        if (i + kAhead < n) fetch_vector(rows[i + kAhead]);
        const float* vector = vectors_.data() + rows[i] * dims_;
        float value;
        switch (metric_) {
            case Metric::l2:
                kernels.squared_l2(query.values, vector, 1, dims_, dims_, &value);
                out[i] = std::sqrt(static_cast<double>(value));
                break;
            case Metric::inner_product:
                kernels.inner_product(query.values, vector, 1, dims_, dims_, &value);
                out[i] = -static_cast<double>(value);
                break;
            case Metric::cosine: {
                kernels.inner_product(query.values, vector, 1, dims_, dims_, &value);
                const double similarity =
                    static_cast<double>(value) * inverse_norm_[rows[i]] / query.norm;
                out[i] = std::isnan(similarity) ? similarity
                                                : 1.0 - std::min(1.0, std::max(-1.0, similarity));
                break;
            }
        }
    }
}

double Rows::distance_of_score(const RowQuery& query, float score) const {
    switch (metric_) {
        case Metric::cosine:
            return 1.0 + std::min(1.0, std::max(-1.0, static_cast<double>(score)));
        case Metric::inner_product:
            return score;
        case Metric::l2:
            break;
    }
    return std::sqrt(std::max(0.0, query.norm * query.norm + 2.0 * static_cast<double>(score)));
}

double Rows::score_of_distance(const RowQuery& query, double distance) const {
    switch (metric_) {
        case Metric::cosine:
            return distance - 1.0;
        case Metric::inner_product:
            return distance;
        case Metric::l2:
            break;
    }
    return 0.5 * (distance * distance - query.norm * query.norm);
}

double Rows::most_off(const RowQuery& query) const {
    // What float32 rounds away of products and of distances, in shares of the lengths.
    constexpr double kRounded = 4e-6;
    const bool cosine = metric_ == Metric::cosine;
    const double length = cosine ? 1.0 : query.norm, longest = value_of(longest_),
                 error = value_of(most_error_);
    const double norm = cosine && query.norm > 0 ? query.norm : 1.0;
    const double of_query =
        error_of(query.values, static_cast<float>(query.scale * norm), query.code.data(), dims_) /
        norm;
    const double rounded = length * longest + (metric_ == Metric::l2 ? longest * longest : 0.0);
    return length * error + of_query * (longest + error) + kRounded * rounded;
}

void Rows::fetch_code(std::size_t row) const {
    const std::int8_t* p = codes_.data() + row * code_stride_;
    for (std::size_t i = 0; i < code_stride_; i += kCacheLine) __builtin_prefetch(p + i);
}

void Rows::fetch_vector(std::size_t row) const {
    const char* p = reinterpret_cast<const char*>(vectors_.data() + row * dims_);
    for (std::size_t i = 0; i < dims_ * sizeof(float); i += kCacheLine) __builtin_prefetch(p + i);
    if (metric_ == Metric::cosine) __builtin_prefetch(inverse_norm_.data() + row);
}

void Rows::decode(std::size_t row, float* vector) const {
    if (keep_vectors_ && metric_ != Metric::cosine) {
        std::copy_n(vectors_.data() + row * dims_, dims_, vector);
        return;
    }
    const std::int8_t* c = code(row);
    for (std::size_t i = 0; i < dims_; ++i) vector[i] = scale_[row] * static_cast<float>(c[i]);
}

}  // namespace mrl
