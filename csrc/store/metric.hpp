// The one home of how a metric compares float32 vectors: in float32, in float64, and how far the
// two may be apart. What codes say of a distance is in rows.hpp, flat_codes.hpp and line_codes.hpp.
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

// pgvector's distance in float64; a NaN where cosine has no direction to compare.
double exact_distance(Metric metric, const float* query, const float* row, std::size_t dims,
                      double query_norm);

// A vector's length in float64.
double exact_norm(const float* vector, std::size_t dims);

// What a distance is in the unit of metric_scores(), rounded up.
inline double score_of_distance(Metric metric, double distance) {
    return metric == Metric::l2 ? distance * distance * (1.0 + 1e-12) : distance;
}

// How far metric_scores() may lie from the float64 value of rows whose lengths, by a float32
// kernel, are in this range; infinity where no bound holds.
double score_error(Metric metric, std::size_t dims, double query_norm, double smallest_row_norm,
                   double largest_row_norm);

}  // namespace mrl
