#include "graph.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace mrl {

using namespace walk_rule;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

const std::uint32_t* Detour::links_of(std::uint32_t slot, const std::uint32_t* as_they_are) const {
    const auto place = std::lower_bound(slots.begin(), slots.end(), slot);
    return place == slots.end() || *place != slot
               ? as_they_are
               : links[static_cast<std::size_t>(place - slots.begin())].data();
}

std::size_t Bitmap::count() const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < words_.size(); ++i)
        sum += static_cast<std::size_t>(std::popcount(words_[i]));
    return sum;
}

void Walk::prepare(std::size_t slots, std::size_t pool_keep, std::size_t entries) {
    visited_.assign((slots + 7) / 8, 0);
    const std::size_t room =
        std::max(pool_keep + kPoolTies + kPoolSlack + kPops * kDegree, entries) + 64;
    if (key_.size() < room) {
        key_.resize(room);
        open_.resize(room);
        id_.resize(room);
    }
    pool = {key_.data(), open_.data(), id_.data(), 0, kInfinity};
    popped.clear();
    scored = 0;
}

void Graph::resize(std::size_t slots) {
    const std::size_t before = links_.size();
    links_.resize(slots * kDegree);
    if (links_.size() > before) std::fill(links_.begin() + before, links_.end(), kNoLink);
}

std::size_t Graph::degree(std::size_t slot) const {
    const std::uint32_t* all = links(slot);
    return static_cast<std::size_t>(std::find(all, all + kDegree, kNoLink) - all);
}

void Graph::set_links(std::size_t slot, const std::uint32_t* to, std::size_t count) {
    std::uint32_t* all = links(slot);
    std::copy_n(to, count, all);
    std::fill(all + count, all + kDegree, kNoLink);
}

bool Graph::sound(std::size_t slots) const {
    if (links_.size() != slots * kDegree || entries_.size() > kMostEntries) return false;
    bool sound = true;
    for (std::size_t i = 0; i < links_.size(); ++i)
        sound &= links_[i] < slots || links_[i] == kNoLink;
    for (const std::uint32_t entry : entries()) sound &= entry < slots;
    return sound;
}

void enter(const Entries& entries, const Kernels& kernels, const LineQuery& query, Walk& walk) {
    Pool& pool = walk.pool;
    walk.scored += entries.look(kernels, query, pool);
    kernels.pool_cut(&pool, kEntryPool);
    pool.threshold = kInfinity;
    for (std::size_t i = 0; i < pool.size; ++i) walk.first_visit(pool.id[i]);
}

void Graph::walk(const Kernels& kernels, const LineCodes& codes, const LineQuery& query,
                 const WalkOptions& options, Walk& walk, const SlotFilter* filter) const {
    walk.prepare(slots(), options.pool, entries_.size());
    if (options.hidden != kNoLink) walk.first_visit(options.hidden);
    enter(entries_, kernels, query, walk);
    Pool& pool = walk.pool;
    for (std::size_t i = 0; i < pool.size && options.hidden != kNoLink; ++i) {
        if (pool.id[i] == options.hidden) pool.key[i] = pool.open[i] = kInfinity;
    }
    // The k-th best is more than `margin` better than a candidate when k of them are.
    const auto far_behind = [&](float key) {
        const float limit = key - options.margin;
        if (kernels.pool_count(&pool, limit) < options.k) return false;
        if (filter == nullptr) return true;
        std::size_t count = 0;
        for (std::size_t i = 0; i < pool.size; ++i)
            count += pool.key[i] < limit && filter->allows(pool.id[i]) ? 1 : 0;
        return count >= options.k;
    };
    const bool watch = options.margin < kInfinity && options.k > 0;

    std::size_t hops = 0;
    const std::uint8_t* high = codes.high();
    while (hops < options.hops) {
        std::uint32_t best[kPops + kAhead];
        const std::size_t wanted = hops < kArrived ? kFirstPops : kPops;
        const std::size_t found = kernels.pool_best(&pool, wanted + kAhead, best);
        alignas(64) std::uint32_t met[kPops * kDegree + 16];
        std::size_t count = 0;
        for (std::size_t i = 0; i < found; ++i) {
            const auto* lines = reinterpret_cast<const char*>(links(pool.id[best[i]]));
            __builtin_prefetch(lines);
            __builtin_prefetch(lines + 64);
        }
        std::size_t pops = std::min({found, wanted, options.hops - hops});
        for (std::size_t i = 0; i < pops && watch; ++i) {
            if (!far_behind(pool.open[best[i]])) continue;
            pops = i;
            hops = options.hops;
        }
        hops += pops;
        // From the worst to the best: the better a candidate, the likelier it has just been met and
        // its links are still on their way.
        for (std::size_t i = pops; i-- > 0;) {
            const std::uint32_t slot = pool.id[best[i]];
            pool.open[best[i]] = kInfinity;
            walk.popped.push_back(slot);
            const std::uint32_t* to = options.detour == nullptr
                                          ? links(slot)
                                          : options.detour->links_of(slot, links(slot));
            for (std::size_t e = 0; e < kDegree && to[e] != kNoLink; ++e) {
                const std::uint32_t other = to[e];
                met[count] = other;
                __builtin_prefetch(high + std::size_t{other} * kLineBytes);
                count += walk.first_visit(other) ? 1 : 0;
            }
        }
        if (found == 0) break;
        alignas(64) float scores[kPops * kDegree];
        kernels.score_high(&query, high, met, count, scores);
        walk.scored += count;
        if (options.refine && pool.threshold < kInfinity) {
            std::size_t passing = 0;
            for (std::size_t i = 0; i < count; ++i) {
                met[passing] = met[i];
                passing += scores[i] < pool.threshold ? 1 : 0;
            }
            count = passing;
        }
        if (options.refine) {
            for (std::size_t i = 0; i < count; ++i)
                __builtin_prefetch(codes.low() + std::size_t{met[i]} * kLineBytes);
            kernels.score_both(&query, high, codes.low(), met, count, scores);
        }
        kernels.pool_append(&pool, scores, met, count);
        if (pool.size >= options.pool + kPoolSlack) kernels.pool_cut(&pool, options.pool);
    }
}

}  // namespace mrl
