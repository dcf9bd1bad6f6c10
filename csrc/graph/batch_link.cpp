#include "batch_link.hpp"

#include <algorithm>

#include "../kernels/dispatch.hpp"
#include "build.hpp"
#include "lead.hpp"
#include "pruner.hpp"

namespace mrl {
namespace {

constexpr std::size_t kMates = 16;  // of a batch, the nearest to each row that it considers

// By numbers in place of slots; those that were given are known.
class GivenLinks : public LinksToBe {
  public:
    GivenLinks(const std::vector<std::uint8_t>& is_new,
               std::vector<std::vector<std::uint32_t>>& links, std::vector<std::uint32_t>& changed)
        : is_new_(is_new), links_(links), changed_(changed) {}

    std::vector<std::uint32_t>* changed(std::uint32_t row) override {
        return is_new_[row] != 0 || !links_[row].empty() ? &links_[row] : nullptr;
    }

    std::vector<std::uint32_t>* of(std::uint32_t row) override {
        if (changed(row) != nullptr) changed_.push_back(row);
        return changed(row);
    }

  private:
    const std::vector<std::uint8_t>& is_new_;
    std::vector<std::vector<std::uint32_t>>& links_;
    std::vector<std::uint32_t>& changed_;
};

}  // namespace

std::uint32_t BatchLinker::number(std::uint32_t slot) {
    const auto next = static_cast<std::uint32_t>(slots_.size());
    const std::uint32_t number = numbers_.find_or_add(slot, next);
    if (number == next) {
        slots_.push_back(slot);
        missing_.push_back(slot);
    }
    return number;
}

void BatchLinker::add(std::uint32_t slot, const std::vector<std::uint32_t>& candidates) {
    new_.push_back(number(slot));
    std::vector<std::uint32_t> numbers;
    for (const std::uint32_t other : candidates) numbers.push_back(number(other));
    candidates_.push_back(std::move(numbers));
}

const std::vector<std::uint32_t>& BatchLinker::missing() {
    given_.resize(slots_.size());
    is_new_.resize(slots_.size());
    links_.resize(slots_.size());
    for (const std::uint32_t row : new_) is_new_[row] = true;
    std::erase_if(missing_,
                  [this](std::uint32_t slot) { return given_[numbers_.find(slot)] != 0; });
    std::sort(missing_.begin(), missing_.end());
    codes_.resize(slots_.size());
    return missing_;
}

void BatchLinker::give_line(std::uint32_t slot, const std::uint8_t* high_and_low) {
    const std::uint32_t i = numbers_.find(slot);
    codes_.take_line(i, lines_, high_and_low, high_and_low + kLineBytes, longest_);
    given_[i] = true;
}

// Squared distances of a row to others.
void BatchLinker::measure(std::uint32_t from, const std::uint32_t* to, std::size_t n,
                          float* distances) const {
    products_.resize(std::max(n, products_.size()));
    kernels().inner_product_int8_at(codes_.row(from), codes_.bytes.data(), to, n, kBuildBytes,
                                    kBuildBytes, products_.data());
    for (std::size_t i = 0; i < n; ++i) distances[i] = codes_.between(from, to[i], products_[i]);
}

void BatchLinker::add_mates(std::uint32_t row, std::vector<std::uint32_t>& candidates) const {
    std::vector<float> distances(new_.size());
    measure(row, new_.data(), new_.size(), distances.data());
    std::vector<std::pair<float, std::uint32_t>> mates;
    for (std::size_t i = 0; i < new_.size(); ++i) {
        if (new_[i] != row) mates.emplace_back(distances[i], new_[i]);
    }
    const std::size_t count = std::min(kMates, mates.size());
    std::partial_sort(mates.begin(), mates.begin() + static_cast<std::ptrdiff_t>(count),
                      mates.end());
    for (std::size_t i = 0; i < count; ++i) candidates.push_back(mates[i].second);
}

void BatchLinker::prune() {
    BuildPruner pruner(codes_, BuildOptions{}.alpha);
    Sorter sorter;
    std::vector<float> distances;
    std::vector<Near> all;
    for (std::size_t r = 0; r < new_.size(); ++r) {
        std::vector<std::uint32_t>& candidates = candidates_[r];
        add_mates(new_[r], candidates);
        std::sort(candidates.begin(), candidates.end());
        candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
        std::erase(candidates, new_[r]);
        distances.resize(candidates.size());
        measure(new_[r], candidates.data(), candidates.size(), distances.data());
        all.clear();
        for (std::size_t i = 0; i < candidates.size(); ++i)
            all.push_back({distances[i], candidates[i]});
        sorter.sort(all);
        hosts_.push_back(hosts_among(
            all, [this](std::uint32_t i) { return is_new_[i] == 0; },
            [](std::uint32_t i) { return i; }));
        Near links[kDegree];
        const std::size_t degree = pruner.prune(all, links);
        for (std::size_t e = 0; e < degree; ++e) {
            links_[new_[r]].push_back(links[e].slot);
            offers_.push_back({links[e].slot, new_[r], e == 0});
        }
    }
    std::stable_sort(offers_.begin(), offers_.end(),
                     [this](const Offer& a, const Offer& b) { return before(a.to, b.to); });
}

std::vector<std::uint32_t> BatchLinker::targets() const {
    std::vector<std::uint32_t> slots;
    for (const Offer& offer : offers_) {
        if (is_new_[offer.to] == 0 && (slots.empty() || slots.back() != slots_[offer.to]))
            slots.push_back(slots_[offer.to]);
    }
    return slots;
}

void BatchLinker::give_links(std::uint32_t slot, const std::uint32_t* links, std::size_t slots) {
    const std::uint32_t to = numbers_.find(slot);
    std::size_t degree = 0;
    Numbers known;  // whose lines are here
    for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
        degree += links[e] < slots ? 1 : 0;
        const std::uint32_t other = numbers_.find(links[e]);
        if (links[e] < slots && other != SlotNumbers::kNone && other < given_.size() &&
            given_[other] != 0)
            known.push_back(other);
    }
    if (degree == kDegree) {
        bool none = true;
        auto offer = std::lower_bound(
            offers_.begin(), offers_.end(), slot,
            [this](const Offer& one, std::uint32_t than) { return slots_[one.to] < than; });
        for (; offer != offers_.end() && offer->to == to; ++offer) {
            offer->is_hidden = is_hidden(*offer, known);
            none &= offer->is_hidden;
        }
        if (none) return;
    }
    Numbers own;
    for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
        if (links[e] < slots) own.push_back(number(links[e]));
    }
    links_[to] = std::move(own);
}

// Whether add_link (prune.hpp) would turn a row away because of one of these links. Its nearest
// row has it offered all the same: where nobody else takes it, that one will.
bool BatchLinker::is_hidden(const Offer& offer, const Numbers& links) const {
    if (offer.is_to_nearest) return false;
    float distance, distances[kDegree];
    measure(offer.row, &offer.to, 1, &distance);
    measure(offer.row, links.data(), links.size(), distances);
    std::uint32_t near[kDegree];
    std::size_t n = 0;
    for (std::size_t i = 0; i < links.size(); ++i) {
        near[n] = links[i];
        n += hides(distance, distances[i], BuildOptions{}.alpha) ? 1 : 0;
    }
    measure(offer.to, near, n, distances);
    return std::any_of(distances, distances + n, [=](float other) { return other <= distance; });
}

void BatchLinker::link_back() {
    Numbers changed = new_;
    for (const Offer& offer : offers_) {
        if (offer.is_hidden) continue;
        add_link(offer.to, offer.row, links_[offer.to], BuildOptions{}.alpha,
                 [this](std::uint32_t from, const std::uint32_t* others, std::size_t n,
                        float* distances) { measure(from, others, n, distances); });
        if (is_new_[offer.to] == 0) changed.push_back(offer.to);
    }
    GivenLinks given(is_new_, links_, changed);
    lead_to_all(new_, hosts_, given);
    std::sort(changed.begin(), changed.end(),
              [this](std::uint32_t a, std::uint32_t b) { return before(a, b); });
    changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
    changes_.clear();
    for (const std::uint32_t row : changed) {
        Change change{slots_[row], {}};
        change.links.fill(kNoLink);
        for (std::size_t e = 0; e < links_[row].size(); ++e)
            change.links[e] = slots_[links_[row][e]];
        changes_.push_back(change);
    }
}

}  // namespace mrl
