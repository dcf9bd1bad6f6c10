#include "entries.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "best.hpp"

namespace mrl {
namespace {

constexpr std::size_t kFew = 256;        // entries that are looked at all
constexpr std::size_t kRowsAnEntry = 8;  // where there are few
constexpr std::size_t kLookedAt = 128;   // entries, about, of the nearest groups
constexpr std::size_t kProbed = 16;      // groups at most
constexpr std::size_t kIterations = 6;

// 0, 1, 2, …: lines side by side are scored by the kernel for lines anywhere.
const std::uint32_t* positions() {
    static const std::vector<std::uint32_t> all = [] {
        std::vector<std::uint32_t> numbers(kMostEntries);
        std::iota(numbers.begin(), numbers.end(), 0u);
        return numbers;
    }();
    return all.data();
}

// As many lines for the centres as for the entries of the nearest groups, about, and whole
// registers of them.
std::size_t groups_of(std::size_t entries) {
    return entries <= kFew ? 1
                           : 16 * static_cast<std::size_t>(
                                      std::ceil(std::sqrt(static_cast<double>(entries)) / 8.0));
}

float square_of(const float* z) {
    float sum = 0;
    for (std::size_t j = 0; j < kLineCoordinates; ++j) sum += z[j] * z[j];
    return sum;
}

// Lloyd's k-means over what the codes say of the entries; it begins with entries evenly spread over
// the slots, which are in the order of cells.
void group(const LineCodes& codes, std::size_t groups, Entries& entries) {
    std::vector<std::uint32_t>& slots = entries.slots;
    LineCodes& centres = entries.centres;
    const std::size_t n = slots.size();
    std::vector<std::uint32_t> group_of(n, 0);
    centres.like(codes);
    centres.resize(groups);
    if (groups > 1) {
        constexpr std::size_t d = kLineCoordinates;
        std::vector<float> decoded(n * d), centre(groups * d), nearest(n), scores(n);
        for (std::size_t i = 0; i < n; ++i) codes.decode(slots[i], decoded.data() + i * d);
        for (std::size_t g = 0; g < groups; ++g)
            std::copy_n(decoded.data() + g * n / groups * d, d, centre.data() + g * d);
        for (std::size_t iteration = 0; iteration < kIterations; ++iteration) {
            std::fill(nearest.begin(), nearest.end(), kInfinity);
            for (std::size_t g = 0; g < groups; ++g) {
                LineQuery query;
                codes.prepare(centre.data() + g * d, query);
                kernels().score_both(&query, codes.high(), codes.low(), slots.data(), n,
                                     scores.data());
                const float half =
                    0.5f * square_of(centre.data() + g * d) / (codes.unit() * codes.unit());
                for (std::size_t i = 0; i < n; ++i) {
                    if (scores[i] + half < nearest[i]) {
                        nearest[i] = scores[i] + half;
                        group_of[i] = static_cast<std::uint32_t>(g);
                    }
                }
            }
            std::vector<float> sum(groups * d, 0.0f);
            std::vector<std::size_t> members(groups, 0);
            for (std::size_t i = 0; i < n; ++i) {
                ++members[group_of[i]];
                for (std::size_t j = 0; j < d; ++j) sum[group_of[i] * d + j] += decoded[i * d + j];
            }
            for (std::size_t g = 0; g < groups; ++g) {
                const float share = 1.0f / static_cast<float>(members[g]);
                for (std::size_t j = 0; members[g] != 0 && j < d; ++j)
                    centre[g * d + j] = share * sum[g * d + j];
            }
        }
        // Under cosine a group of few like rows must not be ahead of one that is spread wider:
        // directions are compared.
        for (std::size_t g = 0; g < groups; ++g) {
            const float* z = centre.data() + g * d;
            centres.encode(
                g, z,
                codes.metric() == Metric::cosine ? codes.unit() * codes.unit() : square_of(z));
        }
    }
    entries.begins.assign(groups + 1, 0);
    for (const std::uint32_t g : group_of) ++entries.begins[g + 1];
    std::partial_sum(entries.begins.begin(), entries.begins.end(), entries.begins.begin());
    std::vector<std::uint32_t> next(entries.begins.begin(), entries.begins.end() - 1), ordered(n);
    for (std::size_t i = 0; i < n; ++i) ordered[next[group_of[i]]++] = slots[i];
    slots = std::move(ordered);
}

}  // namespace

std::size_t cells_of(std::size_t rows) {
    const auto wanted = static_cast<std::size_t>(5.0 * std::sqrt(static_cast<double>(rows)));
    return std::clamp<std::size_t>(wanted, 1,
                                   std::clamp<std::size_t>((rows + 31) / 32, 1, kMostEntries));
}

std::size_t entries_for(std::size_t rows) {
    return std::max(std::min(kFew, rows / kRowsAnEntry), cells_of(rows));
}

Entries group_entries(const LineCodes& codes, std::vector<std::uint32_t> slots) {
    std::sort(slots.begin(), slots.end());  // the same entries make the same groups
    if (slots.size() > kMostEntries) slots.resize(kMostEntries);
    Entries entries;
    entries.slots = std::move(slots);
    group(codes, groups_of(entries.size()), entries);
    entries.lines.resize(entries.size() * kLineBytes);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        std::memcpy(entries.lines.data() + i * kLineBytes,
                    codes.high() + entries.slots[i] * kLineBytes, kLineBytes);
    }
    return entries;
}

void add_entry(Entries& entries, const LineCodes& codes, std::uint32_t slot,
               const std::uint8_t* line) {
    const std::size_t groups = entries.begins.size() - 1;
    std::size_t nearest = 0;
    if (groups > 1) {
        float z[kLineCoordinates];
        alignas(64) float scores[kMostGroups + 16];
        codes.decode(line, line + kLineBytes, z);
        LineQuery query;
        codes.prepare(z, query);
        kernels().score_high(&query, entries.centres.high(), positions(), groups, scores);
        nearest = static_cast<std::size_t>(std::min_element(scores, scores + groups) - scores);
    }
    const std::size_t at = entries.begins[nearest + 1], after = entries.size() - at;
    entries.slots.insert(entries.slots.begin() + static_cast<std::ptrdiff_t>(at), slot);
    entries.lines.resize(entries.size() * kLineBytes);
    std::uint8_t* place = entries.lines.data() + at * kLineBytes;
    std::memmove(place + kLineBytes, place, after * kLineBytes);
    std::memcpy(place, line, kLineBytes);
    for (std::size_t g = nearest + 1; g <= groups; ++g) ++entries.begins[g];
}

std::size_t read_entries(const Kernels& kernels, const Entries& entries, const LineQuery& query,
                         Pool& pool) {
    const std::size_t groups = entries.begins.size() - 1;
    std::uint32_t nearest[kProbed] = {0};
    std::size_t probed = 1, read = 0;
    if (groups > 1) {
        alignas(64) float key[kMostGroups + 16], open[kMostGroups + 16];
        kernels.score_high(&query, entries.centres.high(), positions(), groups, key);
        std::copy_n(key, groups, open);
        const Pool centres{key, open, nullptr, groups, kInfinity};
        probed = kernels.pool_best(&centres, kProbed, nearest);
        read = groups;
    }
    const std::size_t enough = groups > 1 ? kLookedAt : entries.size();
    for (std::size_t i = 0; i < probed && pool.size < enough; ++i) {
        const std::size_t begin = entries.begins[nearest[i]],
                          count = entries.begins[nearest[i] + 1] - begin;
        kernels.score_high(&query, entries.lines.data() + begin * kLineBytes, positions(), count,
                           pool.key + pool.size);
        std::copy_n(entries.slots.data() + begin, count, pool.id + pool.size);
        pool.size += count;
    }
    std::copy_n(pool.key, pool.size, pool.open);
    return read + pool.size;
}

}  // namespace mrl
