// That near slots lead to each row that comes, from an older one on.
//
// The rule of pruning turns a row away where another is nearer to it, or lets it in in the place of
// another. Of rows that can hardly be told apart it may turn all away, or let one of them in in the
// place of the next; a link from far away does not help a walk that has come near.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "prune.hpp"

namespace mrl {

inline bool has(const std::vector<std::uint32_t>& slots, std::uint32_t slot) {
    return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

// The links of slots as they will be.
class LinksToBe {
  public:
    virtual ~LinksToBe() = default;
    // Of one that changes; null where it does not.
    virtual std::vector<std::uint32_t>* changed(std::uint32_t slot) = 0;
    // … of any, to be changed; null where they are not known.
    virtual std::vector<std::uint32_t>* of(std::uint32_t slot) = 0;
};

constexpr float kHosts = 4.0f;  // times the squared distance of the nearest older one

// Who shall lead to a row: of candidates, by rising distance, those that are about as near as the
// nearest that is older; none where none is.
template <class IsOlder, class SlotOf>
std::vector<std::uint32_t> hosts_among(const std::vector<Near>& candidates, IsOlder&& is_older,
                                       SlotOf&& slot_of) {
    std::vector<std::uint32_t> hosts;
    const auto older = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const Near& near) { return is_older(near.slot); });
    for (const Near& near : candidates) {
        if (older == candidates.end() || near.distance > kHosts * older->distance) break;
        hosts.push_back(slot_of(near.slot));
    }
    return hosts;
}

// batch: the slots that came together. hosts: of each, of the batch or older, the nearest first;
// who else leads to it does not count. A slot that has no room gives a link up to the new row,
// which leads to whom it led: what was reached before still is.
void lead_to_all(const std::vector<std::uint32_t>& batch,
                 const std::vector<std::vector<std::uint32_t>>& hosts, LinksToBe& links);

}  // namespace mrl
