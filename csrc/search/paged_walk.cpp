// The walk of a search over pages: that of walk.cpp, a batch of links and lines at a time.
//
// Under a filter whose slots are known the walk keeps to them: it begins at the entries that are
// allowed, and slots that are not are never scored. Where few of a slot's neighbours are allowed,
// those behind the others are met: the graph of the allowed slots alone would fall apart, that of
// their neighbours' neighbours does not (ACORN, arXiv:2403.04871). It is for many allowed slots:
// where a look at the lines of all of them costs as much, that finds more.
#include <algorithm>
#include <cstring>

#include "entries.hpp"
#include "paged_search.hpp"

namespace mrl {

bool PagedSearch::far_behind(float key) const {
    return kernels_->pool_count(&walk_.pool, key - margin_) >= options_.k;
}

void PagedSearch::pop() {
    Pool& pool = walk_.pool;
    std::uint32_t best[walk_rule::kPops + walk_rule::kAhead];
    const std::size_t most = hops_ < walk_rule::kArrived ? walk_rule::kFirstPops : walk_rule::kPops;
    const std::size_t open =
        hops_ < effort_ ? kernels_->pool_best(&pool, most + walk_rule::kAhead, best) : 0;
    std::size_t pops = std::min({open, most, effort_ - std::min(hops_, effort_)});
    for (std::size_t i = 0; i < pops; ++i) {
        if (!far_behind(pool.open[best[i]])) continue;
        pops = i;
        hops_ = effort_;
    }
    if (pops == 0) {
        walk_.done();
        next_ = gathers_ ? waiting() : 0;
        next_tail();
        return;
    }
    hops_ += pops;
    look_ahead(best, pops, open);
    // From the worst to the best, as in walk.cpp.
    n_popped_ = 0;
    for (std::size_t i = pops; i-- > 0;) {
        popped_[n_popped_++] = pool.id[best[i]];
        pool.open[best[i]] = kInfinity;
        walk_.popped.push_back(pool.id[best[i]]);
    }
    ask_items(MRL_LINKS, popped_, n_popped_);
    state_ = State::links;
}

// The links of the candidates that are next: on their way while those of the best are followed.
void PagedSearch::look_ahead(const std::uint32_t* best, std::size_t first, std::size_t end) {
    if (host_.find == nullptr || first >= end) return;
    std::uint32_t slots[walk_rule::kPops + walk_rule::kAhead]{};
    const auto n = static_cast<std::uint32_t>(end - first);
    for (std::uint32_t i = 0; i < n; ++i) slots[i] = walk_.pool.id[best[first + i]];
    ask_items(MRL_LINKS, slots, n);
    host_.find(host_.self, MRL_LINKS, pages_, n, frames_);
    for (std::uint32_t i = 0; i < n; ++i) {
        if (frames_[i] == 0) continue;
        __builtin_prefetch(at(i));
        __builtin_prefetch(at(i) + kLineBytes);
    }
}

void PagedSearch::use_links() {
    for (std::uint32_t i = 0; i < n_popped_; ++i)
        std::memcpy(links_ + i * kDegree, at(i), kDegree * sizeof(std::uint32_t));
    if (!still_true()) return;
    n_met_ = n_through_ = next_through_ = all_followed_ = 0;
    const bool all = options_.allowed.all();
    // From the worst to the best, as they were popped; under a filter from the best, whose
    // neighbours are to be passed through first.
    for (std::uint32_t i = 0; i < n_popped_; ++i) {
        const std::uint32_t* to = links_ + (all ? i : n_popped_ - 1 - i) * kDegree;
        for (std::size_t e = 0; e < kDegree && to[e] != kNoLink; ++e) {
            if (to[e] >= meta_->linked) continue;  // younger than this search, or a damaged page
            if (!all && !options_.allowed.allows(to[e])) {
                through_[n_through_++] = to[e];
                continue;
            }
            met_[n_met_] = to[e];
            n_met_ += walk_.first_visit(to[e]) ? 1 : 0;
        }
    }
    walk_.met(met_, n_met_);
    next_through();
}

// Links of slots that are not allowed, as long as too few that are have been met.
void PagedSearch::next_through() {
    n_followed_ = 0;
    while (n_met_ < kMeetsAllowed * n_popped_ && all_followed_ < kMostThrough * n_popped_ &&
           next_through_ < n_through_ && n_followed_ < kThroughAtOnce) {
        const std::uint32_t slot = through_[next_through_++];
        if (!walk_.first_visit(slot)) continue;
        followed_[n_followed_++] = slot;
        ++all_followed_;
    }
    if (n_followed_ == 0) {
        ask_for_met();
        return;
    }
    walk_.met(followed_, n_followed_);
    ask_items(MRL_LINKS, followed_, n_followed_);
    state_ = State::through;
}

void PagedSearch::use_through() {
    for (std::uint32_t i = 0; i < n_followed_; ++i) {
        __builtin_prefetch(at(i));
        __builtin_prefetch(at(i) + kLineBytes);
    }
    for (std::uint32_t i = 0; i < n_followed_; ++i)
        std::memcpy(links_ + i * kDegree, at(i), kDegree * sizeof(std::uint32_t));
    if (!still_true()) return;
    const std::uint32_t first = n_met_;
    for (std::uint32_t i = 0; i < n_followed_; ++i) {
        const std::uint32_t* to = links_ + i * kDegree;
        for (std::size_t e = 0; e < kDegree && to[e] != kNoLink && n_met_ < kBatch; ++e) {
            if (to[e] >= meta_->linked || !options_.allowed.allows(to[e])) continue;
            met_[n_met_] = to[e];
            n_met_ += walk_.first_visit(to[e]) ? 1 : 0;
        }
    }
    walk_.met(met_ + first, n_met_ - first);
    next_through();
}

void PagedSearch::ask_for_met() {
    state_ = n_met_ == 0 ? State::pop : State::lines;
    if (n_met_ != 0) ask_items(MRL_LINES, met_, n_met_);
}

std::size_t PagedSearch::entries_near(const Source& source, const float* query,
                                      std::uint32_t* slots) {
    prepare(source, {}, query, {1, 1, 1});
    walk_.prepare(meta_->linked, walk_rule::kLeastPool, source.entries.size());
    enter(*kernels_, source.entries, line_query_, walk_);
    walk_.done();
    std::copy_n(walk_.pool.id, walk_.pool.size, slots);
    return walk_.pool.size;
}

// Puts the best allowed entries into the pool. Returns false where there are none.
bool PagedSearch::enter_allowed() {
    Pool& pool = walk_.pool;
    walk_.scored += read_allowed(
        *kernels_, source_->entries, line_query_,
        [this](std::uint32_t slot) { return options_.allowed.allows(slot); }, pool);
    return begin_at_best(*kernels_, walk_);
}

void PagedSearch::use_lines() {
    Pool& pool = walk_.pool;
    alignas(64) float scores[kBatch];
    std::uint32_t count = n_met_;
    score_lines(n_met_, false, scores);
    if (refine_) {
        count = 0;
        std::uint32_t survivors[kBatch];
        for (std::uint32_t i = 0; i < n_met_; ++i) {
            survivors[count] = i;
            count += scores[i] < pool.threshold ? 1 : 0;
        }
        std::uint32_t frames[kBatch], offsets[kBatch], slots[kBatch];
        std::copy_n(met_, n_met_, slots);
        if (copied_) {
            float all[kBatch];
            score_lines(n_met_, true, all);
            for (std::uint32_t i = 0; i < count; ++i) scores[i] = all[survivors[i]];
        } else {
            std::copy_n(frames_, n_met_, frames);
            std::copy_n(offsets_, n_met_, offsets);
            for (std::uint32_t i = 0; i < count; ++i) {
                frames_[i] = frames[survivors[i]];
                offsets_[i] = offsets[survivors[i]];
            }
            score_lines(count, true, scores);
            std::copy_n(frames, n_met_, frames_);
            std::copy_n(offsets, n_met_, offsets_);
        }
        if (!still_true()) return;
        for (std::uint32_t i = 0; i < count; ++i) met_[i] = slots[survivors[i]];
    } else if (!still_true()) {
        return;
    }
    walk_.scored += request_.n;
    kernels_->pool_append(&pool, scores, met_, count);
    if (pool.size >= pool_keep_ + walk_rule::kPoolSlack) kernels_->pool_cut(&pool, pool_keep_);
    if (state_ == State::tail) {
        next_tail();
    } else {
        state_ = State::pop;
    }
}

// The slots that no link leads to yet.
void PagedSearch::next_tail() {
    n_met_ = 0;
    for (; n_met_ < kBatch && next_ < waiting(); ++next_) {
        met_[n_met_] = next_ < meta_->reused ? meta_->reused_slots[next_]
                                             : meta_->linked + next_ - meta_->reused;
        n_met_ += options_.allowed.allows(met_[n_met_]) ? 1 : 0;
    }
    if (n_met_ == 0) {
        end_walk();
        return;
    }
    ask_items(MRL_LINES, met_, n_met_);
    state_ = State::tail;
}

}  // namespace mrl
