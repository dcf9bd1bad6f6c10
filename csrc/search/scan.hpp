// The one loop of all scans: blocks are scored, what is below the threshold is asked for by the
// filter and kept, and what has become too much is cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/marks.hpp"
#include "best.hpp"
#include "stage_codes.hpp"
#include "turn.hpp"

namespace mrl {

// What is scanned: a list of rows (or of slots, where the codes go by slot), or the first n of all.
struct Scanned {
    const std::uint32_t* list;  // or nullptr
    std::size_t n;
};

// Adds to `best` those of `scanned` that may be among its best `keep`; some more may be left.
// filter: or nullptr for all. turn: gives way between blocks; or nullptr.
void scan(const Kernels& kernels, const StageCodes& codes, const StageQuery& query, Scanned scanned,
          std::size_t keep, const RowFilter* filter, std::vector<Candidate>& best,
          Turn* turn = nullptr);

}  // namespace mrl
