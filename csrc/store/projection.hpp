// The projection whose coordinates line codes hold (line_codes.hpp), in int8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../system/memory.hpp"
#include "rows.hpp"
#include "words.hpp"

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
    // to all scores. Returns the squared length of the query, centred under l2.
    float project(const RowQuery& query, float* coordinates) const;

    // Turns a row's coordinates into those of the query that the row's own vector is.
    void as_query(float* coordinates) const {
        for (std::size_t c = 0; c < kLineCoordinates && metric_ != Metric::l2; ++c)
            coordinates[c] += centre_[c];
    }

    std::size_t bytes() const { return columns_.bytes() + packed_.bytes(); }

    template <class Visitor>
    void visit(Visitor& v) {
        v.value("projection.mean_square", mean_square_);
        v.array("projection.columns", columns_);
        v.list("projection.scale", scale_);
        v.list("projection.centre", centre_);
    }
    // Of what came out of a file: whether it fits, and the copy for tiles.
    bool restore(Metric metric, std::size_t dims);

  private:
    static constexpr std::size_t kColumns = 256;  // coordinates, then the mean, then nothing

    Metric metric_ = Metric::cosine;
    std::size_t dims_ = 0, stride_ = 0;
    double mean_square_ = 0;
    Array<std::int8_t> columns_;  // kColumns rows of stride_ bytes: the matrix, transposed
    Array<std::uint8_t> packed_;  // the same for tile_int8
    std::vector<float> scale_;    // of each column
    std::vector<float> centre_;   // P^T mean
};

}  // namespace mrl
