// The door for vectors: what may not be stored, found in one pass at the speed of memory.
#pragma once

#include <cstddef>
#include <limits>

namespace mrl::wire {

enum class Fault { none = 0, not_finite = 1, zero = 2, too_large = 3, length = 4 };

// Squares of lengths that rows must lie between.
struct Squares {
    float least = -1.0f, most = std::numeric_limits<float>::infinity();
};

struct BadRow {
    std::size_t row;
    Fault fault;
};

// The first row that holds a NaN or an infinity, or is zero (where that is forbidden), or holds a
// value beyond `largest`, or is too short or too long.
BadRow first_bad_row(const float* rows, std::size_t n, std::size_t row_stride, std::size_t dims,
                     bool zero_forbidden, float largest, Squares squares = {});

}  // namespace mrl::wire
