#include "stage_codes.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "../kernels/dispatch.hpp"
#include "../store/metric.hpp"
#include "best.hpp"
#include "walk.hpp"

namespace mrl {
namespace {

constexpr std::size_t kLinesAhead = 64;  // of a run, fetched before they are read
constexpr std::size_t kPlanes = 6;  // bits of a query's dim: its error is well below the codes'

}  // namespace

std::size_t select_scores(const Kernels& kernels, std::size_t n, float threshold, float* scores,
                          std::uint32_t* positions) {
    if (!(threshold < kInfinity)) {
        for (std::size_t i = 0; i < n; ++i) positions[i] = static_cast<std::uint32_t>(i);
        return n;
    }
    const std::size_t passed = kernels.select_below(scores, n, threshold, positions);
    for (std::size_t i = 0; i < passed; ++i) scores[i] = scores[positions[i]];
    return passed;
}

std::size_t StageCodes::select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                               std::size_t n, float threshold, float* scores,
                               std::uint32_t* positions) const {
    std::uint32_t ids[kScanBlock];
    std::iota(ids, ids + kScanBlock, static_cast<std::uint32_t>(first));
    scan_at(kernels, query, ids, n, scores);
    return select_scores(kernels, n, threshold, scores, positions);
}

// Lines

std::size_t LineStage::widening() const { return both_at_once_ ? 1 : walk_rule::kHighKeep; }

void LineStage::score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                         std::size_t n, float* scores) const {
    for (std::size_t i = 0; i < n; ++i) {
        __builtin_prefetch(lines_->low() + std::size_t{ids[i]} * kLineBytes);
    }
    kernels.score_both(&query.line, lines_->high(), lines_->low(), ids, n, scores);
}

void LineStage::scan_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                        std::size_t n, float* scores) const {
    if (both_at_once_) return score_at(kernels, query, ids, n, scores);
    kernels.score_high(&query.line, lines_->high(), ids, n, scores);
}

std::size_t LineStage::select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                              std::size_t n, float threshold, float* scores,
                              std::uint32_t* positions) const {
    for (std::size_t i = 0; i < n; ++i) {
        __builtin_prefetch(lines_->high() + (first + i + kLinesAhead) * kLineBytes);
    }
    return StageCodes::select(kernels, query, first, n, threshold, scores, positions);
}

void LineStage::fetch(const std::uint32_t* ids, std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) {
        __builtin_prefetch(lines_->high() + std::size_t{ids[i]} * kLineBytes);
    }
}

// Rows

void RowStage::score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                        std::size_t n, float* scores) const {
    rows_->score(kernels, query.row, ids, n, scores);
}

void FloatStage::score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                          std::size_t n, float* scores) const {
    const Metric metric = rows_->metric();
    // A zero prefix says nothing; elsewhere a NaN comes of infinities, and is last.
    const float of_nan = metric == Metric::cosine ? 1.0f : kInfinity;
    for (std::size_t i = 0; i < n; ++i) {
        metric_scores(kernels, metric, query.row.values, rows_->vector(ids[i]), 1, dims_, dims_,
                      scores + i);
        if (std::isnan(scores[i])) scores[i] = of_nan;
    }
}

// int8

void Int8Stage::prepare(StageQuery& query) const {
    const float* values =
        codes_->space() == Space::projection ? query.coordinates : query.row.values;
    query.code.assign(round_up(codes_->dims(), kCacheLine), 0);
    query.scale = kernels().quantise_int8(values, codes_->dims(), query.code.data());
    if (codes_->metric() == Metric::cosine) query.scale *= inverse_norm(values, codes_->dims());
}

void Int8Stage::score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                         std::size_t n, float* scores) const {
    std::int32_t products[kScanBlock];
    const float *factors = codes_->factors(), *addends = codes_->addends();
    for (std::size_t first = 0; first < n; first += kScanBlock) {
        const std::size_t count = std::min(kScanBlock, n - first);
        const std::uint32_t* rows = ids + first;
        kernels.inner_product_int8_at(query.code.data(), codes_->code(0), rows, count,
                                      codes_->stride(), codes_->dims(), products);
        for (std::size_t i = 0; i < count; ++i) {
            const float share = -query.scale * factors[rows[i]] * static_cast<float>(products[i]);
            scores[first + i] = addends == nullptr ? share : share + addends[rows[i]];
        }
    }
}

std::size_t Int8Stage::select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                              std::size_t n, float threshold, float* scores,
                              std::uint32_t* positions) const {
    std::int32_t products[kScanBlock];
    kernels.inner_product_int8(query.code.data(), codes_->code(first), n, codes_->stride(),
                               codes_->dims(), products);
    const float* addends = codes_->addends();
    return kernels.select_products(products, codes_->factors() + first,
                                   addends == nullptr ? nullptr : addends + first, n, query.scale,
                                   threshold, scores, positions);
}

// Bits: the query in steps of its own range, one plane for each bit of a step.

void BitStage::prepare(StageQuery& query) const {
    const FlatCodes& codes = *codes_;
    const float* values = codes.space() == Space::projection ? query.coordinates : query.row.values;
    std::vector<float> centred(values, values + codes.dims());
    for (std::size_t i = 0; i < codes.mean().size() && codes.metric() == Metric::l2; ++i) {
        centred[i] -= codes.mean()[i];
    }
    const auto [low, high] = std::minmax_element(centred.begin(), centred.end());
    constexpr int kSteps = (1 << kPlanes) - 1;
    query.lowest = *low;
    query.scale = (*high - *low) / static_cast<float>(kSteps);
    query.planes.assign(kPlanes * codes.stride(), 0);
    int sum = 0;
    for (std::size_t i = 0; i < codes.dims(); ++i) {
        const int step =
            query.scale > 0 ? static_cast<int>(std::lrint((centred[i] - *low) / query.scale)) : 0;
        sum += step;
        for (std::size_t p = 0; p < kPlanes; ++p) {
            std::uint8_t& byte = query.planes[p * codes.stride() + i / 8];
            byte = static_cast<std::uint8_t>(byte | (step >> p & 1) << (i % 8));
        }
    }
    query.sum =
        query.lowest * static_cast<float>(codes.dims()) + query.scale * static_cast<float>(sum);
}

float BitStage::score_of(const StageQuery& query, std::int32_t product, std::size_t row) const {
    const float set = query.lowest * static_cast<float>(codes_->ones()[row]) +
                      query.scale * static_cast<float>(product);
    const float score = codes_->factors()[row] * (query.sum - 2.0f * set);
    return codes_->addends() == nullptr ? score : score + codes_->addends()[row];
}

void BitStage::score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                        std::size_t n, float* scores) const {
    const std::size_t stride = codes_->stride();
    for (std::size_t i = 0; i < n; ++i) {
        std::int32_t product;
        kernels.inner_product_bit(query.planes.data(), kPlanes, codes_->bytes_of(ids[i]), 1, stride,
                                  stride, &product);
        scores[i] = score_of(query, product, ids[i]);
    }
}

std::size_t BitStage::select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                             std::size_t n, float threshold, float* scores,
                             std::uint32_t* positions) const {
    std::int32_t products[kScanBlock];
    const std::size_t stride = codes_->stride();
    kernels.inner_product_bit(query.planes.data(), kPlanes, codes_->bytes_of(first), n, stride,
                              stride, products);
    for (std::size_t i = 0; i < n; ++i) scores[i] = score_of(query, products[i], first + i);
    return select_scores(kernels, n, threshold, scores, positions);
}

// A plan

CheckedPlan::CheckedPlan(const Store& store, const Plan& of)
    : plan(&of), walks(of.route == Route::graph), tiled(nullptr), store_(&store) {
    const std::vector<Stage>& all = of.stages;
    if (all.empty() || all.size() > kMostStages) {
        throw PlanMismatch(std::to_string(all.size()) + " stages, wanted 1 to " +
                           std::to_string(kMostStages));
    }
    const std::size_t dims = store.dims();
    if (all.back().precision != Precision::float32 || all.back().dims != dims) {
        throw PlanMismatch("the last stage is " + name_of(all.back()) + ", wanted all " +
                           std::to_string(dims) + " dims in float32");
    }
    if (walks && !store.has_graph) {
        throw PlanMismatch("the plan walks a graph, and none was loaded");
    }
    if (walks && (all.size() < 2 || all.front().precision != Precision::int4)) {
        throw PlanMismatch(
            "the graph is walked by int4 codes of the projection, the first stage is " +
            name_of(all.front()));
    }
    projects_ = has_lines_ = walks;
    for (std::size_t i = 0; i < all.size(); ++i) {
        made_[i] = make(all[i], i + 1 == all.size());
        codes_[i] = std::visit(
            [](const auto& made) -> const StageCodes* {
                if constexpr (std::is_same_v<decltype(made), const std::monostate&>) {
                    return nullptr;
                } else {
                    return &made;
                }
            },
            made_[i]);
        if (codes_[i] == nullptr) {
            throw PlanMismatch("stage " + name_of(all[i]) + " was not loaded");
        }
        has_lines_ |= codes_[i]->by_slot();
        projects_ |= all[i].space == Space::projection;
    }
    const Stage& first = all.front();
    if (!walks && std::holds_alternative<Int8Stage>(made_[0])) {
        tiled = store.flat_codes(first.space, first.dims, first.precision);
    }
}

CheckedPlan::Made CheckedPlan::make(const Stage& stage, bool is_last) const {
    const std::size_t dims = store_->dims();
    const bool whole = stage.dims == dims && stage.space == Space::prefix;
    const FlatCodes* flat = store_->flat_codes(stage.space, stage.dims, stage.precision);
    switch (stage.precision) {
        case Precision::int4:
            if (store_->has_line_codes && stage.space == Space::projection &&
                stage.dims == std::min(dims, kLineCoordinates)) {
                return LineStage(store_->lines);
            }
            break;
        case Precision::int8:
            if (whole) return RowStage(store_->rows);
            if (flat != nullptr) return Int8Stage(*flat);
            break;
        case Precision::bit:
            if (flat != nullptr) return BitStage(*flat);
            break;
        case Precision::float32:
            if (stage.space == Space::prefix && stage.dims <= dims &&
                (is_last || store_->rows.keeps_vectors())) {
                return FloatStage(store_->rows, stage.dims);
            }
            break;
    }
    return {};
}

void CheckedPlan::prepare(const float* query, StageQuery& prepared) const {
    store_->rows.prepare(query, prepared.row);
    if (!projects_) return;
    float* const z = prepared.coordinates;
    const float square = store_->projection->project(prepared.row, z);
    if (!has_lines_) return;
    store_->lines.prepare(z, prepared.line);
    prepared.lengths = lengths_of(z, square, store_->dims(), store_->metric());
}

}  // namespace mrl
