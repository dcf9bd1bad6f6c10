#include "batch_link.hpp"

#include <algorithm>
#include <cmath>

#include "../kernels/dispatch.hpp"
#include "build.hpp"
#include "pruner.hpp"

namespace mrl {
namespace {

constexpr std::size_t kMates = 16;  // of a batch, the nearest to each row that it considers
// A coordinate of a line is off by a twelfth of its step's square, and a line is a quarter of its
// rms a step: that much of its squared length is noise.
constexpr float kNoise = 0.25f * 0.25f / 12.0f;

}  // namespace

std::size_t SlotNumbers::place_of(std::uint32_t slot) const {
    const std::size_t mask = places_.size() - 1;
    std::size_t place = (slot * 0x9e3779b97f4a7c15u >> 32) & mask;
    while (places_[place].second != kNone && places_[place].first != slot)
        place = (place + 1) & mask;
    return place;
}

std::uint32_t SlotNumbers::find_or_add(std::uint32_t slot, std::uint32_t next) {
    if (2 * used_ >= places_.size()) grow();
    auto& place = places_[place_of(slot)];
    if (place.second == kNone) {
        place = {slot, next};
        ++used_;
    }
    return place.second;
}

void SlotNumbers::grow() {
    auto before = std::move(places_);
    places_.assign(std::max<std::size_t>(1024, 4 * before.size()), {0, kNone});
    for (const auto& place : before) {
        if (place.second != kNone) places_[place_of(place.first)] = place;
    }
}

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
    std::erase_if(missing_, [this](std::uint32_t slot) { return given_[numbers_.at(slot)] != 0; });
    std::sort(missing_.begin(), missing_.end());
    codes_.bytes.resize(slots_.size() * kBuildBytes);
    codes_.scale.resize(slots_.size());
    codes_.square.resize(slots_.size());
    codes_.lift.resize(slots_.size());
    return missing_;
}

void BatchLinker::give_line(std::uint32_t slot, const std::uint8_t* high_and_low) {
    const std::uint32_t i = numbers_.at(slot);
    std::int8_t* code = codes_.bytes.data() + std::size_t{i} * kBuildBytes;
    codes_.scale[i] = lines_.unpack(high_and_low, high_and_low + kLineBytes, code);
    std::int32_t square;
    kernels().inner_product_int8(code, code, 1, kBuildBytes, kBuildBytes, &square);
    codes_.square[i] =
        codes_.scale[i] * codes_.scale[i] * static_cast<float>(square) * (1.0f - kNoise);
    if (lines_.metric() == Metric::inner_product) {
        codes_.lift[i] = std::sqrt(std::max(0.0f, longest_ - codes_.square[i]));
        codes_.square[i] = std::max(longest_, codes_.square[i]);
    }
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
        Near links[kDegree];
        const std::size_t degree = pruner.prune(all, links);
        for (std::size_t e = 0; e < degree; ++e) {
            links_[new_[r]].push_back(links[e].slot);
            offers_.emplace_back(links[e].slot, new_[r]);
        }
    }
    std::stable_sort(offers_.begin(), offers_.end(),
                     [this](const auto& a, const auto& b) { return before(a.first, b.first); });
}

std::vector<std::uint32_t> BatchLinker::targets() const {
    std::vector<std::uint32_t> slots;
    for (const auto& [to, row] : offers_) {
        if (is_new_[to] == 0 && (slots.empty() || slots.back() != slots_[to]))
            slots.push_back(slots_[to]);
    }
    return slots;
}

void BatchLinker::give_links(std::uint32_t slot, const std::uint32_t* links, std::size_t slots) {
    Numbers own;
    for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
        if (links[e] < slots) own.push_back(number(links[e]));
    }
    links_[numbers_.at(slot)] = std::move(own);
}

void BatchLinker::link_back() {
    Numbers changed = new_;
    for (const auto& [to, row] : offers_) {
        add_link(to, row, links_[to], BuildOptions{}.alpha,
                 [this](std::uint32_t from, const std::uint32_t* others, std::size_t n,
                        float* distances) { measure(from, others, n, distances); });
        if (is_new_[to] == 0) changed.push_back(to);
    }
    // Somebody must lead to each: where all prunings dropped it, its nearest link gives its last
    // one up.
    for (const std::uint32_t row : new_) {
        const Numbers& own = links_[row];
        const bool reached = std::any_of(own.begin(), own.end(), [&](std::uint32_t other) {
            return std::find(links_[other].begin(), links_[other].end(), row) !=
                   links_[other].end();
        });
        if (!reached && !own.empty()) links_[own.front()].back() = row;
    }
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
