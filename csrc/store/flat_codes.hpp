// Codes that a flat scan reads from end to end: int8 or one bit a dim, of a prefix or of the
// projection (line_codes.hpp).
//
//   int8   c = round(127 x / max |x|) over the prefix; x ~ factor * c, the prefix at unit length
//   under cosine bit    b = [x > mean], y = x - mean over the prefix (x's prefix at unit length
//   under cosine); sum q y ~ factor * sum q (2 b - 1) with
//          factor = |y|^2 / sum |y|, right for q = y (RaBitQ, arXiv:2405.12497, section 3.2,
//          without its rotation); the query has six bits a dim
//
// Of the projection the same, x its coordinates z, which are centred, times |y| / |z| under cosine:
// as if what was cut off pointed where the rest does. They are rotated, so that bits are RaBitQ's.
//
// Scores are those of rows.hpp, over the prefix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../system/memory.hpp"
#include "rows.hpp"

namespace mrl {

// 1 / |v|, 0 for a zero vector.
float inverse_norm(const float* v, std::size_t dims);

class FlatCodes {
  public:
    // The precisions that there are such codes of.
    static constexpr bool keeps(Precision precision) {
        return precision == Precision::int8 || precision == Precision::bit;
    }

    // mean: `dims` floats for bit codes, of the prefixes as the metric sees them; empty for int8.
    // Of the projection: all its coordinates, no mean.
    FlatCodes(Metric metric, Space space, std::size_t dims, Precision precision,
              std::vector<float> mean);

    void resize(std::size_t rows);
    bool make_room(std::size_t rows, Growth growth);
    bool has_room(std::size_t rows) const;
    void encode(std::size_t row, const float* vector);
    // Of the projection: a row's coordinates and |y|^2.
    void encode(std::size_t row, const float* coordinates, float square);
    // What is compared with a query (search/stage_codes.hpp): the codes, `stride` bytes a row, and
    // what makes scores of their products.
    const std::uint8_t* bytes_of(std::size_t row) const { return codes_.data() + row * stride_; }
    const std::int8_t* code(std::size_t row) const {
        return reinterpret_cast<const std::int8_t*>(bytes_of(row));
    }
    const std::vector<float>& mean() const { return mean_; }
    const std::uint16_t* ones() const { return ones_.data(); }
    const float* factors() const { return factor_.data(); }
    const float* addends() const { return addend_.empty() ? nullptr : addend_.data(); }

    Metric metric() const { return metric_; }
    Space space() const { return space_; }
    std::size_t dims() const { return dims_; }
    Precision precision() const { return precision_; }
    std::size_t stride() const { return stride_; }
    std::size_t rows() const { return factor_.size(); }
    std::size_t bytes() const {
        return codes_.bytes() + factor_.bytes() + addend_.bytes() + ones_.bytes();
    }

    template <class Visitor>
    void visit(Visitor& v) {
        v.list("mean", mean_);
        v.array("codes", codes_);
        v.array("factor", factor_);
        v.array("addend", addend_);
        v.array("ones", ones_);
    }
    bool is_valid(std::size_t rows) const {
        return codes_.size() == rows * stride_ && factor_.size() == rows &&
               addend_.size() == (metric_ == Metric::l2 ? rows : 0) &&
               ones_.size() == (precision_ == Precision::bit ? rows : 0) &&
               mean_.size() ==
                   (precision_ == Precision::bit && space_ == Space::prefix ? dims_ : 0);
    }

  private:
    void encode(std::size_t row, const float* values, float stretch, double half_square);

    Metric metric_;
    Space space_;
    std::size_t dims_;
    Precision precision_;
    std::size_t stride_;
    std::vector<float> mean_;
    Array<std::uint8_t> codes_;
    Array<float> factor_;
    Array<float> addend_;        // l2
    Array<std::uint16_t> ones_;  // bit: how many are set
};

}  // namespace mrl
