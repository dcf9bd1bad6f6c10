// Random draws that are the same with every standard library: of <random> only the engines are laid
// down to the bit; distributions, std::sample and std::shuffle are each library's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace mrl {

// One of 0 to n - 1, each as likely as another: what is left over at the top is drawn again.
inline std::uint64_t draw_below(std::uint64_t n, std::mt19937_64& random) {
    const std::uint64_t end = std::mt19937_64::max() - std::mt19937_64::max() % n;
    std::uint64_t drawn = random();
    while (drawn >= end) drawn = random();
    return drawn % n;
}

// `count` of the numbers 0 to n - 1, or all, in random order: the beginning of a Fisher-Yates
// shuffle.
inline std::vector<std::uint32_t> draw_distinct(std::size_t n, std::size_t count,
                                                std::mt19937_64& random) {
    std::vector<std::uint32_t> numbers(n);
    std::iota(numbers.begin(), numbers.end(), 0u);
    if (count > n) count = n;
    for (std::size_t i = 0; i < count; ++i)
        std::swap(numbers[i], numbers[i + draw_below(n - i, random)]);
    numbers.resize(count);
    return numbers;
}

// Of mean 0 and variance 1, close to normal: twelve uniform numbers less their mean (Irwin-Hall),
// with sums only, which no mathematical library rounds otherwise.
inline float draw_normal(std::mt19937_64& random) {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random() >> 11) * 0x1p-53;
    return static_cast<float>(sum);
}

}  // namespace mrl
