// Links rows into a graph that is not in memory, a batch at a time: who calls brings what is asked
// for.
//
// The rows of a batch come with the candidates that their walks met (add). Lines of all of them are
// given, each row is pruned (prune); then the links of those that were linked to are given, and
// each new row is offered to them (link_back). What distances are computed from are the lines: four
// bits a coordinate, which a graph's rule of pruning does not notice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "../store/line_codes.hpp"
#include "../store/links.hpp"
#include "build_codes.hpp"

namespace mrl {

class BatchLinker {
  public:
    struct Change {
        std::uint32_t slot;
        std::array<std::uint32_t, kDegree> links;
    };

    // longest: the largest squared length of all rows, for inner product.
    BatchLinker(const LineCodes& lines, float longest) : lines_(lines), longest_(longest) {}

    void add(std::uint32_t slot, const std::vector<std::uint32_t>& candidates);
    // Slots whose lines are to be given before the next step, rising.
    const std::vector<std::uint32_t>& missing();
    void give_line(std::uint32_t slot, const std::uint8_t* high_and_low);
    void prune();
    // Slots whose links are to be given before link_back(), rising.
    std::vector<std::uint32_t> targets() const;
    void give_links(std::uint32_t slot, const std::uint32_t* links, std::size_t slots);
    void link_back();
    // Links that are to be written, by rising slot.
    const std::vector<Change>& changes() const { return changes_; }

  private:
    static constexpr std::uint32_t kAbsent = 0xffffffffu;

    std::uint32_t number(std::uint32_t slot);
    void measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                 float* distances) const;
    void add_mates(std::uint32_t row, std::vector<std::uint32_t>& candidates) const;

    const LineCodes& lines_;
    float longest_;
    // Rows are numbered as they are met; `new_` are the batch.
    std::unordered_map<std::uint32_t, std::uint32_t> numbers_;
    std::vector<std::uint32_t> slots_, missing_;
    std::vector<bool> given_;
    BuildCodes codes_{0};
    std::vector<std::uint32_t> new_;
    std::vector<std::vector<std::uint32_t>> candidates_;           // of each new row, numbers
    std::map<std::uint32_t, std::vector<std::uint32_t>> links_;    // by slot: numbers
    std::map<std::uint32_t, std::vector<std::uint32_t>> offered_;  // by slot: numbers of new rows
    std::vector<Change> changes_;
};

}  // namespace mrl
