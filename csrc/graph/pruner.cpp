#include "pruner.hpp"

#include <algorithm>

namespace mrl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void Sorter::sort(std::vector<Near>& all) {
    constexpr std::size_t kRanked = 256;
    const std::size_t n = all.size();
    if (n > kRanked) {
        std::stable_sort(all.begin(), all.end(),
                         [](const Near& a, const Near& b) { return a.distance < b.distance; });
        return;
    }
    float distances[kRanked];
    std::uint16_t ranks[kRanked];
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

std::size_t Pruner::prune(std::uint32_t slot, const std::vector<Near>& candidates, Near* links) {
    const std::size_t n = candidates.size();
    copy(candidates);
    std::size_t count = 0;
    for (float round = 1.0f; count < kDegree; round = std::min(alpha_, round * 1.2f)) {
        for (std::size_t i = 0; i < n && count < kDegree; ++i) {
            if (occlusion_[i] > round || candidates[i].slot == slot) continue;
            links[count++] = candidates[i];
            occlusion_[i] = kInfinity;
            if (count < kDegree) occlude(candidates, i);
        }
        if (round >= alpha_) break;
    }
    return count;
}

void Pruner::copy(const std::vector<Near>& candidates) {
    const std::size_t n = candidates.size();
    occlusion_.assign(n, 0.0f);
    products_.resize(n);
    places_.resize(n);
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

void Pruner::occlude(const std::vector<Near>& candidates, std::size_t link) {
    std::size_t count = 0;
    for (std::size_t i = link + 1; i < candidates.size(); ++i) {
        places_[count] = static_cast<std::uint32_t>(i);
        count += occlusion_[i] <= alpha_ ? 1 : 0;
    }
    kernels_.inner_product_int8_at(bytes_.data() + link * kBuildBytes, bytes_.data(),
                                   places_.data(), count, kBuildBytes, kBuildBytes,
                                   products_.data());
    const float scale = 2.0f * scale_[link], lift = 2.0f * lift_[link];
    for (std::size_t p = 0; p < count; ++p) {
        const std::size_t i = places_[p];
        const float between = square_[link] + square_[i] -
                              scale * scale_[i] * static_cast<float>(products_[p]) -
                              lift * lift_[i];
        const float ratio = between > 0 ? candidates[i].distance / between : kInfinity;
        occlusion_[i] = std::max(occlusion_[i], ratio);
    }
}

}  // namespace mrl
