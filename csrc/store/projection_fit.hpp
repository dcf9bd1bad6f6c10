// Fits what line codes project to: PCA of a sample by subspace iteration, without a library of
// linear algebra, or the first dims; then a random rotation to all coordinates, so that each
// carries the same share (line_codes.hpp).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace mrl {

constexpr std::size_t kProjectionSample = 20000;  // rows that are enough

struct ProjectionFit {
    std::vector<float> matrix;  // dims rows of kLineCoordinates floats, as Projection takes it
    std::vector<float> mean;    // dims floats
};

// sample: n rows of dims floats as the metric sees them; changed. prefix: project from the first so
// many dims alone, or 0. `pause` is called now and then from the calling thread, and may throw.
ProjectionFit fit_projection(std::vector<float>& sample, std::size_t dims, std::size_t prefix,
                             std::size_t threads, const std::function<void()>& pause);

}  // namespace mrl
