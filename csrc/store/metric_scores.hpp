// The one home of metric -> kernel: float32 scores of rows, smaller for nearer ones.
#pragma once

#include <cstddef>

#include "../kernels/kernels.hpp"
#include "words.hpp"

namespace mrl {

// The cosine distance, minus the inner product, or the squared L2 distance of n rows.
inline void metric_scores(const Kernels& kernels, Metric metric, const float* query,
                          const float* rows, std::size_t n, std::size_t row_stride,
                          std::size_t dims, float* out) {
    switch (metric) {
        case Metric::cosine:
            return kernels.cosine_distance(query, rows, n, row_stride, dims, out);
        case Metric::l2:
            return kernels.squared_l2(query, rows, n, row_stride, dims, out);
        case Metric::inner_product:
            kernels.inner_product(query, rows, n, row_stride, dims, out);
            for (std::size_t i = 0; i < n; ++i) out[i] = -out[i];
    }
}

}  // namespace mrl
