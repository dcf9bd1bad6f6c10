// Many queries against flat int8 codes at once: rows are packed once for all of them, and their
// products are one product of matrices, of which only those are written that may be among a query's
// best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/flat_codes.hpp"
#include "../store/marks.hpp"
#include "best.hpp"
#include "turn.hpp"

namespace mrl {

struct TileQuery {
    std::vector<std::int8_t> code;  // of the prepared StageQuery
    float scale;
};

// The best `keep` rows of each query of the first so many, in no order; all when they are fewer.
// filter: the rows that may be answers, or nullptr for all. turn: gives way between blocks of rows.
std::vector<std::vector<Candidate>> scan_tiles(const Kernels& kernels, const FlatCodes& codes,
                                               const std::vector<TileQuery>& queries,
                                               std::size_t keep, std::size_t rows,
                                               const RowFilter* filter, Turn& turn);

}  // namespace mrl
