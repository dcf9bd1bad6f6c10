#include "exact_scan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../kernels/dispatch.hpp"
#include "../store/metric_scores.hpp"
#include "best.hpp"

namespace mrl {
namespace {

constexpr double kFarthest = std::numeric_limits<double>::infinity();

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

// By distance, then position; a NaN (a zero vector under cosine) after everything, as PostgreSQL
// sorts it.
bool before(const ExactHit& a, const ExactHit& b) {
    const bool a_nan = std::isnan(a.distance), b_nan = std::isnan(b.distance);
    if (a_nan != b_nan) return b_nan;
    if (!a_nan && a.distance != b.distance) return a.distance < b.distance;
    return a.position < b.position;
}

}  // namespace

ExactScan::ExactScan(Metric metric, const float* queries, std::size_t n_queries, std::size_t dims,
                     std::size_t k)
    : metric_(metric), dims_(dims), k_(k), queries_(queries, queries + n_queries * dims) {
    candidates_.resize(n_queries);
    for (std::size_t q = 0; q < n_queries; ++q) {
        const float* query = queries_.data() + q * dims;
        candidates_[q] = {std::sqrt(dot(query, query, dims)), kFarthest, k, {}};
    }
}

double ExactScan::distance(const float* query, const float* row, double query_norm) const {
    switch (metric_) {
        case Metric::inner_product:
            return -dot(query, row, dims_);
        case Metric::l2:
            return std::sqrt(squared_l2(query, row, dims_));
        case Metric::cosine:
            break;
    }
    const double similarity =
        dot(query, row, dims_) / (query_norm * std::sqrt(dot(row, row, dims_)));
    return std::isnan(similarity) ? similarity : 1.0 - std::min(1.0, std::max(-1.0, similarity));
}

// How far a kernel's float32 score may lie from the float64 one, in the kernel's own unit. A sum of
// `dims` products in float32, in any order and with or without fma, errs by at most gamma(dims) *
// sum |q_j r_j| <= gamma(dims) |q| |r| (Higham, ASNA, section 3.1, and Cauchy-Schwarz). The factor
// 4 and the + 8 cover the two norms, the roots and the division of a cosine, and the float64 side.
// At the ends of float32's range squares overflow or lose their digits, no bound holds, and the
// rows are scored in float64.
double ExactScan::error_bound(const Candidates& candidates, double smallest_row_norm,
                              double largest_row_norm) const {
    const double gamma = 4.0 * (static_cast<double>(dims_) + 8.0) * std::ldexp(1.0, -24);
    const double q = candidates.query_norm,
                 r = largest_row_norm * 1.001;  // the norms came from a float32 kernel
    const double tiny = 1e-15, huge = 1e15;
    if (!(q < huge) || !(r < huge)) return kFarthest;
    switch (metric_) {
        case Metric::inner_product:
            return gamma * q * r + static_cast<double>(dims_) * std::numeric_limits<float>::min();
        case Metric::l2:
            return gamma * (q + r) * (q + r) +
                   static_cast<double>(dims_) * std::numeric_limits<float>::min();
        case Metric::cosine:
            return q > tiny && smallest_row_norm > tiny ? gamma : kFarthest;
    }
    return kFarthest;
}

void ExactScan::shrink(Candidates& candidates) const {
    std::vector<ExactHit>& hits = candidates.hits;
    if (hits.size() < k_) return;
    const auto kth = hits.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
    std::nth_element(hits.begin(), kth, hits.end(), before);
    const double worst = kth->distance;
    if (!std::isnan(
            worst)) {  // a NaN there means that zero vectors reach into the answer: all of them tie
        candidates.worst = worst;
        std::erase_if(hits, [worst](const ExactHit& hit) { return !(hit.distance <= worst); });
    }
    candidates.limit =
        2 * std::max(k_ + 32, hits.size());  // many ties: look again only when they have doubled
}

void ExactScan::rescore(Candidates& candidates, const float* query, const float* row,
                        std::int64_t position) const {
    const double exact = distance(query, row, candidates.query_norm);
    if (exact > candidates.worst) return;
    candidates.hits.push_back({exact, position});
    if (candidates.hits.size() >= candidates.limit) shrink(candidates);
}

void ExactScan::scan(const float* rows, std::size_t n, std::size_t row_stride) {
    const Kernels& kernels = mrl::kernels();
    for (std::size_t first = 0; first < n; first += kScanBlock) {
        const std::size_t count = std::min(kScanBlock, n - first);
        const float* block = rows + first * row_stride;
        const std::int64_t position = rows_scanned_ + static_cast<std::int64_t>(first);
        double largest = 0.0, smallest = kFarthest;
        for (std::size_t i = 0; i < count; ++i) {
            float square;
            kernels.inner_product(block + i * row_stride, block + i * row_stride, 1, row_stride,
                                  dims_, &square);
            largest = std::max(largest, std::sqrt(static_cast<double>(square)));
            smallest = std::min(smallest, std::sqrt(static_cast<double>(square)));
        }
        for (std::size_t q = 0; q < candidates_.size(); ++q) {
            Candidates& candidates = candidates_[q];
            const float* query = queries_.data() + q * dims_;
            const double error = error_bound(candidates, smallest, largest);
            if (!(candidates.worst + error < kFarthest)) {
                for (std::size_t i = 0; i < count; ++i) {
                    rescore(candidates, query, block + i * row_stride,
                            position + static_cast<std::int64_t>(i));
                }
                continue;
            }
            float scores[kScanBlock];
            metric_scores(kernels, metric_, query, block, count, row_stride, dims_, scores);
            for (std::size_t i = 0; i < count; ++i) {
                const double worst = metric_ == Metric::l2
                                         ? candidates.worst * candidates.worst * (1.0 + 1e-12)
                                         : candidates.worst;
                if (scores[i] > worst + error) continue;
                rescore(candidates, query, block + i * row_stride,
                        position + static_cast<std::int64_t>(i));
            }
        }
    }
    rows_scanned_ += static_cast<std::int64_t>(n);
}

std::vector<ExactHit> ExactScan::hits(std::size_t query) const {
    Candidates candidates = candidates_[query];
    shrink(candidates);
    std::sort(candidates.hits.begin(), candidates.hits.end(), before);
    return std::move(candidates.hits);
}

}  // namespace mrl
