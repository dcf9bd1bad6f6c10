#include "paged_search.hpp"

#include <algorithm>
#include <cstring>

#include "../kernels/dispatch.hpp"

namespace mrl {

namespace {

constexpr std::size_t kKeptRoom = 1 << 16;  // candidates for which memory is kept between searches

template <class T>
void empty(std::vector<T>& values) {
    if (values.capacity() > kKeptRoom) std::vector<T>().swap(values);
    values.clear();
}

}  // namespace

void PagedSearch::prepare(const Source& source, const MrlPageHost& host, const float* query,
                          const PagedOptions& options) {
    source_ = &source;
    meta_ = &source.meta;
    host_ = host;
    options_ = options;
    kernels_ = &kernels();
    copied_ = must_copy_ = gathers_ = codes_ = crowd_ = false;
    empty(candidates_);
    empty(hits_);
    next_ = batches_ = 0;
    walk_.scored = scored_before_ = 0;
    wider_ = 1;
    keep_ = options.keep;
    source.rows.prepare(query, row_query_);
    float coordinates[kLineCoordinates];
    const float square = source.projection.project(row_query_, coordinates);
    source.lines.prepare(coordinates, line_query_);
    lengths_ = lengths_of(coordinates, square, source.rows.dims(), source.rows.metric());
    refine_ = source.rows.dims() >= walk_rule::kRefinedDims;
}

void PagedSearch::begin(const Source& source, const MrlPageHost& host, const float* query,
                        const PagedOptions& options) {
    prepare(source, host, query, options);
    begin_walk();
}

void PagedSearch::begin_walk() {
    using walk_rule::kLeastPool, walk_rule::kMostPool;
    hops_ = 0;
    effort_ = wider_ * options_.effort;
    keep_ = wider_ * options_.keep;
    pool_keep_ = std::min(kMostPool, std::max({effort_, kLeastPool, keep_ + keep_ / 2}));
    margin_ = crowd::margin_of(options_.effort, wider_, kMarginOfEffort, source_->lines.spread()) *
              query_unit(lengths_, source_->lines);
    scored_before_ += walk_.scored;
    walk_.prepare(meta_->linked, pool_keep_, source_->entries.size());
    if (options_.allowed.all() || !enter_allowed())
        enter(*kernels_, source_->entries, line_query_, walk_);
    // Links may lead to slots that wait already; they are looked at for themselves.
    for (std::uint32_t i = 0; i < meta_->reused; ++i) {
        const std::uint32_t slot = meta_->reused_slots[i];
        if (slot < meta_->linked && walk_.first_visit(slot)) walk_.met(&slot, 1);
    }
    state_ = State::pop;
}

void PagedSearch::begin_gather(const Source& source, const MrlPageHost& host, const float* query) {
    begin(source, host, query, {kGatherHops, kGathered, 1});
    pool_keep_ = kGatherPool;
    margin_ = kInfinity;
    gathers_ = true;
}

void PagedSearch::begin_score(const Source& source, const MrlPageHost& host, const float* query,
                              const std::uint32_t* slots, std::size_t n) {
    prepare(source, host, query, {1, n, n});
    walk_.scored = n;
    for (std::size_t i = 0; i < n; ++i) candidates_.push_back({0.0f, slots[i]});
    next_rows();
}

Step PagedSearch::step() {
    while (state_ != State::done) {
        if (state_ == State::pop) {
            pop();
            continue;
        }
        if ((state_ == State::scan || state_ == State::rows) && ++batches_ % kPause == 0)
            return Step::paused;
        if (!answered()) return Step::pages;
        switch (state_) {
            case State::links:
                use_links();
                break;
            case State::through:
                use_through();
                break;
            case State::lines:
            case State::tail:
                use_lines();
                break;
            case State::both:
                use_both();
                break;
            case State::rows:
                use_rows();
                break;
            default:
                use_scan();
                break;
        }
    }
    return Step::done;
}

// Asking and reading

void PagedSearch::ask(int section, std::uint32_t n, std::uint32_t bytes) {
    request_ = {section, n, pages_, offsets_, bytes, nullptr};
}

void PagedSearch::ask_items(int section, const std::uint32_t* slots, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        pages_[i] = slots[i] / MRL_ITEMS;
        offsets_[i] = MRL_PAGE_HEAD + slots[i] % MRL_ITEMS * MRL_ITEM_BYTES;
    }
    ask(section, n, MRL_ITEM_BYTES);
}

bool PagedSearch::answered() {
    if (copied_) return true;
    if (host_.find != nullptr && !must_copy_) {
        request_.copies = nullptr;
        return host_.find(host_.self, request_.section, pages_, request_.n, frames_) == 0;
    }
    copies_.resize(std::size_t{request_.n} * request_.bytes);
    request_.copies = copies_.data();
    return false;
}

// Whether what was read may be used; if not, the same request is out again, for copies.
bool PagedSearch::still_true() {
    if (copied_) {
        copied_ = must_copy_ = false;
        return true;
    }
    must_copy_ = !host_.unmoved(host_.self, request_.section, pages_, request_.n, frames_);
    return !must_copy_;
}

const std::uint8_t* PagedSearch::at(std::uint32_t i) const {
    if (copied_) return copies_.data() + std::size_t{i} * request_.bytes;
    return host_.base + std::size_t{frames_[i] - 1} * MRL_PAGE_BYTES + offsets_[i];
}

// Scores of the lines that were asked for. The kernels find a line by its number from a base: that
// of the copies or of all frames.
void PagedSearch::score_lines(std::uint32_t n, bool both, float* scores) {
    alignas(64) std::uint32_t ids[kBatch];
    const std::uint8_t* base = copied_ ? copies_.data() : host_.base;
    for (std::uint32_t i = 0; i < n; ++i) {
        ids[i] = copied_
                     ? i * (MRL_ITEM_BYTES / kLineBytes)
                     : (frames_[i] - 1) * (MRL_PAGE_BYTES / kLineBytes) + offsets_[i] / kLineBytes;
        __builtin_prefetch(base + std::size_t{ids[i]} * kLineBytes);
    }
    if (both) {
        kernels_->score_both(&line_query_, base, base + kLineBytes, ids, n, scores);
    } else {
        kernels_->score_high(&line_query_, base, ids, n, scores);
    }
}

// Shortlist

void PagedSearch::end_walk() {
    Pool& pool = walk_.pool;
    if (!refine_) kernels_->pool_cut(&pool, walk_rule::kHighKeep * keep_);
    if (gathers_) {
        for (std::size_t i = 0; i < pool.size; ++i) walk_.popped.push_back(pool.id[i]);
        std::sort(walk_.popped.begin(), walk_.popped.end());
        walk_.popped.erase(std::unique(walk_.popped.begin(), walk_.popped.end()),
                           walk_.popped.end());
        for (const std::uint32_t slot : walk_.popped) hits_.push_back({slot, 0.0f, 0.0f, 0.0f});
        state_ = State::done;
        return;
    }
    for (std::size_t i = 0; i < pool.size; ++i)
        if (options_.allowed.allows(pool.id[i])) candidates_.push_back({pool.key[i], pool.id[i]});
    next_ = 0;
    if (refine_) {
        end_shortlist();
    } else {
        next_both();
    }
}

void PagedSearch::next_both() {
    n_met_ =
        std::min<std::uint32_t>(kBatch, static_cast<std::uint32_t>(candidates_.size()) - next_);
    if (n_met_ == 0) {
        end_shortlist();
        return;
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) met_[i] = candidates_[next_ + i].row;
    ask_items(MRL_LINES, met_, n_met_);
    state_ = State::both;
}

void PagedSearch::use_both() {
    alignas(64) float scores[kBatch];
    score_lines(n_met_, true, scores);
    if (!still_true()) return;
    for (std::uint32_t i = 0; i < n_met_; ++i) candidates_[next_ + i].score = sortable(scores[i]);
    next_ += n_met_;
    next_both();
}

float PagedSearch::resolution(float score) const {
    const crowd::Width width{wider_, options_.keep, options_.k};
    return crowd::line_resolution(lengths_, score, width, source_->rows.dims(), source_->lines);
}

crowd::Next PagedSearch::next_look() const {
    const std::uint32_t gone = std::min(meta_->slots, meta_->dead + meta_->free);
    const std::size_t allowed =
        options_.allowed.all() ? meta_->slots - gone : options_.allowed.count;
    return crowd::next(candidates_, {keep_, options_.k, wider_, allowed, meta_->slots},
                       [this](float worst) { return resolution(worst); });
}

void PagedSearch::end_shortlist() {
    cut_candidates(keep_);
    next_ = 0;
    switch (next_look()) {
        case crowd::Next::enough:
            next_rows();
            break;
        case crowd::Next::wider:
            wider_ *= crowd::kWider;
            candidates_.clear();
            begin_walk();
            break;
        case crowd::Next::scan:
            begin_crowd();
            break;
    }
}

void PagedSearch::next_rows() {
    n_met_ =
        std::min<std::uint32_t>(kRowBatch, static_cast<std::uint32_t>(candidates_.size()) - next_);
    if (n_met_ == 0) {
        finish();
        return;
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        met_[i] = candidates_[next_ + i].row;
        pages_[i] = met_[i] / meta_->rows_per_page;
        offsets_[i] = 0;
    }
    ask(MRL_ROWS, n_met_, MRL_PAGE_BYTES);
    state_ = State::rows;
}

void PagedSearch::use_rows() {
    PagedHit hits[kRowBatch];
    const std::uint32_t stride = meta_->code_stride;
    const auto code = [&](std::uint32_t i) {
        return at(i) + MRL_PAGE_HEAD + std::size_t{met_[i] % meta_->rows_per_page} * stride;
    };
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        for (std::uint32_t b = 0; b < stride; b += kLineBytes) __builtin_prefetch(code(i) + b);
        __builtin_prefetch(at(i) + mrl_tail_at(meta_, met_[i] % meta_->rows_per_page));
    }
    for (std::uint32_t i = 0; i < n_met_; ++i) {
        std::int32_t product;
        kernels_->inner_product_int8(row_query_.code.data(),
                                     reinterpret_cast<const std::int8_t*>(code(i)), 1, stride,
                                     meta_->dims, &product);
        MrlTail tail;
        std::memcpy(&tail, at(i) + mrl_tail_at(meta_, met_[i] % meta_->rows_per_page), sizeof tail);
        if (host_.expect != nullptr) host_.expect(host_.self, &tail);
        const float base = source_->rows.metric() == Metric::l2 ? 0.5f * tail.square : 0.0f;
        hits[i] = {met_[i],
                   sortable(base - row_query_.scale * tail.scale * static_cast<float>(product)),
                   tail.scale, tail.square};
    }
    if (!still_true()) return;
    hits_.insert(hits_.end(), hits, hits + n_met_);
    next_ += n_met_;
    next_rows();
}

void PagedSearch::cut_candidates(std::size_t keep) {
    if (candidates_.size() <= keep) return;
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(keep),
                     candidates_.end());
    candidates_.resize(keep);
}

void PagedSearch::finish() {
    std::sort(hits_.begin(), hits_.end(), [](const PagedHit& a, const PagedHit& b) {
        return a.score != b.score ? a.score < b.score : a.slot < b.slot;
    });
    state_ = State::done;
}

}  // namespace mrl
