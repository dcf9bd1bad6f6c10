#include "cells.hpp"

#include <algorithm>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../system/random.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {

namespace {

// The nearest centre of each listed row.
void assign(const BuildCodes& rows, const std::vector<std::uint32_t>& which, Cells& cells,
            std::size_t threads, Meter* meter) {
    PackedCodes packed;
    std::vector<std::uint32_t> all(cells.count);
    std::iota(all.begin(), all.end(), 0u);
    packed.pack(cells.centres, all.data(), cells.count);
    constexpr std::size_t kCentres = 512;  // whose products are looked at together
    parallel_for(
        threads, (which.size() + kCompared - 1) / kCompared, [&](std::size_t block, std::size_t) {
            const std::size_t first = block * kCompared,
                              count = std::min(kCompared, which.size() - first);
            std::vector<std::int8_t> gathered(count * kBuildBytes);
            std::vector<std::int32_t> products(count * kCentres);
            for (std::size_t i = 0; i < count; ++i)
                std::copy_n(rows.row(which[first + i]), kBuildBytes,
                            gathered.data() + i * kBuildBytes);
            std::vector<float> best(count, kInfinity);
            for (std::size_t c = 0; c < cells.count; c += kCentres) {
                const std::size_t centres = std::min(kCentres, cells.count - c);
                kernels().tile_int8(gathered.data(), count, kBuildBytes,
                                    packed.bytes.data() + c * kBuildBytes, (centres + 15) / 16,
                                    kBuildBytes, products.data(), kCentres);
                for (std::size_t i = 0; i < count; ++i) {
                    const std::size_t row = which[first + i];
                    const std::int32_t* product = products.data() + i * kCentres;
                    const float scale = 2.0f * rows.scale[row], lift = 2.0f * rows.lift[row];
                    const float *centre_square = cells.centres.square.data() + c,
                                *centre_scale = cells.centres.scale.data() + c,
                                *centre_lift = cells.centres.lift.data() + c;
                    float distance[kCentres];
                    for (std::size_t j = 0; j < centres; ++j) {
                        distance[j] = centre_square[j] -
                                      scale * centre_scale[j] * static_cast<float>(product[j]) -
                                      lift * centre_lift[j];
                    }
                    for (std::size_t j = 0; j < centres; ++j) {
                        if (distance[j] < best[i]) {
                            best[i] = distance[j];
                            cells.of_row[row] = static_cast<std::uint32_t>(c + j);
                        }
                    }
                }
            }
            for (std::size_t i = 0; i < count; ++i) cells.distance[which[first + i]] = best[i];
            if (meter != nullptr)
                meter->add(static_cast<double>(count) * static_cast<double>(cells.count));
        });
}

}  // namespace

Cells make_cells(const BuildCodes& codes, std::size_t count, const BuildOptions& options,
                 Meter& meter) {
    constexpr std::size_t kSampled = 16, kIterations = 3;
    const std::size_t n = codes.size();
    std::mt19937_64 random(options.seed);
    const std::vector<std::uint32_t> sample = draw_distinct(n, count * kSampled, random);
    Cells cells;
    cells.count = count;
    cells.centres = BuildCodes(round_up(count, 16));
    cells.of_row.assign(n, 0);
    cells.distance.assign(n, 0.0f);
    const auto copy_centre = [&](std::size_t cell, std::size_t row) {
        std::copy_n(codes.row(row), kBuildBytes, cells.centres.bytes.data() + cell * kBuildBytes);
        cells.centres.scale[cell] = codes.scale[row];
        cells.centres.square[cell] = codes.square[row];
        cells.centres.lift[cell] = codes.lift[row];
    };
    for (std::size_t cell = 0; cell < count; ++cell)
        copy_centre(cell, sample[cell % sample.size()]);
    for (std::size_t iteration = 0; iteration < kIterations && count > 1; ++iteration) {
        assign(codes, sample, cells, options.threads, nullptr);
        std::vector<std::vector<std::uint32_t>> members(count);
        for (const std::uint32_t row : sample) members[cells.of_row[row]].push_back(row);
        parallel_for(options.threads, count, [&](std::size_t cell, std::size_t) {
            if (members[cell].empty()) return;  // stays where it is: few rows lie there
            float mean[kBuildBytes] = {};
            float lift = 0;
            const float share = 1.0f / static_cast<float>(members[cell].size());
            for (const std::uint32_t row : members[cell]) {
                const std::int8_t* code = codes.row(row);
                const float scale = codes.scale[row] * share;
                for (std::size_t j = 0; j < kBuildBytes; ++j)
                    mean[j] += scale * static_cast<float>(code[j]);
                lift += codes.lift[row] * share;
            }
            float square = lift * lift;
            for (const float x : mean) square += x * x;
            cells.centres.scale[cell] = kernels().quantise_int8(
                mean, kBuildBytes, cells.centres.bytes.data() + cell * kBuildBytes);
            cells.centres.square[cell] = square;
            cells.centres.lift[cell] = lift;
        });
    }
    std::vector<std::uint32_t> all(n);
    std::iota(all.begin(), all.end(), 0u);
    assign(codes, all, cells, options.threads, &meter);
    return cells;
}

std::vector<std::vector<std::uint32_t>> nearest_cells(const Cells& cells,
                                                      const std::vector<std::size_t>& sizes,
                                                      std::size_t rows_wanted,
                                                      std::size_t threads) {
    PackedCodes packed;
    std::vector<std::uint32_t> all(cells.count);
    std::iota(all.begin(), all.end(), 0u);
    packed.pack(cells.centres, all.data(), cells.count);
    std::vector<std::vector<std::uint32_t>> near(cells.count);
    parallel_for(threads, cells.count, [&](std::size_t cell, std::size_t) {
        std::vector<std::int32_t> products(round_up(cells.count, 16));
        kernels().tile_int8(cells.centres.row(cell), 1, kBuildBytes, packed.bytes.data(),
                            products.size() / 16, kBuildBytes, products.data(), products.size());
        std::vector<Near> order(cells.count);
        for (std::size_t other = 0; other < cells.count; ++other) {
            order[other] = {
                other == cell ? -1.0f : cells.centres.between(cell, other, products[other]),
                static_cast<std::uint32_t>(other)};
        }
        std::sort(order.begin(), order.end());
        std::size_t rows = 0;
        for (std::size_t i = 0; i < order.size() && (rows < rows_wanted || i < 2); ++i) {
            near[cell].push_back(order[i].slot);
            rows += sizes[order[i].slot];
        }
    });
    return near;
}

std::vector<std::uint32_t> chain(const std::vector<std::vector<std::uint32_t>>& near) {
    std::vector<std::uint32_t> order;
    std::vector<bool> used(near.size(), false);
    std::size_t next_unused = 0;
    for (std::uint32_t cell = 0; order.size() < near.size();) {
        order.push_back(cell);
        used[cell] = true;
        const auto free = std::find_if(near[cell].begin(), near[cell].end(),
                                       [&](std::uint32_t other) { return !used[other]; });
        if (free != near[cell].end()) {
            cell = *free;
            continue;
        }
        while (next_unused < near.size() && used[next_unused]) ++next_unused;
        cell = static_cast<std::uint32_t>(next_unused);
    }
    return order;
}

}  // namespace mrl
