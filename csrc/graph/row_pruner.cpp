#include "row_pruner.hpp"

#include <algorithm>
#include <cmath>

namespace mrl {

float distance_of(const Store& store, double longest, std::uint32_t row, std::uint32_t other,
                  std::int32_t product) {
    const Rows& rows = store.rows;
    const double a = rows.square(row), b = rows.square(other);
    const double dot = static_cast<double>(rows.scale(row)) * rows.scale(other) * product;
    if (store.metric() != Metric::inner_product) {
        return static_cast<float>(std::max(0.0, a + b - 2.0 * dot));
    }
    const double lift = std::sqrt(std::max(0.0, longest - a) * std::max(0.0, longest - b));
    return static_cast<float>(std::max(0.0, 2.0 * (longest - dot - lift)));
}

const std::vector<float>& RowPruner::measure(std::uint32_t from, const std::uint32_t* slots,
                                             std::size_t n) {
    const Rows& rows = store_.rows;
    const std::uint32_t row = store_.row_of(from);
    rows_.resize(n);
    products_.resize(n);
    distances_.resize(n);
    for (std::size_t i = 0; i < n; ++i) rows_[i] = store_.row_of(slots[i]);
    kernels_.inner_product_int8_at(rows.code(row), rows.codes(), rows_.data(), n,
                                   rows.code_stride(), rows.dims(), products_.data());
    for (std::size_t i = 0; i < n; ++i) {
        distances_[i] = distance_of(store_, longest_, row, rows_[i], products_[i]);
    }
    return distances_;
}

std::vector<std::uint32_t> RowPruner::prune(const std::vector<Near>& candidates) {
    std::vector<std::uint32_t> links;
    pruning_.prune(
        candidates.data(), candidates.size(), store_.alpha,
        [&](std::size_t i, const std::uint32_t* positions, std::size_t count) {
            slots_.resize(count);
            for (std::size_t p = 0; p < count; ++p) slots_[p] = candidates[positions[p]].slot;
            const float* distances = measure(candidates[i].slot, slots_.data(), count).data();
            return [distances](std::size_t p) { return distances[p]; };
        },
        [&](std::size_t i) { links.push_back(candidates[i].slot); });
    return links;
}

std::vector<std::uint32_t> RowPruner::links_among(std::uint32_t slot,
                                                  std::vector<std::uint32_t> candidates) {
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    std::erase(candidates, slot);
    measure(slot, candidates.data(), candidates.size());
    std::vector<Near> nearest(candidates.size());
    for (std::size_t i = 0; i < nearest.size(); ++i) nearest[i] = {distances_[i], candidates[i]};
    std::sort(nearest.begin(), nearest.end());
    if (nearest.size() > kCandidates) nearest.resize(kCandidates);
    return prune(nearest);
}

}  // namespace mrl
