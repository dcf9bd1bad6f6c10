// int4 codes in two planes: the 240 coordinates of a row's projection, two high bits each in one
// cache line and two low bits in another.
//
// A walk over a graph costs what it misses in the cache, so it reads one line a row and adds the
// second only for rows that matter. The projection is any matrix of up to 240 orthonormal columns
// (PCA, or the first dims), followed by a random rotation to 240 coordinates, so that each carries
// the same share and a code of equal steps fits all. With y = x - mean (x at unit length under
// cosine) and z = P^T y:
//
//   code        c = clamp(floor(z / (0.25 rms(z)) + 8), 0, 15), read as c - 7.5
//   estimate    <q, y> ~ factor * sum q_j (c_j - 7.5), with factor = |z|^2 / <c - 7.5, z>: right
//   for q = z
//               (times |y| / |z| under cosine, as if the part that was cut off pointed where the
//               rest does)
//   score       addend - estimate, with addend = |y|^2 / 2 under l2 and 0 otherwise
//
// Everything is divided by `unit`, the rms of |y|, so that factors fit float16. Idea of
// norm-corrected codes: RaBitQ, arXiv:2405.12497.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../system/memory.hpp"
#include "rows.hpp"

namespace mrl {

// A fitted projection: what is multiplied with rows and queries, in int8.
class Projection {
  public:
    Projection() = default;
    // matrix: dims rows of kLineCoordinates floats. mean: dims floats, of the rows as the metric
    // sees them (unit length under cosine).
    Projection(Metric metric, std::size_t dims, const float* matrix, const float* mean);

    // The coordinates z of n rows, `kLineCoordinates` floats each, and |y|^2 of each.
    void project(const Rows& rows, const std::uint32_t* which, std::size_t n, float* coordinates,
                 float* squares) const;
    // The coordinates of a query, which is centred under l2 only: elsewhere the mean adds the same
    // to all scores.
    void project(const RowQuery& query, float* coordinates) const;

    // Turns a row's coordinates into those of the query that the row's own vector is.
    void as_query(float* coordinates) const {
        for (std::size_t c = 0; c < kLineCoordinates && metric_ != Metric::l2; ++c)
            coordinates[c] += centre_[c];
    }

    std::size_t bytes() const { return columns_.bytes() + packed_.bytes(); }

    template <class Fields>
    void fields(Fields& f) {
        f.value("projection.mean_square", mean_square_);
        f.array("projection.columns", columns_);
        f.list("projection.scale", scale_);
        f.list("projection.centre", centre_);
    }
    // Of what came out of a file: whether it fits, and the copy for tiles.
    bool restore(Metric metric, std::size_t dims);

  private:
    static constexpr std::size_t kColumns = 256;  // coordinates, then the mean, then nothing

    Metric metric_ = Metric::cosine;
    std::size_t dims_ = 0, stride_ = 0;
    double mean_square_ = 0;
    float mean_scale_ = 0;
    Array<std::int8_t> columns_;  // kColumns rows of stride_ bytes: the matrix, transposed
    Array<std::uint8_t> packed_;  // the same for tile_int8
    std::vector<float> scale_;    // of each column
    std::vector<float> centre_;   // P^T mean
};

class LineCodes {
  public:
    // unit: the rms of |y| over the rows.
    void reset(Metric metric, float unit) {
        metric_ = metric;
        unit_ = unit;
    }
    void resize(std::size_t slots) {
        high_.resize(slots * kLineBytes);
        low_.resize(slots * kLineBytes);
    }
    void like(const LineCodes& others) { reset(others.metric_, others.unit_); }
    void encode(std::size_t slot, const float* coordinates, float square);
    // The coordinates, about, as far as a code of all of a row tells them.
    void decode(std::size_t slot, float* coordinates) const;
    // A code as int8 coordinates (kLineCoordinates of them, odd numbers), and what one unit is
    // worth.
    float unpack(const std::uint8_t* high, const std::uint8_t* low, std::int8_t* coordinates) const;
    // From the coordinates of a query.
    void prepare(const float* coordinates, LineQuery& query) const;

    const std::uint8_t* high() const { return high_.data(); }
    const std::uint8_t* low() const { return low_.data(); }
    std::size_t slots() const { return high_.size() / kLineBytes; }
    Metric metric() const { return metric_; }
    float unit() const { return unit_; }
    std::size_t bytes() const { return high_.bytes() + low_.bytes(); }

    template <class Fields>
    void fields(Fields& f) {
        f.value("lines.unit", unit_);
        f.array("lines.high", high_);
        f.array("lines.low", low_);
    }
    bool restore(Metric metric, std::size_t slots) {
        metric_ = metric;
        return high_.size() == slots * kLineBytes && low_.size() == slots * kLineBytes;
    }

  private:
    Metric metric_ = Metric::cosine;
    float unit_ = 1.0f;
    Array<std::uint8_t> high_, low_;
};

}  // namespace mrl
