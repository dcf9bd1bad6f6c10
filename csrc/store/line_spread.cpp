#include "line_spread.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mrl {
namespace {

constexpr std::size_t kSampled = 4096;  // rows, evenly drawn
constexpr std::size_t kLonger = 1000;   // of so many rows one is longer

// Of rows of very different lengths, those near a query are hardly the long ones that the rms is
// of.
void measure_sample(const Rows& rows, const Projection& projection, LineSpread& spread) {
    const std::size_t n = std::min(rows.size(), kSampled);
    if (n == 0) return;
    std::vector<std::uint32_t> which(n);
    for (std::size_t i = 0; i < n; ++i) which[i] = static_cast<std::uint32_t>(i * rows.size() / n);
    std::vector<float> z(n * kLineCoordinates), squares(n);
    projection.project(rows, which.data(), n, z.data(), squares.data());
    double whole = 0, kept = 0;
    for (const float square : squares) whole += square;
    for (const float coordinate : z) kept += static_cast<double>(coordinate) * coordinate;
    if (!(whole > 0) || !std::isfinite(whole)) return;
    if (rows.dims() > kLineCoordinates)
        spread.tail = static_cast<float>(std::sqrt(std::max(0.0, 1.0 - kept / whole)));
    if (rows.metric() != Metric::l2) return;
    const auto middle = squares.begin() + static_cast<std::ptrdiff_t>(n / 2);
    std::nth_element(squares.begin(), middle, squares.end());
    const double typical = std::sqrt(*middle * static_cast<double>(n) / whole);
    spread.typical = static_cast<float>(std::min(1.0, typical));
}

float longest_of(const Rows& rows) {
    const std::size_t n = rows.size();
    if (n == 0 || rows.metric() != Metric::inner_product) return 1.0f;
    std::vector<float> squares(n);
    double sum = 0;
    for (std::size_t row = 0; row < n; ++row) sum += squares[row] = rows.square(row);
    const auto long_one = squares.end() - static_cast<std::ptrdiff_t>(1 + n / kLonger);
    std::nth_element(squares.begin(), long_one, squares.end());
    const double ratio = *long_one / (sum / static_cast<double>(n));
    return ratio > 1.0 && std::isfinite(ratio) ? static_cast<float>(std::sqrt(ratio)) : 1.0f;
}

}  // namespace

LineSpread measure_spread(const Rows& rows, const Projection& projection) {
    LineSpread spread;
    measure_sample(rows, projection, spread);
    spread.longest = longest_of(rows);
    return spread;
}

}  // namespace mrl
