#include "lead.hpp"

#include <algorithm>
#include <utility>

#include "../store/links.hpp"
#include "slot_numbers.hpp"

namespace mrl {
namespace {

using Slots = std::vector<std::uint32_t>;

class Leader {
  public:
    Leader(const Slots& batch, const std::vector<Slots>& hosts, LinksToBe& links)
        : batch_(batch), hosts_(hosts), links_(links), reached_(batch.size(), false) {
        for (std::uint32_t i = 0; i < batch.size(); ++i) mates_.find_or_add(batch[i], i);
    }

    void lead_to_all() {
        for (std::size_t i = 0; i < batch_.size(); ++i) {
            if (!reached_[i] && is_led_to(i)) reach_from(i);
        }
        for (std::size_t i = 0; i < batch_.size(); ++i) {
            if (reached_[i]) continue;
            lead_to(i);
            reach_from(i);
        }
    }

  private:
    // Whether one of its links leads to it that is older.
    bool is_led_to(std::size_t mate) const {
        const Slots& own = *links_.changed(batch_[mate]);
        return std::any_of(own.begin(), own.end(), [&](std::uint32_t other) {
            if (mates_.find(other) != SlotNumbers::kNone) return false;
            const Slots* theirs = links_.changed(other);
            return theirs != nullptr && has(*theirs, batch_[mate]) && has(hosts_[mate], other);
        });
    }

    // … and all of the batch that it leads to.
    void reach_from(std::size_t first) {
        reached_[first] = true;
        open_.assign(1, batch_[first]);
        while (!open_.empty()) {
            const std::uint32_t from = open_.back();
            open_.pop_back();
            for (const std::uint32_t to : *links_.changed(from)) {
                const std::uint32_t mate = mates_.find(to);
                if (mate == SlotNumbers::kNone || reached_[mate] || !has(hosts_[mate], from)) {
                    continue;
                }
                reached_[mate] = true;
                open_.push_back(to);
            }
        }
    }

    void lead_to(std::size_t mate) {
        const std::uint32_t slot = batch_[mate];
        Slots* host = host_among(hosts_[mate]);
        if (host == nullptr || has(*host, slot)) return;
        if (host->size() < kDegree) {
            host->push_back(slot);
            return;
        }
        const std::uint32_t given = std::exchange(host->back(), slot);
        Slots& own = *links_.changed(slot);
        if (has(own, given)) return;
        own.resize(std::min(own.size(), kDegree - 1));
        own.push_back(given);
    }

    // The first that has room; where none has, the first.
    Slots* host_among(const Slots& hosts) {
        Slots* first = nullptr;
        for (const std::uint32_t slot : hosts) {
            const std::uint32_t mate = mates_.find(slot);
            if (mate != SlotNumbers::kNone && !reached_[mate]) continue;
            Slots* links = links_.of(slot);
            if (links == nullptr) continue;
            if (links->size() < kDegree) return links;
            if (first == nullptr) first = links;
        }
        return first;
    }

    const Slots& batch_;
    const std::vector<Slots>& hosts_;
    LinksToBe& links_;
    std::vector<bool> reached_;  // of the batch
    SlotNumbers mates_;
    Slots open_;
};

}  // namespace

void lead_to_all(const Slots& batch, const std::vector<Slots>& hosts, LinksToBe& links) {
    Leader(batch, hosts, links).lead_to_all();
}

}  // namespace mrl
