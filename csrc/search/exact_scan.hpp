// The brute-force answer, precisely: the k nearest rows of a stream of blocks by float64 distance.
//
// A float32 kernel scores every row; a row is scored again in float64 when its float32 score could
// still belong to the answer, that is, when it is not above the k-th float64 distance by more than
// the proven rounding error of the kernel. After the first block few rows are, so the scan costs
// what the float32 kernel costs, and no row of the answer is ever missed.
//
// Rows tied with the k-th distance are all kept: the caller, who knows the keys, breaks ties.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../store/words.hpp"

namespace mrl {

struct ExactHit {
    double distance;  // pgvector's operator: 1 - cosine, minus the inner product, or the Euclidean
                      // distance
    std::int64_t position;
};

class ExactScan {
  public:
    // Copies the queries: n_queries rows of dims floats. k is at least 1.
    ExactScan(Metric metric, const float* queries, std::size_t n_queries, std::size_t dims,
              std::size_t k);

    // Takes the next n rows of the stream; row_stride in floats.
    void scan(const float* rows, std::size_t n, std::size_t row_stride);

    // The hits of one query by rising (distance, position), NaN distances last: k of them and
    // whatever ties with the k-th; all rows when fewer than k were scanned.
    std::vector<ExactHit> hits(std::size_t query) const;

    std::size_t n_queries() const { return candidates_.size(); }
    std::size_t dims() const { return dims_; }
    std::int64_t rows_scanned() const { return rows_scanned_; }

  private:
    struct Candidates {
        double query_norm;
        double worst;       // k-th distance so far, +inf before there are k
        std::size_t limit;  // cut back to k when there are so many
        std::vector<ExactHit> hits;
    };

    void rescore(Candidates& candidates, const float* query, const float* row,
                 std::int64_t position) const;
    void shrink(Candidates& candidates) const;

    Metric metric_;
    std::size_t dims_;
    std::size_t k_;
    std::int64_t rows_scanned_ = 0;
    std::vector<float> queries_;
    std::vector<Candidates> candidates_;
};

}  // namespace mrl
