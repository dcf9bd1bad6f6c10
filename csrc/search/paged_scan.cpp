// A look at the lines of all slots, one after another, for a search over pages.
#include <algorithm>

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

void PagedSearch::next_scan() {
    const std::uint32_t pages = (meta_->slots + MRL_ITEMS - 1) / MRL_ITEMS;
    std::uint32_t n = 0;
    for (; n < kScanPages && next_ + n < pages; ++n) {
        pages_[n] = next_ + n;
        offsets_[n] = 0;
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
    alignas(64) std::uint32_t ids[kScanPages * MRL_ITEMS] = {};
    alignas(64) float scores[kScanPages * MRL_ITEMS];
    const std::uint32_t first = next_ * MRL_ITEMS,
                        n = std::min(request_.n * MRL_ITEMS, meta_->slots - first);
    const std::uint8_t* base = copied_ ? copies_.data() : host_.base;
    for (std::uint32_t i = 0; i < n; ++i) {
        const std::uint32_t page = copied_ ? i / MRL_ITEMS : frames_[i / MRL_ITEMS] - 1;
        ids[i] = static_cast<std::uint32_t>(page * (MRL_PAGE_BYTES / kLineBytes) +
                                            (MRL_PAGE_HEAD + i % MRL_ITEMS * MRL_ITEM_BYTES) /
                                                kLineBytes);
    }
    kernels_->score_both(&line_query_, base, base + kLineBytes, ids, n, scores);
    if (!still_true()) return;
    walk_.scored += n;
    for (std::uint32_t i = 0; i < n; ++i) {
        const float score = sortable(scores[i]);
        if (score <= worst_) candidates_.push_back({score, first + i});
    }
    if (candidates_.size() >= full_) cut_scan();
    next_ += request_.n;
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
