// The rows of an index in the order in which they came: an int8 code of each (one byte a dim, a
// scale a row), from which all other codes are made, and, where they are kept, the float32 vectors,
// which give the exact distances at the end.
//
// Scores, here and in every code, are smaller for nearer rows and are comparable within one query
// only:
//   cosine           - q.x / (|q| |x|)
//   inner product    - q.x
//   l2               |x|^2 / 2 - q.x     (the squared distance, halved, without the query's share)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../system/memory.hpp"
#include "words.hpp"

namespace mrl {

// A query as the row codes see it.
struct RowQuery {
    const float* values;            // dims floats, the caller's
    double norm;                    // |q|
    std::vector<std::int8_t> code;  // row_stride bytes, zero behind the dims
    float scale;                    // q ~ scale * code; divided by |q| under cosine
};

// The standard deviation of a score from what the vectors would give, both codes' steps taken for
// even noise. scale, square: the row's.
float score_noise(const RowQuery& query, Metric metric, float scale, float square);

class Rows {
  public:
    Rows(Metric metric, std::size_t dims, bool keep_vectors);

    // Encodes n vectors behind those that are there. Finite values only.
    void append(const float* vectors, std::size_t n, std::size_t vector_stride,
                std::size_t threads);
    // The same for one, where there is room, in two steps: its codes are there from the first on,
    // and it is a row from the second on, for who reads meanwhile, too.
    void write_ahead(const float* vector);
    void lengthen(std::size_t rows);
    // Whether a row is what this vector would be encoded as: the same bits, or the same code where
    // vectors are not kept.
    bool equals(std::size_t row, const float* vector) const;
    // Puts another vector in a row's place.
    void replace(std::size_t row, const float* vector);
    void reserve(std::size_t rows);
    // Room for so many rows, so that to append up to them does not throw.
    bool make_room(std::size_t rows, Growth growth);

    bool has_room(std::size_t rows) const;

    void prepare(const float* query, RowQuery& prepared) const;

    // Scores by the int8 codes of all dims.
    void score(const Kernels& kernels, const RowQuery& query, const std::uint32_t* rows,
               std::size_t n, float* scores) const;
    // pgvector's distances, from the float32 vectors; NaN for a zero vector under cosine.
    void distances(const Kernels& kernels, const RowQuery& query, const std::uint32_t* rows,
                   std::size_t n, double* distances) const;
    // The noise of a row's score; reads no line that score() has not read.
    float noise(const RowQuery& query, std::size_t row) const {
        return score_noise(query, metric_, scale_[row],
                           metric_ == Metric::cosine ? 1.0f : square_[row]);
    }
    // A score of `score()` as a distance, for rows whose vectors are not kept; and back.
    double distance_of_score(const RowQuery& query, float score) const;
    double score_of_distance(const RowQuery& query, double distance) const;
    // How far a score of `score()` is off at most, from what the vectors give, of any row that is
    // or was here. With q and x, their codes q' and x': |qx - q'x'| <= |q| |x - x'| + |q - q'|
    // |x'|.
    double most_off(const RowQuery& query) const;

    void fetch_code(std::size_t row) const;
    void fetch_vector(std::size_t row) const;

    Metric metric() const { return metric_; }
    std::size_t size() const { return scale_.size(); }
    std::size_t dims() const { return dims_; }
    std::size_t code_stride() const { return code_stride_; }
    const std::int8_t* code(std::size_t row) const { return codes_.data() + row * code_stride_; }
    const std::int8_t* codes() const { return codes_.data(); }
    // What one unit of a code is worth; under cosine for the vector at unit length, 0 for a zero
    // vector.
    float scale(std::size_t row) const { return scale_[row]; }
    // The squared length as the metric sees it: 1 or 0 under cosine.
    float square(std::size_t row) const { return square_[row]; }
    bool keeps_vectors() const { return keep_vectors_; }
    const float* vector(std::size_t row) const { return vectors_.data() + row * dims_; }
    // The vector, or what its code says of it (at unit length under cosine).
    void decode(std::size_t row, float* vector) const;
    std::size_t bytes() const {
        return vectors_.bytes() + codes_.bytes() + scale_.bytes() + square_.bytes() +
               inverse_norm_.bytes();
    }
    std::size_t vector_bytes() const { return vectors_.bytes(); }

    // What a file keeps (file.hpp).
    template <class Visitor>
    void visit(Visitor& v) {
        v.array("rows.vectors", vectors_);
        v.array("rows.codes", codes_);
        v.array("rows.scale", scale_);
        v.array("rows.square", square_);
        v.array("rows.inverse_norm", inverse_norm_);
        v.value("rows.most_error", most_error_);
        v.value("rows.longest", longest_);
    }
    // Whether arrays out of a file fit one another.
    bool is_valid() const {
        const std::size_t n = size();
        return codes_.size() == n * code_stride_ &&
               vectors_.size() == (keep_vectors_ ? n * dims_ : 0) && square_.size() == n &&
               inverse_norm_.size() == (metric_ == Metric::cosine ? n : 0);
    }

  private:
    void encode(std::size_t row, const float* vector);

    Metric metric_;
    std::size_t dims_;
    std::size_t code_stride_;
    bool keep_vectors_;
    Array<float> vectors_;
    Array<std::int8_t> codes_;
    Array<float> scale_;
    Array<float> square_;
    Array<float> inverse_norm_;  // cosine
    // At most: what a code is off by, and a row's length, as the metric sees it. Written by several
    // threads, beside who reads them.
    float most_error_ = 0.0f, longest_ = 0.0f;
};

}  // namespace mrl
