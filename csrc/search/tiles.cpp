#include "tiles.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "../kernels/pack.hpp"
#include "../system/memory.hpp"

namespace mrl {
namespace {

constexpr std::size_t kTileRows = 4 * kTileGroup;  // packed together

// What factor * product must exceed for a score - scale * factor * product to be below the
// threshold; lower by more than roundings, as what exceeds it is scored and compared in earnest.
float bound_of(float scale, float threshold) {
    if (!(scale > 0.0f) || !(std::abs(threshold) < 3.0e38f)) return -kInfinity;
    const float edge = -threshold / scale;
    return edge - 1e-5f * std::abs(edge) - 1e-30f;
}

}  // namespace

std::vector<std::vector<Candidate>> scan_tiles(const Kernels& kernels, const FlatCodes& codes,
                                               const std::vector<TileQuery>& queries,
                                               std::size_t keep, std::size_t rows,
                                               const RowFilter* filter, Turn& turn) {
    const std::size_t n = queries.size(), width = round_up(codes.dims(), 4),
                      stride = round_up(codes.dims(), kCacheLine);
    keep = std::min(keep, rows);
    const std::size_t room =
        keep + std::max<std::size_t>(16, keep / 2);  // the sooner it is cut, the less passes
    Array<std::int8_t> query_codes(n * stride);
    std::vector<std::int32_t> offsets(n);
    std::vector<float> bounds(n, -kInfinity);
    std::vector<std::uint32_t> written(n);
    std::vector<std::vector<Candidate>> best(n);
    std::vector<float> thresholds(n, kInfinity);
    for (std::size_t q = 0; q < n; ++q) {
        std::copy(queries[q].code.begin(), queries[q].code.end(), query_codes.data() + q * stride);
        offsets[q] = -128 * std::accumulate(queries[q].code.begin(), queries[q].code.end(), 0);
        best[q].reserve(room + kTileRows);
    }
    Array<std::uint8_t> packed(kTileRows * width);
    Array<std::int32_t> products(n * kTileRows);
    const std::int8_t* tile[kTileRows];
    float last_factors[kTileRows], scores[kTileGroup];
    std::uint32_t passing[kTileGroup];
    for (std::size_t first = 0, here; first < rows; first += here) {
        turn.give_way();
        here = std::min({kTileRows, std::max(kTileGroup, first),
                         rows - first});  // few at first, while all of them pass
        for (std::size_t i = 0; i < here; ++i) tile[i] = codes.code(first + i);
        pack_tile(tile, here, width, packed.data());
        const float* factors = codes.factors() + first;
        if (here < kTileRows) {  // whole blocks are read
            std::fill(std::copy_n(factors, here, last_factors), last_factors + kTileRows, 0.0f);
            factors = last_factors;
        }
        kernels.tile_int8_above(query_codes.data(), offsets.data(), n, stride, packed.data(),
                                (here + 15) / 16, width, factors, bounds.data(), products.data(),
                                kTileRows, written.data());
        for (std::size_t q = 0; q < n; ++q) {
            if (written[q] == 0) continue;
            for (std::size_t group = 0; written[q] >> group != 0; ++group) {
                const std::size_t at = group * kTileGroup;
                if ((written[q] >> group & 1) == 0 || at >= here) continue;
                const std::size_t passed = kernels.select_products(
                    products.data() + q * kTileRows + at, codes.factors() + first + at,
                    codes.addends() == nullptr ? nullptr : codes.addends() + first + at,
                    std::min(kTileGroup, here - at), queries[q].scale, thresholds[q], scores,
                    passing);
                for (std::size_t i = 0; i < passed; ++i) {
                    const auto row = static_cast<std::uint32_t>(first + at + passing[i]);
                    if (filter == nullptr || filter->allows_row(row))
                        best[q].push_back({scores[i], row});
                }
            }
            if (best[q].size() < room) continue;
            thresholds[q] = keep_best(kernels, best[q], keep);
            if (codes.addends() == nullptr) bounds[q] = bound_of(queries[q].scale, thresholds[q]);
        }
    }
    for (std::vector<Candidate>& candidates : best) keep_best(kernels, candidates, keep);
    return best;
}

}  // namespace mrl
