// Cells packed as tiles, those that were wanted last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "build_codes.hpp"

namespace mrl {

// A cell is compared with its neighbours, and the next cell with nearly the same ones: packed when
// it is first wanted, a cell stays until another one takes its place, so that what is packed fits
// into a cache and need not be held for all rows. One object for each thread.
class PackedCells {
  public:
    // Slots begins[c] to begins[c + 1] are those of cell c.
    PackedCells(const BuildCodes& codes, const std::vector<std::size_t>& begins)
        : codes_(codes), begins_(begins) {
        const std::size_t cell = codes.size() / (begins.size() - 1);
        places_.resize(std::clamp<std::size_t>(kRows / std::max<std::size_t>(1, cell), 8, 256));
    }

    // The rows of a cell as Kernels::tile_int8 reads them. Valid until the next call.
    const std::uint8_t* of(std::uint32_t cell) {
        Place& place = places_[cell % places_.size()];
        if (place.cell == cell) return place.bytes.data();
        const std::size_t rows = begins_[cell + 1] - begins_[cell];
        rows_.resize(rows);
        for (std::size_t i = 0; i < rows; ++i) rows_[i] = codes_.row(begins_[cell] + i);
        place.cell = cell;
        place.bytes.resize(round_up(rows, 16) * kBuildBytes);
        pack_tile(rows_.data(), rows, kBuildBytes, place.bytes.data());
        return place.bytes.data();
    }

  private:
    // Held, about. Neighbours have neighbouring numbers, mostly; each is compared with 4,096 rows.
    static constexpr std::size_t kRows = 16384;
    struct Place {
        std::uint32_t cell = 0xffffffffu;
        std::vector<std::uint8_t> bytes;
    };

    const BuildCodes& codes_;
    const std::vector<std::size_t>& begins_;
    std::vector<Place> places_;
    std::vector<const std::int8_t*> rows_;
};

}  // namespace mrl
