#include "metric.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mrl {
namespace {

constexpr double kNoBound = std::numeric_limits<double>::infinity();

double dot(const float* a, const float* b, std::size_t dims) {
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    std::size_t i = 0;
    for (; i + 4 <= dims; i += 4) {
        s0 += static_cast<double>(a[i]) * b[i];
        s1 += static_cast<double>(a[i + 1]) * b[i + 1];
        s2 += static_cast<double>(a[i + 2]) * b[i + 2];
        s3 += static_cast<double>(a[i + 3]) * b[i + 3];
    }
    for (; i < dims; ++i) s0 += static_cast<double>(a[i]) * b[i];
    return (s0 + s1) + (s2 + s3);
}

double squared_l2(const float* a, const float* b, std::size_t dims) {
    double s0 = 0, s1 = 0;
    std::size_t i = 0;
    for (; i + 2 <= dims; i += 2) {
        const double d0 = static_cast<double>(a[i]) - b[i],
                     d1 = static_cast<double>(a[i + 1]) - b[i + 1];
        s0 += d0 * d0;
        s1 += d1 * d1;
    }
    if (i < dims) s0 += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    return s0 + s1;
}

}  // namespace

double exact_norm(const float* vector, std::size_t dims) {
    return std::sqrt(dot(vector, vector, dims));
}

double exact_distance(Metric metric, const float* query, const float* row, std::size_t dims,
                      double query_norm) {
    switch (metric) {
        case Metric::inner_product:
            return -dot(query, row, dims);
        case Metric::l2:
            return std::sqrt(squared_l2(query, row, dims));
        case Metric::cosine:
            break;
    }
    const double similarity = dot(query, row, dims) / (query_norm * std::sqrt(dot(row, row, dims)));
    return std::isnan(similarity) ? similarity : 1.0 - std::min(1.0, std::max(-1.0, similarity));
}

// A sum of `dims` products in float32, in any order and with or without fma, errs by at most
// gamma(dims) * sum |q_j r_j| <= gamma(dims) |q| |r| (Higham, ASNA, section 3.1, and
// Cauchy-Schwarz). The factor 4 and the + 8 cover the two norms, the roots and the division of a
// cosine, and the float64 side. At the ends of float32's range squares overflow or lose their
// digits, no bound holds, and the rows are scored in float64.
double score_error(Metric metric, std::size_t dims, double query_norm, double smallest_row_norm,
                   double largest_row_norm) {
    const double gamma = 4.0 * (static_cast<double>(dims) + 8.0) * std::ldexp(1.0, -24);
    const double q = query_norm,
                 r = largest_row_norm * 1.001;  // the norms came from a float32 kernel
    const double tiny = 1e-15, huge = 1e15;
    if (!(q < huge) || !(r < huge)) return kNoBound;
    switch (metric) {
        case Metric::inner_product:
            return gamma * q * r + static_cast<double>(dims) * std::numeric_limits<float>::min();
        case Metric::l2:
            return gamma * (q + r) * (q + r) +
                   static_cast<double>(dims) * std::numeric_limits<float>::min();
        case Metric::cosine:
            return q > tiny && smallest_row_norm > tiny ? gamma : kNoBound;
    }
    return kNoBound;
}

}  // namespace mrl
