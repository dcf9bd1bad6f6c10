// The arrays of the graph: the links of every slot (a row's place in the graph; neighbours in space
// lie near each other), and the entries at which walks begin.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../system/memory.hpp"
#include "line_codes.hpp"

namespace mrl {

constexpr std::size_t kDegree = 32;
constexpr std::uint32_t kNoLink = 0xffffffffu;
constexpr std::size_t kMostEntries = 16384;
constexpr std::size_t kMostGroups = 256;  // of kMostEntries

// A slot and its links, apart from the graph.
using SlotLinks = std::pair<std::uint32_t, std::vector<std::uint32_t>>;

// Up to kDegree links of each slot; the rest are kNoLink.
class Links {
  public:
    void resize(std::size_t slots) {
        const std::size_t before = links_.size(), after = slots * kDegree;
        links_.make_room(after);
        if (after > before) std::fill(links_.data() + before, links_.data() + after, kNoLink);
        links_.resize(after);
    }
    bool make_room(std::size_t slots, Growth growth) {
        return links_.make_room(slots * kDegree, growth);
    }
    bool has_room(std::size_t slots) const { return links_.has_room(slots * kDegree); }
    std::size_t slots() const { return links_.size() / kDegree; }
    std::uint32_t* of(std::size_t slot) { return links_.data() + slot * kDegree; }
    const std::uint32_t* of(std::size_t slot) const { return links_.data() + slot * kDegree; }
    std::size_t degree(std::size_t slot) const {
        return static_cast<std::size_t>(std::find(of(slot), of(slot) + kDegree, kNoLink) -
                                        of(slot));
    }
    void set(std::size_t slot, const std::uint32_t* to, std::size_t count) {
        std::fill(std::copy_n(to, count, of(slot)), of(slot) + kDegree, kNoLink);
    }
    void own(std::size_t slot) { links_.own(slot * kDegree, kDegree); }
    bool leads_to(std::size_t slot, std::uint32_t other) const {
        return std::find(of(slot), of(slot) + kDegree, other) != of(slot) + kDegree;
    }

    std::size_t bytes() const { return links_.bytes(); }

    template <class Visitor>
    void visit(Visitor& v) {
        v.array("graph.links", links_);
    }
    // Of what came out of a file: whether every link leads to a slot.
    bool is_valid(std::size_t slots) const {
        bool valid = links_.size() == slots * kDegree;
        for (std::size_t i = 0; i < links_.size(); ++i) {
            valid &= links_[i] < slots || links_[i] == kNoLink;
        }
        return valid;
    }

  private:
    Array<std::uint32_t> links_;
};

// One slot of every cell, in groups of neighbours (search/entries.hpp makes the groups).
struct Entries {
    std::vector<std::uint32_t> slots;         // group after group
    std::vector<std::uint32_t> begins{0, 0};  // of each group among them, and the end
    Array<std::uint8_t> lines;                // their high bits, side by side
    LineCodes centres;                        // of the groups

    std::size_t size() const { return slots.size(); }
    std::size_t bytes() const { return lines.bytes() + centres.bytes(); }

    // All of it, for who cannot wait for groups to be made.
    template <class Visitor>
    void visit(Visitor& v) {
        v.list("entries.slots", slots);
        v.list("entries.begins", begins);
        v.array("entries.lines", lines);
        centres.visit(v);
    }
    // Of what came from outside: whether all fits, over so many slots.
    bool restore(const LineCodes& codes, std::size_t of_slots) {
        const std::size_t groups = begins.size() - 1;
        const bool valid = begins.size() >= 2 && groups <= kMostGroups && size() <= kMostEntries &&
                           begins.front() == 0 && begins.back() == size() &&
                           std::is_sorted(begins.begin(), begins.end()) &&
                           lines.size() == size() * kLineBytes &&
                           std::all_of(slots.begin(), slots.end(),
                                       [of_slots](std::uint32_t slot) { return slot < of_slots; });
        // One group has no centre.
        return valid && (groups == 1 || centres.restore(codes.metric(), groups));
    }
};

}  // namespace mrl
