// A look at the lines of all slots, one after another, for a search over pages.
#include <algorithm>
#include <bit>

#include "paged_search.hpp"

namespace mrl {

void PagedSearch::begin_scan(const Source& source, const MrlPageHost& host, const float* query,
                             const PagedOptions& options, bool codes) {
    prepare(source, host, query, options);
    codes_ = codes;
    worst_ = kInfinity;
    full_ = 2 * keep_ + kBatch;
    next_scan();
}

void PagedSearch::begin_crowd() {
    wider_ = crowd::kWidest;
    codes_ = crowd_ = true;
    candidates_.clear();
    next_ = 0;
    worst_ = kInfinity;
    full_ = 2 * keep_ + kBatch;
    next_scan();
}

// The lines of the next pages: those of allowed slots, pages without one left out.
void PagedSearch::next_scan() {
    const std::uint32_t pages = (meta_->slots + MRL_ITEMS - 1) / MRL_ITEMS;
    std::uint32_t n = 0;
    for (n_scanned_ = 0; n < kScanPages && n_scanned_ + MRL_ITEMS <= kScanned && next_ < pages;
         ++next_) {
        const std::uint32_t first = next_ * MRL_ITEMS;
        const std::uint32_t items = std::min<std::uint32_t>(MRL_ITEMS, meta_->slots - first);
        std::uint64_t bits = options_.allowed.of(first, items);
        if (bits == 0) continue;
        pages_[n] = next_;
        offsets_[n++] = 0;
        for (; bits != 0; bits &= bits - 1)
            scanned_[n_scanned_++] = first + static_cast<std::uint32_t>(std::countr_zero(bits));
    }
    if (n == 0) {
        cut_scan();
        next_ = 0;
        if (!codes_) {
            end_without_rows();
        } else if (!crowd_ && meta_->slots <= crowd::kMostScanned &&
                   next_look() != crowd::Next::enough) {
            begin_crowd();
        } else {
            next_rows();
        }
        return;
    }
    ask(MRL_LINES, n, MRL_PAGE_BYTES);
    state_ = State::scan;
}

void PagedSearch::use_scan() {
    alignas(64) std::uint32_t ids[kScanned + 16] = {};
    alignas(64) float scores[kScanned + 16];
    const std::uint8_t* base = copied_ ? copies_.data() : host_.base;
    for (std::uint32_t i = 0, page = 0; i < n_scanned_; ++i) {
        while (scanned_[i] / MRL_ITEMS != pages_[page]) ++page;
        const std::uint32_t frame = copied_ ? page : frames_[page] - 1;
        ids[i] = static_cast<std::uint32_t>(
            frame * (MRL_PAGE_BYTES / kLineBytes) +
            (MRL_PAGE_HEAD + scanned_[i] % MRL_ITEMS * MRL_ITEM_BYTES) / kLineBytes);
        __builtin_prefetch(base + std::size_t{ids[i]} * kLineBytes);
        __builtin_prefetch(base + std::size_t{ids[i] + 1} * kLineBytes);
    }
    kernels_->score_both(&line_query_, base, base + kLineBytes, ids, n_scanned_, scores);
    if (!still_true()) return;
    walk_.scored += n_scanned_;
    for (std::uint32_t i = 0; i < n_scanned_; ++i) {
        const float score = sortable(scores[i]);
        if (score <= worst_) candidates_.push_back({score, scanned_[i]});
    }
    if (candidates_.size() >= full_) cut_scan();
    next_scan();
}

// Of a scan so far, what may stay to its end.
void PagedSearch::cut_scan() {
    if (crowd_) {
        worst_ = crowd::keep_unresolved(candidates_, options_.k,
                                        [this](float kth) { return resolution(kth); });
        full_ = std::max(full_, 2 * candidates_.size());
    } else if (candidates_.size() > keep_) {
        cut_candidates(keep_);
        worst_ = std::max_element(candidates_.begin(), candidates_.end())->score;
    }
}

void PagedSearch::end_without_rows() {
    for (const auto& [score, slot] : candidates_) hits_.push_back({slot, score, 0.0f, 0.0f});
    finish();
}

}  // namespace mrl
