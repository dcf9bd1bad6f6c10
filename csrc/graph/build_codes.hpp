// What a graph is built from: short codes of all rows, which distances between rows are computed
// from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/pack.hpp"
#include "../store/line_codes.hpp"
#include "../store/projection.hpp"
#include "../store/rows.hpp"
#include "../system/memory.hpp"
#include "prune.hpp"

namespace mrl {

constexpr std::size_t kBuildBytes = 256;  // bytes of a build code: 240 coordinates and zeros
// Rows compared at once: their products stay in the second-level cache.
constexpr std::size_t kCompared = 96;

// What distances between rows are computed from: int8 coordinates with a scale, the squared length,
// and under inner product a lift, the coordinate that gives all rows one length, so that the
// nearest is the one with the largest product (Bachrach et al., RecSys 2014).
struct BuildCodes {
    Array<std::int8_t> bytes;  // kBuildBytes each
    Array<float> scale, square, lift;

    explicit BuildCodes(std::size_t n) { resize(n); }
    void resize(std::size_t n) {
        bytes.resize(n * kBuildBytes);
        scale.resize(n);
        square.resize(n);
        lift.resize(n);
    }
    std::size_t size() const { return scale.size(); }
    const std::int8_t* row(std::size_t i) const { return bytes.data() + i * kBuildBytes; }
    float between(std::size_t i, std::size_t j, std::int32_t product) const {
        return std::max(0.0f, square[i] + square[j] -
                                  2.0f * (scale[i] * scale[j] * static_cast<float>(product) +
                                          lift[i] * lift[j]));
    }
    // What a line of codes says of a row, for those that come later: four bits a coordinate, which
    // the rule of pruning does not notice, in the order of a LineQuery, so that they are compared
    // with each other only. longest: the largest squared length of all rows, for inner product.
    void take_line(std::size_t i, const LineCodes& lines, const std::uint8_t* high,
                   const std::uint8_t* low, float longest);
    void copy(std::size_t i, const BuildCodes& from, std::size_t j);
};

// The codes of some rows. unit: the rms of |y| over them.
BuildCodes project_rows(const Rows& rows, const Projection& projection,
                        const std::vector<std::uint32_t>& which, float* unit, std::size_t threads);

// Rows of `b` packed for tile_int8, with what turns products into distances.
struct PackedCodes {
    Array<std::uint8_t> bytes;
    void pack(const BuildCodes& codes, const std::uint32_t* which, std::size_t n) {
        std::vector<const std::int8_t*> rows(n);
        for (std::size_t i = 0; i < n; ++i) rows[i] = codes.row(which[i]);
        bytes.resize(round_up(n, 16) * kBuildBytes);
        pack_tile(rows.data(), n, kBuildBytes, bytes.data());
    }
};

}  // namespace mrl
