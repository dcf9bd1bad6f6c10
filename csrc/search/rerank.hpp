// Reranking by itself: the true distances of a shortlist that something else made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../store/words.hpp"

namespace mrl {

// For each of n_queries queries (dims floats each, one after another), the k nearest of its `width`
// candidates: positions of rows (dims floats each, `row_stride` apart), negative ones passed over,
// none beyond the rows. Writes k (distance, position) a query, the nearest first, ties by position;
// where fewer candidates are left, NaN and -1. Distances are pgvector's, and squared under l2.
void rerank(Metric metric, const float* queries, std::size_t n_queries, const float* rows,
            std::size_t row_stride, std::size_t dims, const std::int64_t* candidates,
            std::size_t width, std::size_t k, std::size_t threads, float* distances,
            std::int64_t* positions);

}  // namespace mrl
