#include "rerank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "../store/metric.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {

void rerank(Metric metric, const float* queries, std::size_t n_queries, const float* rows,
            std::size_t row_stride, std::size_t dims, const std::int64_t* candidates,
            std::size_t width, std::size_t k, std::size_t threads, float* distances,
            std::int64_t* positions) {
    constexpr std::size_t kAhead = 3, kTask = 16;
    const Kernels& kernel = kernels();
    const auto fetch_row = [&](std::int64_t position) {
        if (position < 0) return;
        const char* p =
            reinterpret_cast<const char*>(rows + static_cast<std::size_t>(position) * row_stride);
        for (std::size_t i = 0; i < dims * sizeof(float); i += 64) __builtin_prefetch(p + i);
    };
    const auto score_query = [&](std::size_t q,
                                 std::vector<std::pair<float, std::int64_t>>& found) {
        const float* query = queries + q * dims;
        const std::int64_t* own = candidates + q * width;
        found.clear();
        for (std::size_t i = 0; i < width && i < kAhead; ++i) fetch_row(own[i]);
        for (std::size_t i = 0; i < width; ++i) {
            if (i + kAhead < width) fetch_row(own[i + kAhead]);
            if (own[i] < 0) continue;
            const float* row = rows + static_cast<std::size_t>(own[i]) * row_stride;
            float score;
            metric_scores(kernel, metric, query, row, 1, row_stride, dims, &score);
            if (std::isnan(score)) score = std::numeric_limits<float>::infinity();
            found.emplace_back(score, own[i]);
        }
        const std::size_t kept = std::min(k, found.size());
        std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept),
                          found.end());
        for (std::size_t i = 0; i < k; ++i) {
            distances[q * k + i] =
                i < kept ? found[i].first : std::numeric_limits<float>::quiet_NaN();
            positions[q * k + i] = i < kept ? found[i].second : -1;
        }
    };
    parallel_for(threads, (n_queries + kTask - 1) / kTask, [&](std::size_t task, std::size_t) {
        std::vector<std::pair<float, std::int64_t>> found;
        for (std::size_t q = task * kTask; q < std::min(n_queries, (task + 1) * kTask); ++q)
            score_query(q, found);
    });
}

}  // namespace mrl
