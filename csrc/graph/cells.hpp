// Rows in cells of neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "build.hpp"
#include "build_codes.hpp"
#include "meter.hpp"

namespace mrl {

struct Cells {
    std::size_t count = 0;
    BuildCodes centres{0};
    std::vector<std::uint32_t> of_row;  // the cell of each row
    std::vector<float> distance;        // of each row from its centre, up to a constant of the row
};

// Lloyd's k-means on a sample, then every row to its nearest centre. A cell holds some tens to
// hundreds of rows; how good the centres are matters little, as each row is compared with many
// cells.
Cells make_cells(const BuildCodes& codes, std::size_t count, const BuildOptions& options,
                 Meter& meter);

// For each cell the others by distance, itself first, until about `rows_wanted` rows are in them.
std::vector<std::vector<std::uint32_t>> nearest_cells(const Cells& cells,
                                                      const std::vector<std::size_t>& sizes,
                                                      std::size_t rows_wanted, std::size_t threads);

// The cells in a chain: each next one is the nearest that is left, among those near the last; else
// any.
std::vector<std::uint32_t> chain(const std::vector<std::vector<std::uint32_t>>& near);

}  // namespace mrl
