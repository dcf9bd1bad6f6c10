#include "index.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"
#include "scratch.hpp"

namespace mrl {
namespace {

constexpr std::size_t kHealShare = 10;  // heal when more than one slot in so many is dead …
constexpr std::size_t kHealLeast = 64;  // … and at least so many

}  // namespace

Index::Index(Metric metric, std::size_t dims, KeyType key_type, bool keep_vectors)
    : rows_(metric, dims, keep_vectors), keys_(key_type) {}

Index::~Index() = default;

Index::Reading::Reading(const Index& index) : index_(index) {
    const std::lock_guard pass(index.gate_);
    index.lock_.lock_shared();
}

Index::Writing::Writing(Index& index) : index_(index) {
    const std::lock_guard hold(index.gate_);
    index.lock_.lock();
}

void Index::reserve(std::size_t rows) {
    rows_.reserve(rows);
    keys_.reserve(rows);
}

void Index::append(const KeySpan& keys, const float* vectors, std::size_t vector_stride,
                   std::size_t threads) {
    const std::size_t first = rows_.size();
    if (first + keys.n >= kNoLink)
        throw std::length_error("an index holds at most 4,294,967,294 rows");
    rows_.append(vectors, keys.n, vector_stride, threads);
    for (std::size_t i = 0; i < keys.n; ++i) keys_.set(first + i, keys.at(i));
    deleted_.resize(rows_.size());
    born_.resize(rows_.size());
    for (std::size_t i = 0; i < keys.n; ++i)
        longest_square_ = std::max<double>(longest_square_, rows_.square(first + i));
    live_ += keys.n;
}

std::vector<float> Index::sample(std::size_t n) const {
    const std::size_t count = std::min(n, rows_.size());
    std::vector<float> vectors(count * rows_.dims());
    for (std::size_t i = 0; i < count; ++i)
        rows_.decode(i * rows_.size() / count, vectors.data() + i * rows_.dims());
    return vectors;
}

void Index::set_projection(const float* matrix, const float* mean) {
    projection_.emplace(rows_.metric(), rows_.dims(), matrix, mean);
}

void Index::add_flat_codes(Space space, std::size_t dims, Precision precision, const float* mean,
                           std::size_t threads) {
    if (flat({space, dims, precision, 0}) != nullptr) return;
    if (space == Space::projection && !projection_)
        throw std::logic_error("codes of the projection need one");
    FlatCodes codes(rows_.metric(), space, space == Space::projection ? kLineCoordinates : dims,
                    precision,
                    mean == nullptr ? std::vector<float>{} : std::vector<float>(mean, mean + dims));
    codes.resize(rows_.size());
    constexpr std::size_t kBlock = 96;
    parallel_for(
        threads, (rows_.size() + kBlock - 1) / kBlock, [&](std::size_t block, std::size_t) {
            const std::size_t first = block * kBlock,
                              count = std::min(kBlock, rows_.size() - first);
            if (space == Space::projection) {
                std::vector<std::uint32_t> which(count);
                std::iota(which.begin(), which.end(), static_cast<std::uint32_t>(first));
                std::vector<float> z(count * kLineCoordinates), squares(count);
                projection_->project(rows_, which.data(), count, z.data(), squares.data());
                for (std::size_t i = 0; i < count; ++i)
                    codes.encode(first + i, z.data() + i * kLineCoordinates, squares[i]);
                return;
            }
            std::vector<float> vector(rows_.dims());
            for (std::size_t row = first; row < first + count; ++row) {
                if (!rows_.keeps_vectors()) rows_.decode(row, vector.data());
                codes.encode(row, rows_.keeps_vectors() ? rows_.vector(row) : vector.data());
            }
        });
    flat_.push_back(std::move(codes));
}

void Index::add_line_codes(std::size_t threads) {
    if (!projection_) throw std::logic_error("line codes need a projection");
    constexpr std::size_t kBlock = 96;
    double sum = 0;
    has_line_codes_ = true;
    const std::size_t blocks = (rows_.size() + kBlock - 1) / kBlock;
    std::vector<double> sums(blocks, 0.0);
    for (const bool encoding : {false, true}) {
        if (encoding) {
            sum = std::accumulate(sums.begin(), sums.end(), 0.0);
            const auto unit = static_cast<float>(
                std::sqrt(sum / std::max<double>(1.0, static_cast<double>(rows_.size()))));
            lines_.reset(rows_.metric(), unit > 1e-30f ? unit : 1.0f);
            lines_.resize(rows_.size());
        }
        parallel_for(threads, blocks, [&](std::size_t block, std::size_t) {
            const std::size_t first = block * kBlock,
                              count = std::min(kBlock, rows_.size() - first);
            std::vector<std::uint32_t> which(count);
            std::iota(which.begin(), which.end(), static_cast<std::uint32_t>(first));
            std::vector<float> z(count * kLineCoordinates), squares(count);
            projection_->project(rows_, which.data(), count, z.data(), squares.data());
            for (std::size_t i = 0; i < count; ++i) {
                if (encoding) lines_.encode(first + i, z.data() + i * kLineCoordinates, squares[i]);
                sums[block] += squares[i];
            }
        });
    }
}

void Index::build(const BuildOptions& options, const BuildProgress& progress) {
    if (!projection_) throw std::logic_error("a graph needs a projection");
    std::vector<std::uint32_t> all(rows_.size());
    std::iota(all.begin(), all.end(), 0u);
    BuiltGraph built = build_graph(rows_, *projection_, all, options, progress);
    lines_ = std::move(built.codes);
    graph_ = std::move(built.graph);
    row_of_slot_.resize(all.size());
    slot_of_row_.resize(all.size());
    for (std::size_t slot = 0; slot < all.size(); ++slot) {
        row_of_slot_[slot] = built.row_of_slot[slot];
        slot_of_row_[built.row_of_slot[slot]] = static_cast<std::uint32_t>(slot);
    }
    has_graph_ = has_line_codes_ = true;
}

// All codes of the projection hold all its coordinates.
const FlatCodes* Index::flat(const Stage& stage) const {
    for (const FlatCodes& codes : flat_) {
        const bool as_wide = stage.space == Space::projection
                                 ? stage.dims == std::min(dims(), kLineCoordinates)
                                 : codes.dims() == stage.dims;
        if (codes.space() == stage.space && codes.precision() == stage.precision && as_wide)
            return &codes;
    }
    return nullptr;
}

SlotFilter Index::filter(const Selection* selection) const {
    const std::uint32_t* rows = row_of_slot_.empty() ? nullptr : row_of_slot_.data();
    if (selection == nullptr) return {&deleted_, nullptr, 0, born_.data(), 0, rows};
    return {&deleted_, &selection->rows, selection->of_rows, born_.data(), selection->epoch, rows};
}

Selection Index::select(const KeySpan& keys) const {
    const Reading reading(*this);
    Selection selection;
    selection.rows.resize(rows_.size());
    selection.of_rows = rows_.size();
    selection.epoch = epoch_;
    for (std::size_t i = 0; i < keys.n; ++i) {
        const std::uint32_t row = keys_.find(keys.at(i));
        if (row == Keys::kNone || selection.rows.test(row)) continue;
        selection.rows.set(row);
        selection.list.push_back(row);
    }
    std::sort(selection.list.begin(), selection.list.end(),
              [this](std::uint32_t a, std::uint32_t b) { return slot_of(a) < slot_of(b); });
    for (const std::uint32_t row : selection.list) selection.slots.push_back(slot_of(row));
    return selection;
}

LiveRows Index::live(const Selection* selection,
                     const std::function<void(std::uint32_t row)>& visit) const {
    const Reading reading(*this);
    LiveRows live{{}, epoch_};
    const SlotFilter passes = filter(selection);
    for (std::uint32_t row = 0; row < rows_.size(); ++row) {
        if (!passes.allows_row(row)) continue;
        live.rows.push_back(row);
        visit(row);
    }
    return live;
}

bool Index::coordinates(const LiveRows& live, const std::uint32_t* places, std::size_t n,
                        std::size_t begin, std::size_t end, float* out) const {
    const Reading reading(*this);
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t row = live.rows[places[i]];
        if (born_[row] > live.epoch) return false;
        std::copy_n(rows_.vector(row) + begin, end - begin, out + i * (end - begin));
    }
    return true;
}

std::vector<std::size_t> Index::compare(const KeySpan& keys, const float* vectors,
                                        std::size_t vector_stride, Comparison& comparison) const {
    const Reading reading(*this);
    if (comparison.of_rows == 0) {
        comparison.of_rows = rows_.size();
        comparison.met.resize(rows_.size());
    }
    std::vector<std::size_t> differing;
    for (std::size_t i = 0; i < keys.n; ++i) {
        const std::uint32_t row = keys_.find(keys.at(i));
        if (row != Keys::kNone && row < comparison.of_rows) comparison.met.set(row);
        if (row == Keys::kNone || !rows_.equals(row, vectors + i * vector_stride))
            differing.push_back(i);
    }
    return differing;
}

std::size_t Index::erase_unmet(const Comparison& comparison) {
    const std::lock_guard one(writer_);
    std::size_t erased = 0;
    for (std::uint32_t row = 0; row < rows_.size(); ++row) {
        if (deleted_.test(row) || (row < comparison.of_rows && comparison.met.test(row))) continue;
        {
            const Writing writing(*this);
            mark(row);
        }
        ++erased;
        heal_if_torn();  // now, not at the end: what a third of the rows leaves behind mends worse
                         // than a tenth three times
    }
    return erased;
}

// Writing

std::size_t Index::erase(const KeySpan& keys) {
    const std::lock_guard one(writer_);
    std::size_t erased = 0;
    for (std::size_t i = 0; i < keys.n; ++i) {
        const std::uint32_t row = keys_.find(keys.at(i));
        if (row == Keys::kNone) continue;
        {
            const Writing writing(*this);
            mark(row);
        }
        ++erased;
        heal_if_torn();
    }
    return erased;
}

void Index::heal_if_torn() {
    if (marked_ > std::max(kHealLeast, graph_.slots() / kHealShare)) heal_marked();
}

void Index::mark(std::uint32_t row) {
    keys_.erase(row);
    deleted_.set(row);
    --live_;
    if (has_graph_) {
        ++marked_;
    } else {
        free_rows_.push_back(row);
    }
}

void Index::heal() {
    const std::lock_guard one(writer_);
    heal_marked();
}

// Each slot with a link to a dead one gets that one's links as candidates in its place. In pieces,
// so that searches go on between them.
void Index::heal_marked() {
    if (!has_graph_ || marked_ == 0) return;
    constexpr std::size_t kPiece = 4096, kTask = 64;
    const std::size_t slots = graph_.slots();
    const auto dead = [this](std::uint32_t slot) { return deleted_.test(row_of(slot)); };
    for (std::size_t begin = 0; begin < slots; begin += kPiece) {
        const std::size_t count = std::min(kPiece, slots - begin),
                          tasks = (count + kTask - 1) / kTask;
        std::vector<std::vector<std::pair<std::uint32_t, std::vector<std::uint32_t>>>> changes(
            tasks);
        {
            const Reading reading(*this);
            parallel_for(available_threads(), tasks, [&](std::size_t task, std::size_t) {
                for (std::size_t i = task * kTask; i < std::min(count, (task + 1) * kTask); ++i) {
                    const auto slot = static_cast<std::uint32_t>(begin + i);
                    if (dead(slot)) continue;
                    const std::uint32_t* links = graph_.links(slot);
                    const std::size_t degree = graph_.degree(slot);
                    std::vector<std::uint32_t> candidates;
                    bool torn = false;
                    for (std::size_t e = 0; e < degree; ++e) {
                        if (!dead(links[e])) {
                            candidates.push_back(links[e]);
                            continue;
                        }
                        torn = true;
                        const std::uint32_t* further = graph_.links(links[e]);
                        for (std::size_t f = 0; f < kDegree && further[f] != kNoLink; ++f) {
                            if (!dead(further[f])) candidates.push_back(further[f]);
                        }
                    }
                    if (torn) changes[task].emplace_back(slot, pruned(slot, std::move(candidates)));
                }
            });
        }
        const Writing writing(*this);
        for (const auto& task : changes) {
            for (const auto& [slot, links] : task)
                graph_.set_links(slot, links.data(), links.size());
        }
    }
    const Writing writing(*this);
    std::vector<std::uint32_t> entries;
    for (const std::uint32_t entry : graph_.entries()) {
        if (!dead(entry)) {
            entries.push_back(entry);
            continue;
        }
        const std::uint32_t* links = graph_.links(entry);
        const std::uint32_t* live = std::find_if(links, links + graph_.degree(entry),
                                                 [&](std::uint32_t other) { return !dead(other); });
        if (live != links + graph_.degree(entry)) entries.push_back(*live);
    }
    // Where an entry died with all that it led to, another live slot begins walks in its place.
    for (std::size_t i = 0, missing = graph_.entries().size() - entries.size(); i < missing; ++i) {
        for (std::size_t slot = i * slots / missing; slot < (i + 1) * slots / missing; ++slot) {
            if (dead(static_cast<std::uint32_t>(slot))) continue;
            entries.push_back(static_cast<std::uint32_t>(slot));
            break;
        }
    }
    std::erase_if(waiting_, dead);
    std::sort(entries.begin(), entries.end());  // a walk would find a slot that stands twice twice
    entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
    graph_.set_entries(lines_, std::move(entries));
    std::vector<bool> free(rows_.size(), false);
    for (const std::uint32_t row : free_rows_) free[row] = true;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
        const std::uint32_t row = row_of(slot);
        if (!deleted_.test(row) || free[row]) continue;
        graph_.set_links(slot, nullptr, 0);
        free_rows_.push_back(row);
    }
    marked_ = 0;
}

std::unique_ptr<Scratch> Index::borrow() const {
    {
        const std::lock_guard lock(scratch_mutex_);
        if (!scratch_.empty()) {
            std::unique_ptr<Scratch> scratch = std::move(scratch_.back());
            scratch_.pop_back();
            return scratch;
        }
    }
    return std::make_unique<Scratch>();
}

void Index::give_back(std::unique_ptr<Scratch> scratch) const {
    const std::lock_guard lock(scratch_mutex_);
    scratch_.push_back(std::move(scratch));
}

std::size_t Index::bytes() const {
    std::size_t sum = rows_.bytes() + keys_.bytes() + lines_.bytes() + graph_.bytes() +
                      row_of_slot_.bytes() + slot_of_row_.bytes() + deleted_.words().bytes() +
                      born_.bytes();
    for (const FlatCodes& codes : flat_) sum += codes.bytes();
    if (projection_) sum += projection_->bytes();
    return sum;
}

std::vector<std::uint32_t> Index::links() const {
    std::vector<std::uint32_t> all(graph_.slots() * kDegree, kNoLink);
    for (std::size_t slot = 0; slot < graph_.slots(); ++slot) {
        const std::uint32_t* from = graph_.links(slot);
        for (std::size_t e = 0; e < kDegree && from[e] != kNoLink; ++e)
            all[row_of(static_cast<std::uint32_t>(slot)) * kDegree + e] = row_of(from[e]);
    }
    return all;
}

}  // namespace mrl
