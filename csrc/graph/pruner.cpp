#include "pruner.hpp"

#include <algorithm>

namespace mrl {

void Sorter::sort(std::vector<Near>& all) {
    constexpr std::size_t kShort = 256;
    const std::size_t n = all.size();
    if (n > kShort) {
        std::stable_sort(all.begin(), all.end(),
                         [](const Near& a, const Near& b) { return a.distance < b.distance; });
        return;
    }
    float distances[kShort];
    std::uint16_t ranks[kShort];
    for (std::size_t i = 0; i < n; ++i) distances[i] = all[i].distance;
    kernels().rank(distances, n, ranks);
    sorted_.assign(n, Near{0.0f, kNoLink});
    for (std::size_t i = 0; i < n; ++i) {
        std::size_t place = ranks[i];
        while (sorted_[place].slot != kNoLink)
            ++place;  // equal ones share a rank, and have places behind it
        sorted_[place] = all[i];
    }
    all.swap(sorted_);
}

std::size_t BuildPruner::prune(const std::vector<Near>& candidates, Near* links) {
    copy(candidates);
    std::size_t degree = 0;
    pruning_.prune(
        candidates.data(), candidates.size(), alpha_,
        [this](std::size_t link, const std::uint32_t* positions, std::size_t count) {
            kernels_.inner_product_int8_at(bytes_.data() + link * kBuildBytes, bytes_.data(),
                                           positions, count, kBuildBytes, kBuildBytes,
                                           products_.data());
            return [this, positions, square = square_[link], scale = 2.0f * scale_[link],
                    lift = 2.0f * lift_[link]](std::size_t p) {
                const std::size_t i = positions[p];
                return square + square_[i] - scale * scale_[i] * static_cast<float>(products_[p]) -
                       lift * lift_[i];
            };
        },
        [&](std::size_t i) { links[degree++] = candidates[i]; });
    end_links(links, degree);
    return degree;
}

void BuildPruner::copy(const std::vector<Near>& candidates) {
    const std::size_t n = candidates.size();
    products_.resize(n);
    if (bytes_.size() < n * kBuildBytes) {
        bytes_.resize(n * kBuildBytes);
        scale_.resize(n);
        square_.resize(n);
        lift_.resize(n);
    }
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t from = candidates[i].slot;
        std::copy_n(codes_.row(from), kBuildBytes, bytes_.data() + i * kBuildBytes);
        scale_[i] = codes_.scale[from];
        square_[i] = codes_.square[from];
        lift_[i] = codes_.lift[from];
    }
}

}  // namespace mrl
