#include "row_pruner.hpp"

#include <algorithm>
#include <cmath>

#include "../kernels/dispatch.hpp"

namespace mrl {
namespace {

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

}  // namespace

void measure_slots(const Store& store, double longest, std::uint32_t from,
                   const std::uint32_t* slots, std::size_t n, std::uint32_t* rows,
                   std::int32_t* products, float* distances) {
    const Rows& all = store.rows;
    const std::uint32_t row = store.row_of(from);
    for (std::size_t i = 0; i < n; ++i) rows[i] = store.row_of(slots[i]);
    kernels().inner_product_int8_at(all.code(row), all.codes(), rows, n, all.code_stride(),
                                    all.dims(), products);
    for (std::size_t i = 0; i < n; ++i)
        distances[i] = distance_of(store, longest, row, rows[i], products[i]);
}

const std::vector<float>& RowPruner::measure(std::uint32_t from, const std::uint32_t* slots,
                                             std::size_t n) {
    rows_.resize(n);
    products_.resize(n);
    distances_.resize(n);
    measure_slots(store_, longest_, from, slots, n, rows_.data(), products_.data(),
                  distances_.data());
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
