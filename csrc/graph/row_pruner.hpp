// Pruning by the codes that stay with the rows, for slots that come, heal or are led past.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../store/store.hpp"
#include "prune.hpp"

namespace mrl {

// The squared distances of slots from one; under inner product between their lifted forms
// (build_codes.hpp). longest: the largest squared length of all rows. rows, products: room for n.
void measure_slots(const Store& store, double longest, std::uint32_t from,
                   const std::uint32_t* slots, std::size_t n, std::uint32_t* rows,
                   std::int32_t* products, float* distances);

class RowPruner {
  public:
    // longest_square: of the store, as of when the work began.
    RowPruner(const Store& store, double longest_square)
        : store_(store), longest_(longest_square) {}

    // The squared distances of slots from one, in the order in which they are given. They stay
    // until the next call.
    const std::vector<float>& measure(std::uint32_t from, const std::uint32_t* slots,
                                      std::size_t n);

    // The links of a slot among candidates that rise by distance.
    std::vector<std::uint32_t> prune(const std::vector<Near>& candidates);

    // … among candidates in any order, some of them twice: of the nearest kCandidates.
    std::vector<std::uint32_t> links_among(std::uint32_t slot,
                                           std::vector<std::uint32_t> candidates);

  private:
    const Store& store_;
    const double longest_;
    Pruning pruning_;
    std::vector<std::uint32_t> rows_, slots_;
    std::vector<std::int32_t> products_;
    std::vector<float> distances_;
};

}  // namespace mrl
