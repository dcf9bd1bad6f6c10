// Links rows into a graph that is not in memory, a batch at a time: who calls brings what is asked
// for.
//
// The rows of a batch come with the candidates that their walks met (add). Lines of all of them are
// given, each row is pruned (prune); then the links of those that were linked to are given, and
// each new row is offered to them (link_back): to those only of whose links none that is known by
// then hides it, so that the lines of the others' links need not be read. What distances are
// computed from are the lines: four bits a coordinate, which a graph's rule of pruning does not
// notice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../store/line_codes.hpp"
#include "../store/links.hpp"
#include "build_codes.hpp"
#include "slot_numbers.hpp"

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
    using Numbers = std::vector<std::uint32_t>;
    struct Offer {
        std::uint32_t to, row;
        bool is_to_nearest, is_hidden = false;
    };

    std::uint32_t number(std::uint32_t slot);
    bool is_hidden(const Offer& offer, const Numbers& links) const;
    void measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                 float* distances) const;
    void add_mates(std::uint32_t row, Numbers& candidates) const;
    // By rising slot.
    bool before(std::uint32_t a, std::uint32_t b) const { return slots_[a] < slots_[b]; }

    const LineCodes& lines_;
    float longest_;
    // Rows are numbered as they are met; `new_` are the batch.
    SlotNumbers numbers_;
    std::vector<std::uint32_t> slots_, missing_;  // slots
    std::vector<std::uint8_t> given_, is_new_;
    BuildCodes codes_{0};
    Numbers new_;
    std::vector<Numbers> candidates_;  // of each new row
    std::vector<Numbers> hosts_;       // … who shall lead to it
    std::vector<Numbers> links_;       // of those that were linked to
    std::vector<Offer> offers_;        // by the slots of those that they are made to
    mutable std::vector<std::int32_t> products_;
    std::vector<Change> changes_;
};

}  // namespace mrl
