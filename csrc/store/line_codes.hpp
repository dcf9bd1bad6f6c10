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

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../system/memory.hpp"
#include "words.hpp"

namespace mrl {

// The rms of |y| over n rows, from the sum of their squares; 1 where that says nothing.
inline float unit_of(double sum_of_squares, std::size_t n) {
    const double mean = sum_of_squares / (n == 0 ? 1.0 : static_cast<double>(n));
    const auto unit = static_cast<float>(std::sqrt(mean));
    return unit > 1e-30f ? unit : 1.0f;
}

// What the rows of an index are like, beside the rms of |y|.
struct LineSpread {
    float tail = 0.0f;     // the rms of |y - P z|, which codes know nothing of, over that of |y|
    float typical = 1.0f;  // the median of |y| over its rms, under l2
    float longest = 1.0f;  // under inner product, the length that one row in a thousand exceeds,
                           // over the rms of all
};

class LineCodes {
  public:
    // unit: the rms of |y| over the rows.
    void reset(Metric metric, float unit) {
        metric_ = metric;
        unit_ = unit;
        spread_ = {};
    }
    void set_spread(const LineSpread& spread) { spread_ = spread; }
    const LineSpread& spread() const { return spread_; }
    void resize(std::size_t slots) {
        high_.resize(slots * kLineBytes);
        low_.resize(slots * kLineBytes);
    }
    bool make_room(std::size_t slots, Growth growth) {
        const bool has_room = high_.make_room(slots * kLineBytes, growth);
        return low_.make_room(slots * kLineBytes, growth) && has_room;
    }
    bool has_room(std::size_t slots) const {
        return high_.has_room(slots * kLineBytes) && low_.has_room(slots * kLineBytes);
    }
    void like(const LineCodes& others) { reset(others.metric_, others.unit_); }
    void encode(std::size_t slot, const float* coordinates, float square);
    // Both planes of a slot without a row: farther than any row is.
    static void put_nowhere(std::uint8_t* high, std::uint8_t* low);
    // The coordinates, about, as far as a code of all of a row tells them.
    void decode(const std::uint8_t* high, const std::uint8_t* low, float* coordinates) const;
    void decode(std::size_t slot, float* coordinates) const {
        decode(high() + slot * kLineBytes, low() + slot * kLineBytes, coordinates);
    }
    // A code as int8 coordinates, odd numbers, where a LineQuery has them (256 bytes), and what one
    // unit is worth.
    float unpack(const std::uint8_t* high, const std::uint8_t* low, std::int8_t* coordinates) const;
    // From the coordinates of a query.
    void prepare(const float* coordinates, LineQuery& query) const;

    const std::uint8_t* high() const { return high_.data(); }
    const std::uint8_t* low() const { return low_.data(); }
    std::size_t slots() const { return high_.size() / kLineBytes; }
    Metric metric() const { return metric_; }
    float unit() const { return unit_; }
    std::size_t bytes() const { return high_.bytes() + low_.bytes(); }

    template <class Visitor>
    void visit(Visitor& v) {
        v.value("lines.unit", unit_);
        v.value("lines.tail", spread_.tail);
        v.value("lines.typical", spread_.typical);
        v.value("lines.longest", spread_.longest);
        v.array("lines.high", high_);
        v.array("lines.low", low_);
    }
    bool restore(Metric metric, std::size_t slots) {
        metric_ = metric;
        return high_.size() == slots * kLineBytes && low_.size() == slots * kLineBytes;
    }

  private:
    Metric metric_ = Metric::cosine;
    float unit_ = 1.0f;
    LineSpread spread_;
    Array<std::uint8_t> high_, low_;
};

}  // namespace mrl
