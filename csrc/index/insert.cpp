// Rows that come one after another: they can be found at once, and are linked into the graph when
// there is time.
//
// A row that was placed waits in a list, and searches look at that list from end to end, a line of
// code each. Linking takes rows from it by the dozen: each walks the graph to its own place, sees
// the rows that it came with, and is pruned like the rows of a build; then all rows that were
// linked to get their links back. The result is the same whatever the number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../system/thread_pool.hpp"
#include "index.hpp"
#include "scratch.hpp"

namespace mrl {
namespace {

constexpr std::size_t kInsertHops = 128, kInsertPool = 160;  // as in a build
constexpr std::size_t kCandidates = 96;                      // nearest rows that may become links
constexpr float kInsertAlpha = 1.2f;
constexpr std::size_t kFewEntries = 256;  // at least, once there are …
constexpr std::size_t kRowsAnEntry = 8;   // … so many rows for each
constexpr std::size_t kPlaced = 32;       // rows placed while searches wait
constexpr std::size_t kTogether = 64;     // rows linked at a time
constexpr std::size_t kMates = 16;        // of these, the nearest to each that it considers

}  // namespace

void Index::upsert(const KeySpan& keys, const float* vectors, std::size_t vector_stride) {
    const std::lock_guard one(writer_);
    std::vector<std::size_t> fresh;
    for (std::size_t first = 0; first < keys.n; first += kPlaced) {
        fresh.clear();
        for (std::size_t i = first; i < std::min(keys.n, first + kPlaced); ++i) {
            const std::uint32_t before = keys_.find(keys.at(i));
            if (before == Keys::kNone || !rows_.equals(before, vectors + i * vector_stride))
                fresh.push_back(i);
        }
        if (fresh.empty()) continue;
        {
            const Writing writing(*this);
            for (const std::size_t i : fresh) place(keys.at(i), vectors + i * vector_stride);
        }
        heal_if_torn();
    }
}

// A new row takes the number of a healed one, or the next.
void Index::place(std::string_view key, const float* vector) {
    const std::uint32_t before = keys_.find(key);
    if (before != Keys::kNone) mark(before);
    std::uint32_t row;
    if (!free_rows_.empty()) {
        row = free_rows_.back();
        free_rows_.pop_back();
        rows_.replace(row, vector);
        born_[row] = static_cast<std::uint32_t>(++epoch_);
        deleted_.clear(row);
    } else {
        row = static_cast<std::uint32_t>(rows_.size());
        rows_.append(vector, 1, rows_.dims(), 1);
        deleted_.resize(row + 1);
        born_.resize(row + 1);
        if (!row_of_slot_.empty()) {
            row_of_slot_.append(&row, 1);
            slot_of_row_.append(&row, 1);
        }
        if (has_graph_) graph_.resize(row + 1);
        if (has_line_codes()) lines_.resize(row + 1);
        for (FlatCodes& codes : flat_) codes.resize(row + 1);
    }
    keys_.set(row, key);
    ++live_;
    longest_square_ = std::max<double>(longest_square_, rows_.square(row));
    float coordinates[kLineCoordinates], square = 0;
    if (projection_) projection_->project(rows_, &row, 1, coordinates, &square);
    if (has_line_codes()) lines_.encode(slot_of(row), coordinates, square);
    for (FlatCodes& codes : flat_) {
        if (codes.space() == Space::projection) {
            codes.encode(row, coordinates, square);
        } else {
            codes.encode(row, vector);
        }
    }
    if (has_graph_) waiting_.push_back(slot_of(row));
}

// The squared distance of two rows, under inner product between their lifted forms (build.cpp).
float Index::between(std::uint32_t row, std::uint32_t other, std::int32_t product) const {
    const double a = rows_.square(row), b = rows_.square(other);
    const double dot = static_cast<double>(rows_.scale(row)) * rows_.scale(other) * product;
    if (metric() != Metric::inner_product)
        return static_cast<float>(std::max(0.0, a + b - 2.0 * dot));
    const double lift =
        std::sqrt(std::max(0.0, longest_square_ - a) * std::max(0.0, longest_square_ - b));
    return static_cast<float>(std::max(0.0, 2.0 * (longest_square_ - dot - lift)));
}

// The rule of Pruner (pruner.hpp) over the codes that stay with the rows.
std::vector<std::uint32_t> Index::pruned(std::uint32_t slot,
                                         std::vector<std::uint32_t> candidates) const {
    struct Near {
        float distance, occlusion;
        std::uint32_t row, slot;
    };
    const Kernels& kernel = kernels();
    const std::uint32_t row = row_of(slot);
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    std::erase(candidates, slot);
    std::vector<std::uint32_t> numbers(candidates.size());
    std::vector<std::int32_t> products(candidates.size());
    for (std::size_t i = 0; i < candidates.size(); ++i) numbers[i] = row_of(candidates[i]);
    const auto multiply = [&](std::uint32_t from) {
        kernel.inner_product_int8_at(rows_.code(from), rows_.codes(), numbers.data(),
                                     numbers.size(), rows_.code_stride(), rows_.dims(),
                                     products.data());
    };
    multiply(row);
    std::vector<Near> all(candidates.size());
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i] = {between(row, numbers[i], products[i]), 0.0f, numbers[i], candidates[i]};
    std::sort(all.begin(), all.end(), [](const Near& a, const Near& b) {
        return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot;
    });
    if (all.size() > kCandidates) all.resize(kCandidates);
    std::vector<std::uint32_t> links;
    std::vector<std::size_t> places;
    for (float round = 1.0f; links.size() < kDegree; round = std::min(kInsertAlpha, round * 1.2f)) {
        for (std::size_t i = 0; i < all.size() && links.size() < kDegree; ++i) {
            if (all[i].occlusion > round) continue;
            links.push_back(all[i].slot);
            all[i].occlusion = std::numeric_limits<float>::infinity();
            numbers.clear();
            places.clear();
            for (std::size_t j = i + 1; j < all.size(); ++j) {
                if (all[j].occlusion > kInsertAlpha) continue;
                numbers.push_back(all[j].row);
                places.push_back(j);
            }
            multiply(all[i].row);
            for (std::size_t j = 0; j < places.size(); ++j) {
                Near& other = all[places[j]];
                const float gap = between(all[i].row, other.row, products[j]);
                other.occlusion =
                    std::max(other.occlusion, gap > 0 ? other.distance / gap
                                                      : std::numeric_limits<float>::infinity());
            }
        }
        if (round >= kInsertAlpha) break;
    }
    return links;
}

// Takes a slot among the links of another where the rule of pruning lets it in, in place of those
// that it hides. The links are taken for pruned: each is compared with the new one only, where to
// prune them all again would compare all with all.
void Index::add_link(std::uint32_t slot, std::uint32_t added,
                     std::vector<std::uint32_t>& links) const {
    if (std::find(links.begin(), links.end(), added) != links.end()) return;
    if (links.size() < kDegree) {
        links.push_back(added);
        return;
    }
    const Kernels& kernel = kernels();
    const std::uint32_t row = row_of(slot), other = row_of(added);
    std::uint32_t rows[kDegree + 1];
    std::int32_t own[kDegree + 1], theirs[kDegree];
    for (std::size_t i = 0; i < kDegree; ++i) rows[i] = row_of(links[i]);
    rows[kDegree] = other;
    kernel.inner_product_int8_at(rows_.code(row), rows_.codes(), rows, kDegree + 1,
                                 rows_.code_stride(), rows_.dims(), own);
    kernel.inner_product_int8_at(rows_.code(other), rows_.codes(), rows, kDegree,
                                 rows_.code_stride(), rows_.dims(), theirs);
    const float distance = between(row, other, own[kDegree]);
    float distances[kDegree];
    std::size_t kept = 0, farthest = 0;
    bool hides[kDegree];
    for (std::size_t i = 0; i < kDegree; ++i) {
        distances[i] = between(row, rows[i], own[i]);
        const float gap = between(other, rows[i], theirs[i]);
        if (distances[i] <= distance && distance > kInsertAlpha * gap) return;
        hides[i] = distances[i] > distance && distances[i] > kInsertAlpha * gap;
        if (distances[i] > distances[farthest]) farthest = i;
    }
    const bool one_hidden = std::any_of(hides, hides + kDegree, [](bool hidden) { return hidden; });
    if (!one_hidden) {
        if (distances[farthest] <= distance) return;
        hides[farthest] = true;
    }
    for (std::size_t i = 0; i < kDegree; ++i) {
        if (!hides[i]) links[kept++] = links[i];
    }
    links.resize(kept);
    links.push_back(added);
}

// The nearest other rows of a batch, by their int8 codes.
void Index::add_mates(std::uint32_t row, const std::vector<std::uint32_t>& batch,
                      std::vector<std::uint32_t>& candidates) const {
    std::vector<std::uint32_t> rows;
    for (const std::uint32_t slot : batch) rows.push_back(row_of(slot));
    std::vector<std::int32_t> products(rows.size());
    kernels().inner_product_int8_at(rows_.code(row), rows_.codes(), rows.data(), rows.size(),
                                    rows_.code_stride(), rows_.dims(), products.data());
    std::vector<std::pair<float, std::uint32_t>> mates;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i] != row) mates.emplace_back(between(row, rows[i], products[i]), batch[i]);
    }
    const std::size_t count = std::min(kMates, mates.size());
    std::partial_sort(mates.begin(), mates.begin() + static_cast<std::ptrdiff_t>(count),
                      mates.end());
    for (std::size_t i = 0; i < count; ++i) candidates.push_back(mates[i].second);
}

// The links of a slot that waits: found by a walk to its own place, and among the slots that are
// linked with it.
std::vector<std::uint32_t> Index::links_for(std::uint32_t slot,
                                            const std::vector<std::uint32_t>& batch) const {
    const std::uint32_t row = row_of(slot);
    std::unique_ptr<Scratch> scratch = borrow();
    float coordinates[kLineCoordinates], square;
    projection_->project(rows_, &row, 1, coordinates, &square);
    projection_->as_query(coordinates);
    lines_.prepare(coordinates, scratch->line_query);
    graph_.walk(kernels(), lines_, scratch->line_query,
                {kInsertHops, kInsertPool, 0, std::numeric_limits<float>::infinity(), false},
                scratch->walk, nullptr);
    std::vector<std::uint32_t> candidates(scratch->walk.popped);
    candidates.insert(candidates.end(), scratch->walk.pool.id,
                      scratch->walk.pool.id + scratch->walk.pool.size);
    std::erase_if(candidates, [this](std::uint32_t other) { return deleted_.test(row_of(other)); });
    give_back(std::move(scratch));
    add_mates(row, batch, candidates);
    return pruned(slot, std::move(candidates));
}

std::size_t Index::link_waiting(std::size_t most, std::size_t threads) {
    std::size_t linked = 0;
    while (linked < most) {
        const std::lock_guard one(writer_);
        if (waiting_.empty()) break;
        std::vector<std::uint32_t> batch(
            waiting_.begin(),
            waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(kTogether, waiting_.size())));
        link(batch, threads);
        linked += batch.size();
    }
    return linked;
}

// All is computed while searches go on (this is the only writer); what changes is changed at once.
void Index::link(const std::vector<std::uint32_t>& batch, std::size_t threads) {
    std::vector<std::uint32_t> live;
    std::copy_if(batch.begin(), batch.end(), std::back_inserter(live),
                 [this](std::uint32_t slot) { return !deleted_.test(row_of(slot)); });
    std::vector<std::vector<std::uint32_t>> links(live.size());
    struct Offer {
        std::uint32_t slot;
        std::vector<std::uint32_t> links;
    };
    std::vector<Offer> offers;
    {
        const Reading reading(*this);
        parallel_for(threads, live.size(),
                     [&](std::size_t i, std::size_t) { links[i] = links_for(live[i], live); });
        std::map<std::uint32_t, std::vector<std::uint32_t>> back;
        for (std::size_t i = 0; i < live.size(); ++i) {
            for (const std::uint32_t other : links[i]) back[other].push_back(live[i]);
        }
        for (auto& [other, from] : back) offers.push_back({other, std::move(from)});
        parallel_for(threads, offers.size(), [&](std::size_t i, std::size_t) {
            Offer& offer = offers[i];
            const auto mate = std::find(live.begin(), live.end(), offer.slot);
            std::vector<std::uint32_t> theirs;
            if (mate != live.end()) {
                theirs = links[static_cast<std::size_t>(mate - live.begin())];
            } else {
                theirs.assign(graph_.links(offer.slot),
                              graph_.links(offer.slot) + graph_.degree(offer.slot));
            }
            const std::vector<std::uint32_t> offered = std::move(offer.links);
            offer.links = std::move(theirs);
            for (const std::uint32_t from : offered) add_link(offer.slot, from, offer.links);
        });
    }
    const Writing writing(*this);
    for (std::size_t i = 0; i < live.size(); ++i)
        graph_.set_links(live[i], links[i].data(), links[i].size());
    for (const Offer& offer : offers)
        graph_.set_links(offer.slot, offer.links.data(), offer.links.size());
    // Somebody must lead to each: where all prunings dropped it, its nearest link gives its last
    // one up.
    for (std::size_t i = 0; i < live.size(); ++i) {
        if (links[i].empty()) continue;
        const bool reached =
            std::any_of(links[i].begin(), links[i].end(), [&](std::uint32_t other) {
                const std::uint32_t* theirs = graph_.links(other);
                return std::find(theirs, theirs + kDegree, live[i]) != theirs + kDegree;
            });
        if (!reached) graph_.links(links[i].front())[graph_.degree(links[i].front()) - 1] = live[i];
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(batch.size()));
    add_entries(live);
}

// As many entries as a build would make. They are grouped anew each time, so many are added seldom.
void Index::add_entries(const std::vector<std::uint32_t>& slots) {
    std::vector<std::uint32_t> entries = graph_.entries();
    const std::size_t wanted =
        std::max(std::min(kFewEntries, live_rows() / kRowsAnEntry), cells_of(live_rows()));
    if (entries.size() + entries.size() / 16 >= wanted) return;
    for (std::size_t i = 0; i < slots.size() && entries.size() < wanted; ++i)
        entries.push_back(slots[i]);
    graph_.set_entries(lines_, std::move(entries));
}

}  // namespace mrl
