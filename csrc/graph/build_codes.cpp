#include "build_codes.hpp"

#include <cmath>

#include "../kernels/dispatch.hpp"
#include "../store/line_codes.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {

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
