#include "row_check.hpp"

#include <cmath>

#include "../kernels/dispatch.hpp"

namespace mrl::wire {
namespace {

Fault fault_of(const float* row, std::size_t dims, bool zero_forbidden, float largest) {
    bool zero = true;
    Fault fault = Fault::none;
    for (std::size_t i = 0; i < dims; ++i) {
        if (!std::isfinite(row[i])) return Fault::not_finite;
        if (std::fabs(row[i]) > largest) fault = Fault::too_large;
        zero = zero && row[i] == 0.0f;
    }
    return zero && zero_forbidden ? Fault::zero : fault;
}

}  // namespace

// The square of a row's length tells almost always: finite means that every value is, positive that
// the row is not zero, and no value exceeds the length. Only a row that fails one of these is
// looked at value by value.
BadRow first_bad_row(const float* rows, std::size_t n, std::size_t row_stride, std::size_t dims,
                     bool zero_forbidden, float largest, Squares squares) {
    const FloatRows inner_product = kernels().inner_product;
    const float limit = largest * largest;
    for (std::size_t row = 0; row < n; ++row) {
        const float* values = rows + row * row_stride;
        float square = 0.0f;
        inner_product(values, values, 1, row_stride, dims, &square);
        const bool between = square > squares.least && square <= squares.most;
        if (std::isfinite(square) && square <= limit && between &&
            (square > 0.0f || !zero_forbidden))
            continue;
        Fault fault = fault_of(values, dims, zero_forbidden, largest);
        if (fault == Fault::none && !between) fault = Fault::length;
        if (fault != Fault::none) return {row, fault};
    }
    return {n, Fault::none};
}

}  // namespace mrl::wire
