#include "exact_scan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../kernels/dispatch.hpp"
#include "../store/metric.hpp"
#include "best.hpp"

namespace mrl {
namespace {

constexpr double kFarthest = std::numeric_limits<double>::infinity();

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
        candidates_[q] = {exact_norm(query, dims), kFarthest, k, {}};
    }
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
    const double exact = exact_distance(metric_, query, row, dims_, candidates.query_norm);
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
            const double error =
                score_error(metric_, dims_, candidates.query_norm, smallest, largest);
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
                if (scores[i] > score_of_distance(metric_, candidates.worst) + error) continue;
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
