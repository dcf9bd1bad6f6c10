#include "build_codes.hpp"

#include <cmath>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

// A coordinate of a line is off by a twelfth of its step's square, and a line is a quarter of its
// rms a step: that much of its squared length is noise.
constexpr float kNoise = 0.25f * 0.25f / 12.0f;

}  // namespace

void BuildCodes::take_line(std::size_t i, const LineCodes& lines, const std::uint8_t* high,
                           const std::uint8_t* low, float longest) {
    std::int8_t* code = bytes.data() + i * kBuildBytes;
    scale[i] = lines.unpack(high, low, code);
    std::int32_t own;
    kernels().inner_product_int8(code, code, 1, kBuildBytes, kBuildBytes, &own);
    square[i] = scale[i] * scale[i] * static_cast<float>(own) * (1.0f - kNoise);
    lift[i] = 0;
    if (lines.metric() != Metric::inner_product) return;
    lift[i] = std::sqrt(std::max(0.0f, longest - square[i]));
    square[i] = std::max(longest, square[i]);
}

void BuildCodes::copy(std::size_t i, const BuildCodes& from, std::size_t j) {
    std::copy_n(from.row(j), kBuildBytes, bytes.data() + i * kBuildBytes);
    scale[i] = from.scale[j];
    square[i] = from.square[j];
    lift[i] = from.lift[j];
}

BuildCodes project_rows(const Rows& rows, const Projection& projection,
                        const std::vector<std::uint32_t>& which, float* unit, std::size_t threads) {
    BuildCodes codes(which.size());
    std::vector<float> squares(which.size());
    const std::size_t blocks = (which.size() + kCompared - 1) / kCompared;
    parallel_for(threads, blocks, [&](std::size_t block, std::size_t) {
        const std::size_t first = block * kCompared,
                          count = std::min(kCompared, which.size() - first);
        std::vector<float> z(count * kLineCoordinates);
        projection.project(rows, which.data() + first, count, z.data(), squares.data() + first);
        for (std::size_t i = 0; i < count; ++i) {
            const float* coordinates = z.data() + i * kLineCoordinates;
            codes.scale[first + i] = kernels().quantise_int8(
                coordinates, kLineCoordinates, codes.bytes.data() + (first + i) * kBuildBytes);
            float square = 0;
            for (std::size_t j = 0; j < kLineCoordinates; ++j)
                square += coordinates[j] * coordinates[j];
            codes.square[first + i] = square;
        }
    });
    double sum = 0, longest = 0;
    for (std::size_t i = 0; i < which.size(); ++i) {
        sum += squares[i];
        longest = std::max<double>(longest, squares[i]);
    }
    *unit = unit_of(sum, which.size());
    for (std::size_t i = 0; i < which.size(); ++i) {
        // Under cosine a row's coordinates stand for all of it: they are stretched to its length,
        // as its line code's factor does.
        if (rows.metric() == Metric::cosine && codes.square[i] > 0) {
            codes.scale[i] *= std::sqrt(squares[i] / codes.square[i]);
            codes.square[i] = squares[i];
        }
        if (rows.metric() == Metric::inner_product) {
            codes.lift[i] = static_cast<float>(std::sqrt(std::max(0.0, longest - codes.square[i])));
            codes.square[i] = static_cast<float>(longest);
        }
    }
    return codes;
}

}  // namespace mrl
