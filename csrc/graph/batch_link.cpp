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

std::uint32_t BatchLinker::number(std::uint32_t slot) {
    const auto [at, fresh] = numbers_.try_emplace(slot, static_cast<std::uint32_t>(slots_.size()));
    if (fresh) {
        slots_.push_back(slot);
        given_.push_back(false);
        missing_.push_back(slot);
    }
    return at->second;
}

void BatchLinker::add(std::uint32_t slot, const std::vector<std::uint32_t>& candidates) {
    new_.push_back(number(slot));
    std::vector<std::uint32_t> numbers;
    for (const std::uint32_t other : candidates) numbers.push_back(number(other));
    candidates_.push_back(std::move(numbers));
}

const std::vector<std::uint32_t>& BatchLinker::missing() {
    std::erase_if(missing_, [this](std::uint32_t slot) { return given_[numbers_.at(slot)]; });
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
    std::vector<std::int32_t> products(n);
    kernels().inner_product_int8_at(codes_.row(from), codes_.bytes.data(), to, n, kBuildBytes,
                                    kBuildBytes, products.data());
    for (std::size_t i = 0; i < n; ++i) distances[i] = codes_.between(from, to[i], products[i]);
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
        std::vector<std::uint32_t>& own = links_[slots_[new_[r]]];
        for (std::size_t e = 0; e < degree; ++e) {
            own.push_back(links[e].slot);
            offered_[slots_[links[e].slot]].push_back(new_[r]);
        }
    }
}

std::vector<std::uint32_t> BatchLinker::targets() const {
    std::vector<std::uint32_t> slots;
    for (const auto& [slot, rows] : offered_) {
        if (!links_.contains(slot)) slots.push_back(slot);
    }
    return slots;
}

void BatchLinker::give_links(std::uint32_t slot, const std::uint32_t* links, std::size_t slots) {
    std::vector<std::uint32_t>& own = links_[slot];
    for (std::size_t e = 0; e < kDegree && links[e] != kNoLink; ++e) {
        if (links[e] < slots) own.push_back(number(links[e]));
    }
}

void BatchLinker::link_back() {
    for (const auto& [slot, rows] : offered_) {
        std::vector<std::uint32_t>& own = links_[slot];
        for (const std::uint32_t row : rows) {
            add_link(numbers_.at(slot), row, own, BuildOptions{}.alpha,
                     [this](std::uint32_t from, const std::uint32_t* to, std::size_t n,
                            float* distances) { measure(from, to, n, distances); });
        }
    }
    // Somebody must lead to each: where all prunings dropped it, its nearest link gives its last
    // one up.
    for (const std::uint32_t row : new_) {
        const std::vector<std::uint32_t>& own = links_[slots_[row]];
        const bool reached = std::any_of(own.begin(), own.end(), [&](std::uint32_t other) {
            const std::vector<std::uint32_t>& theirs = links_[slots_[other]];
            return std::find(theirs.begin(), theirs.end(), row) != theirs.end();
        });
        if (!reached && !own.empty()) links_[slots_[own.front()]].back() = row;
    }
    changes_.clear();
    for (const auto& [slot, numbers] : links_) {
        Change change{slot, {}};
        change.links.fill(kNoLink);
        for (std::size_t e = 0; e < numbers.size(); ++e) change.links[e] = slots_[numbers[e]];
        changes_.push_back(change);
    }
}

}  // namespace mrl
