#include "walk.hpp"

#include <algorithm>

#include "best.hpp"
#include "entries.hpp"

namespace mrl {

using namespace walk_rule;

void Walk::prepare(std::size_t slots, std::size_t pool_keep, std::size_t entries) {
    if (met_all_ && slots >= many_slots_ && slots == slots_) {
        for (const std::uint32_t slot : met_) visited_[slot >> 3] = 0;
    } else {
        visited_.assign((slots + 7) / 8, 0);
    }
    slots_ = slots;
    met_all_ = false;
    met_.clear();
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

void enter(const Kernels& kernels, const Entries& entries, const LineQuery& query, Walk& walk) {
    walk.scored += read_entries(kernels, entries, query, walk.pool);
    begin_at_best(kernels, walk);
}

bool begin_at_best(const Kernels& kernels, Walk& walk) {
    Pool& pool = walk.pool;
    kernels.pool_cut(&pool, kEntryPool);
    pool.threshold = kInfinity;
    for (std::size_t i = 0; i < pool.size; ++i) walk.first_visit(pool.id[i]);
    walk.met(pool.id, pool.size);
    return pool.size > 0;
}

void walk_graph(const Kernels& kernels, const GraphView& graph, const LineQuery& query,
                const WalkOptions& options, const RowFilter* filter, Walk& walk) {
    walk.prepare(graph.links.slots(), options.pool, graph.entries.size());
    if (options.hidden != kNoLink) {
        walk.first_visit(options.hidden);
        walk.met(&options.hidden, 1);
    }
    Pool& pool = walk.pool;
    enter(kernels, graph.entries, query, walk);
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
            count += pool.key[i] < limit && filter->allows_slot(pool.id[i]) ? 1 : 0;
        return count >= options.k;
    };
    const bool watch = options.margin < kInfinity && options.k > 0;

    std::size_t hops = 0;
    const std::uint8_t* high = graph.lines.high();
    while (hops < options.hops) {
        std::uint32_t best[kPops + kAhead];
        const std::size_t wanted = hops < kArrived ? kFirstPops : kPops;
        const std::size_t found = kernels.pool_best(&pool, wanted + kAhead, best);
        alignas(64) std::uint32_t met[kPops * kDegree + 16];
        std::size_t count = 0;
        for (std::size_t i = 0; i < found; ++i) {
            const auto* lines = reinterpret_cast<const char*>(graph.links.of(pool.id[best[i]]));
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
                                          ? graph.links.of(slot)
                                          : options.detour->links_of(slot, graph.links.of(slot));
            for (std::size_t e = 0; e < kDegree && to[e] != kNoLink; ++e) {
                const std::uint32_t other = to[e];
                met[count] = other;
                __builtin_prefetch(high + std::size_t{other} * kLineBytes);
                count += walk.first_visit(other) ? 1 : 0;
            }
        }
        if (found == 0) break;
        walk.met(met, count);
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
                __builtin_prefetch(graph.lines.low() + std::size_t{met[i]} * kLineBytes);
            kernels.score_both(&query, high, graph.lines.low(), met, count, scores);
        }
        kernels.pool_append(&pool, scores, met, count);
        if (pool.size >= options.pool + kPoolSlack) kernels.pool_cut(&pool, options.pool);
    }
    walk.done();
}

}  // namespace mrl
