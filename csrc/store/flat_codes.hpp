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

struct FlatQuery {
    std::vector<std::int8_t> code;     // int8
    std::vector<std::uint8_t> planes;  // bit
    float scale = 0;                   // int8: of the code. bit: one step of the query
    float lowest = 0;                  // bit: the value of step 0
    float sum = 0;                     // bit: of the quantised query
};

class FlatCodes {
  public:
    // mean: `dims` floats for bit codes, of the prefixes as the metric sees them; empty for int8.
    // Of the projection: all its coordinates, no mean.
    FlatCodes(Metric metric, Space space, std::size_t dims, Precision precision,
              std::vector<float> mean);

    void resize(std::size_t rows);
    void encode(std::size_t row, const float* vector);
    // Of the projection: a row's coordinates and |y|^2.
    void encode(std::size_t row, const float* coordinates, float square);
    // From a query, or its coordinates.
    void prepare(const float* query, FlatQuery& prepared) const;

    // Scores of rows first … first + n, n <= 256.
    void score(const Kernels& kernels, const FlatQuery& query, std::size_t first, std::size_t n,
               float* scores) const;
    // int8: the same for those below the threshold, with their places from `first` on, rising.
    // Returns how many.
    std::size_t select(const Kernels& kernels, const FlatQuery& query, std::size_t first,
                       std::size_t n, float threshold, float* scores, std::uint32_t* places) const;
    // Scores of any rows.
    void score_at(const Kernels& kernels, const FlatQuery& query, const std::uint32_t* rows,
                  std::size_t n, float* scores) const;
    // int8 codes for the tiles of a batch.
    const std::int8_t* code(std::size_t row) const {
        return reinterpret_cast<const std::int8_t*>(codes_.data() + row * stride_);
    }
    const float* factors() const { return factor_.data(); }
    const float* addends() const { return addend_.empty() ? nullptr : addend_.data(); }

    Space space() const { return space_; }
    std::size_t dims() const { return dims_; }
    Precision precision() const { return precision_; }
    std::size_t stride() const { return stride_; }
    std::size_t rows() const { return factor_.size(); }
    std::size_t bytes() const {
        return codes_.bytes() + factor_.bytes() + addend_.bytes() + ones_.bytes();
    }

    template <class Fields>
    void fields(Fields& f) {
        f.list("mean", mean_);
        f.array("codes", codes_);
        f.array("factor", factor_);
        f.array("addend", addend_);
        f.array("ones", ones_);
    }
    bool sound(std::size_t rows) const {
        return codes_.size() == rows * stride_ && factor_.size() == rows &&
               addend_.size() == (metric_ == Metric::l2 ? rows : 0) &&
               ones_.size() == (precision_ == Precision::bit ? rows : 0) &&
               mean_.size() ==
                   (precision_ == Precision::bit && space_ == Space::prefix ? dims_ : 0);
    }

  private:
    void finish(const FlatQuery& query, const std::int32_t* products, const std::uint32_t* rows,
                std::size_t first, std::size_t n, float* scores) const;

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
