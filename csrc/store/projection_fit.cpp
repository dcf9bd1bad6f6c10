#include "projection_fit.hpp"

#include <algorithm>
#include <cmath>

#include "../kernels/dispatch.hpp"
#include "../kernels/kernels.hpp"
#include "../system/random.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

constexpr std::size_t kRounds = 12;  // of subspace iteration: the recall of more is the same
constexpr std::size_t kBlockRows =
    1024;  // of the sample: a block of all dims stays in the second-level cache
constexpr double kMostProducts =
    8e10;  // multiplications of a covariance; a wide one takes a smaller sample …
constexpr std::size_t kFewestRows = 4096;  // … but not a smaller one than this
constexpr unsigned long kSeed = 20261122;

float product(const float* a, const float* b, std::size_t n) {
    float sum;
    kernels().inner_product(a, b, 1, n, n, &sum);
    return sum;
}

// Gram–Schmidt, twice over, as once leaves what cancellation lost.
void orthonormalise(std::vector<float>& rows, std::size_t n, std::size_t width) {
    for (std::size_t i = 0; i < n; ++i) {
        float* row = rows.data() + i * width;
        for (int pass = 0; pass < 2; ++pass) {
            for (std::size_t j = 0; j < i; ++j) {
                const float* other = rows.data() + j * width;
                const float share = product(row, other, width);
                for (std::size_t d = 0; d < width; ++d) row[d] -= share * other[d];
            }
        }
        const float inverse = 1.0f / std::sqrt(std::max(product(row, row, width), 1e-30f));
        for (std::size_t d = 0; d < width; ++d) row[d] *= inverse;
    }
}

// Sum of x x^T over the centred rows, up to a factor; the upper half is worked out and mirrored.
std::vector<float> covariance(const std::vector<float>& sample, const std::vector<float>& mean,
                              std::size_t n, std::size_t threads,
                              const std::function<void()>& pause) {
    const std::size_t dims = mean.size();
    std::vector<float> sum(dims * dims, 0.0f), turned(dims * kBlockRows);
    for (std::size_t first = 0; first < n; first += kBlockRows) {
        const std::size_t count = std::min(kBlockRows, n - first);
        for (std::size_t i = 0; i < count; ++i) {
            const float* row = sample.data() + (first + i) * dims;
            for (std::size_t d = 0; d < dims; ++d) turned[d * kBlockRows + i] = row[d] - mean[d];
        }
        constexpr std::size_t kTogether = 16;  // columns a task
        parallel_for(threads, (dims + kTogether - 1) / kTogether,
                     [&](std::size_t task, std::size_t) {
                         std::vector<float> products(dims);
                         for (std::size_t d = task * kTogether;
                              d < std::min(dims, (task + 1) * kTogether); ++d) {
                             kernels().inner_product(turned.data() + d * kBlockRows,
                                                     turned.data() + d * kBlockRows, dims - d,
                                                     kBlockRows, count, products.data());
                             for (std::size_t e = d; e < dims; ++e)
                                 sum[d * dims + e] += products[e - d];
                         }
                     });
        pause();
    }
    for (std::size_t d = 0; d < dims; ++d) {
        for (std::size_t e = 0; e < d; ++e) sum[d * dims + e] = sum[e * dims + d];
    }
    return sum;
}

// The leading directions of the sample, `kept` rows of dims floats: a few more are iterated, so
// that the last of them settle too.
std::vector<float> leading_directions(const std::vector<float>& sample,
                                      const std::vector<float>& mean, std::size_t n,
                                      std::size_t kept, std::size_t threads,
                                      const std::function<void()>& pause) {
    const std::size_t dims = mean.size(), wide = std::min(dims, kept + kept / 8);
    const std::vector<float> spread = covariance(sample, mean, n, threads, pause);
    std::mt19937_64 random(kSeed);
    std::vector<float> basis(wide * dims), next(wide * dims);
    for (float& value : basis) value = draw_normal(random);
    orthonormalise(basis, wide, dims);
    for (std::size_t round = 0; round < kRounds; ++round) {
        parallel_for(threads, wide, [&](std::size_t i, std::size_t) {
            kernels().inner_product(basis.data() + i * dims, spread.data(), dims, dims, dims,
                                    next.data() + i * dims);
        });
        basis.swap(next);
        orthonormalise(basis, wide, dims);
        pause();
    }
    basis.resize(kept * dims);
    return basis;
}

}  // namespace

ProjectionFit fit_projection(std::vector<float>& sample, std::size_t dims, std::size_t prefix,
                             std::size_t threads, const std::function<void()>& pause) {
    const std::size_t width = prefix == 0 ? dims : std::min(prefix, dims),
                      kept = std::min(width, kLineCoordinates);
    std::size_t n = sample.size() / dims;
    if (static_cast<double>(dims) * static_cast<double>(dims) * static_cast<double>(n) >
        kMostProducts) {
        const auto fewer =
            static_cast<std::size_t>(kMostProducts / static_cast<double>(dims * dims));
        n = std::min(n, std::max(kFewestRows, fewer));
    }
    ProjectionFit fit{std::vector<float>(dims * kLineCoordinates, 0.0f),
                      std::vector<float>(dims, 0.0f)};
    std::vector<double> sums(dims, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t d = 0; d < dims; ++d) sums[d] += sample[i * dims + d];
    }
    for (std::size_t d = 0; d < dims && n != 0; ++d)
        fit.mean[d] = static_cast<float>(sums[d] / static_cast<double>(n));

    std::vector<float> directions;
    if (kept == width || n < 2) {
        directions.assign(kept * dims, 0.0f);
        for (std::size_t i = 0; i < kept; ++i) directions[i * dims + i] = 1.0f;
    } else if (width == dims) {
        directions = leading_directions(sample, fit.mean, n, kept, threads, pause);
    } else {  // PCA within the prefix
        std::vector<float> shorter(n * width);
        for (std::size_t i = 0; i < n; ++i)
            std::copy_n(sample.data() + i * dims, width, shorter.data() + i * width);
        const std::vector<float> mean(fit.mean.begin(),
                                      fit.mean.begin() + static_cast<std::ptrdiff_t>(width));
        const std::vector<float> found = leading_directions(shorter, mean, n, kept, threads, pause);
        directions.assign(kept * dims, 0.0f);
        for (std::size_t i = 0; i < kept; ++i)
            std::copy_n(found.data() + i * width, width, directions.data() + i * dims);
    }
    std::mt19937_64 random(kSeed + 1);
    std::vector<float> rotation(kLineCoordinates * kLineCoordinates);
    for (float& value : rotation) value = draw_normal(random);
    orthonormalise(rotation, kLineCoordinates, kLineCoordinates);
    for (std::size_t i = 0; i < kept; ++i) {
        for (std::size_t d = 0; d < dims; ++d) {
            const float share = directions[i * dims + d];
            if (share == 0.0f) continue;
            float* row = fit.matrix.data() + d * kLineCoordinates;
            for (std::size_t c = 0; c < kLineCoordinates; ++c)
                row[c] += share * rotation[i * kLineCoordinates + c];
        }
    }
    return fit;
}

}  // namespace mrl
