#include "row_linker.hpp"

#include <algorithm>

#include "../kernels/dispatch.hpp"
#include "lead.hpp"

namespace mrl {
namespace {

constexpr std::size_t kMates = 16;  // of those linked together, the nearest that each considers
constexpr WalkOptions kGather{.hops = kGatherHops, .pool = kGatherPool};

void take_line(const Store& store, std::uint32_t slot, float longest, std::size_t i,
               BuildCodes& codes) {
    const std::size_t at = std::size_t{slot} * kLineBytes;
    codes.take_line(i, store.lines, store.lines.high() + at, store.lines.low() + at, longest);
}

// Arrays that shrink are cleared, which takes time.
void make_room(std::size_t n, BuildCodes& codes) {
    if (codes.size() < n) codes.resize(n);
}

void fetch(const Store& store, const std::uint32_t* slots, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t at = std::size_t{slots[i]} * kLineBytes;
        __builtin_prefetch(store.lines.high() + at);
        __builtin_prefetch(store.lines.low() + at);
    }
}

}  // namespace

Mates::Mates(const Store& store, const std::vector<std::uint32_t>& batch, double longest_square)
    : slots(batch), longest(static_cast<float>(longest_square)), codes(batch.size()) {
    for (std::size_t i = 0; i < slots.size(); ++i) take_line(store, slots[i], longest, i, codes);
}

// Dead slots, too: walks pass through them, and who heals gives their links on. Where they were no
// candidates, what comes where all around is dead would be out of reach.
void RowLinker::meet(std::uint32_t slot) {
    const auto next = static_cast<std::uint32_t>(slots_.size());
    if (numbers_.find_or_add(slot, next) == next) slots_.push_back(slot);
}

// The nearest of the batch; their codes are there.
void RowLinker::meet_mates(std::size_t mate) {
    const std::size_t n = mates_.slots.size();
    products_.resize(std::max(n, products_.size()));
    kernels_.inner_product_int8(mates_.codes.row(mate), mates_.codes.bytes.data(), n, kBuildBytes,
                                kBuildBytes, products_.data());
    candidates_.clear();
    for (std::uint32_t i = 0; i < n; ++i) {
        if (i != mate) candidates_.push_back({mates_.codes.between(mate, i, products_[i]), i});
    }
    const std::size_t count = std::min(kMates, candidates_.size());
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count),
                      candidates_.end());
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t other = candidates_[i].slot;
        codes_.copy(slots_.size(), mates_.codes, other);
        meet(mates_.slots[other]);
    }
}

std::vector<std::uint32_t> RowLinker::links_of(std::size_t mate, float* coordinates, Walk& walk) {
    const std::uint32_t slot = mates_.slots[mate];
    store_.projection->as_query(coordinates);
    store_.lines.prepare(coordinates, query_);
    walk_graph(kernels_, {store_.links, store_.entries, store_.lines}, query_, kGather, nullptr,
               walk);
    numbers_.clear();
    numbers_.find_or_add(slot, 0);
    slots_.assign(1, slot);
    for (std::size_t i = 0; i < walk.pool.size; ++i) meet(walk.pool.id[i]);
    for (const std::uint32_t other : walk.popped) meet(other);
    fetch(store_, slots_.data(), slots_.size());
    make_room(slots_.size() + kMates, codes_);
    codes_.copy(0, mates_.codes, mate);
    for (std::size_t i = 1; i < slots_.size(); ++i)
        take_line(store_, slots_[i], mates_.longest, i, codes_);
    first_mate_ = slots_.size();
    meet_mates(mate);

    const std::size_t n = slots_.size();
    products_.resize(std::max(n, products_.size()));
    distances_.assign(n, 0.0f);
    kernels_.inner_product_int8(codes_.row(0), codes_.bytes.data(), n, kBuildBytes, kBuildBytes,
                                products_.data());
    candidates_.clear();
    for (std::uint32_t i = 1; i < n; ++i) {
        distances_[i] = codes_.between(0, i, products_[i]);
        candidates_.push_back({distances_[i], i});
    }
    sorter_.sort(candidates_);
    if (candidates_.size() > kCandidates) candidates_.resize(kCandidates);
    Near pruned[kDegree];
    const std::size_t degree = pruner_.prune(candidates_, pruned);
    std::vector<std::uint32_t> links(degree);
    for (std::size_t e = 0; e < degree; ++e) links[e] = slots_[pruned[e].slot];
    takers_.clear();
    for (std::size_t e = 0; e < degree; ++e) offer_to(pruned[e]);
    return links;
}

std::vector<std::uint32_t> RowLinker::hosts() const {
    return hosts_among(
        candidates_, [this](std::uint32_t i) { return i < first_mate_; },
        [this](std::uint32_t i) { return slots_[i]; });
}

void RowLinker::offer_to(const Near& link) {
    const std::uint32_t slot = slots_[link.slot];
    if (link.slot >= first_mate_) {
        takers_.emplace_back(slot, std::vector<std::uint32_t>{});
        return;
    }
    const std::uint32_t* own = store_.links.of(slot);
    const std::size_t degree = store_.links.degree(slot);
    if (degree < kDegree) {
        takers_.emplace_back(slot, std::vector<std::uint32_t>(own, own + degree));
        takers_.back().second.push_back(slots_[0]);
        return;
    }
    if (is_hidden_from(link)) return;
    number_links(own);
    add_link(link.slot, 0, known_, store_.alpha,
             [this](std::uint32_t from, const std::uint32_t* to, std::size_t n, float* distances) {
                 if (from == 0 || to[0] == 0) {  // from the row, or to it
                     for (std::size_t i = 0; i < n; ++i) distances[i] = distances_[from + to[i]];
                     return;
                 }
                 std::int32_t products[kDegree];
                 kernels_.inner_product_int8_at(codes_.row(from), codes_.bytes.data(), to, n,
                                                kBuildBytes, kBuildBytes, products);
                 for (std::size_t i = 0; i < n; ++i)
                     distances[i] = codes_.between(from, to[i], products[i]);
             });
    if (known_.back() != 0) return;
    takers_.emplace_back(slot, std::vector<std::uint32_t>(known_.size()));
    for (std::size_t i = 0; i < known_.size(); ++i) takers_.back().second[i] = slots_[known_[i]];
}

// Whether one of the candidates would keep the row away from a link's links: nearer to both than
// they are to each other. It is met on the way to the row, so that the walk has mostly met it, and
// nothing needs to be read.
bool RowLinker::is_hidden_from(const Near& link) {
    const std::uint32_t* own = store_.links.of(slots_[link.slot]);
    known_.clear();
    for (std::size_t e = 0; e < kDegree; ++e) {
        const std::uint32_t other = numbers_.find(own[e]);
        if (other != SlotNumbers::kNone && hides(link.distance, distances_[other], store_.alpha))
            known_.push_back(other);
    }
    std::int32_t products[kDegree];
    kernels_.inner_product_int8_at(codes_.row(link.slot), codes_.bytes.data(), known_.data(),
                                   known_.size(), kBuildBytes, kBuildBytes, products);
    for (std::size_t i = 0; i < known_.size(); ++i) {
        if (codes_.between(link.slot, known_[i], products[i]) <= link.distance) return true;
    }
    return false;
}

// Leaves the numbers of kDegree links in known_. Near rows share links: most of them were met.
void RowLinker::number_links(const std::uint32_t* links) {
    const std::size_t before = slots_.size();
    known_.clear();
    for (std::size_t e = 0; e < kDegree; ++e) {
        const auto next = static_cast<std::uint32_t>(slots_.size());
        known_.push_back(numbers_.find_or_add(links[e], next));
        if (known_.back() == next) slots_.push_back(links[e]);
    }
    const std::size_t n = slots_.size();
    fetch(store_, slots_.data() + before, n - before);
    make_room(n, codes_);
    for (std::size_t i = before; i < n; ++i)
        take_line(store_, slots_[i], mates_.longest, i, codes_);
    products_.resize(std::max(n, products_.size()));
    kernels_.inner_product_int8(codes_.row(0), codes_.row(before), n - before, kBuildBytes,
                                kBuildBytes, products_.data());
    for (std::size_t i = before; i < n; ++i)
        distances_.push_back(codes_.between(0, i, products_[i - before]));
}

void BackLinker::add(std::uint32_t slot, const std::vector<std::uint32_t>& rows,
                     std::vector<std::uint32_t>& links) {
    if (links.size() + rows.size() <= kDegree) {
        for (const std::uint32_t row : rows) {
            if (std::find(links.begin(), links.end(), row) == links.end()) links.push_back(row);
        }
        return;
    }
    // Numbered: the slot itself, its links, and the others that come.
    slots_.assign(1, slot);
    slots_.insert(slots_.end(), links.begin(), links.end());
    links_.clear();
    for (std::uint32_t i = 1; i <= links.size(); ++i) links_.push_back(i);
    const std::size_t first_row = slots_.size();
    for (const std::uint32_t row : rows) {
        if (std::find(links.begin(), links.end(), row) == links.end()) slots_.push_back(row);
    }
    make_room(slots_.size(), codes_);
    fetch(store_, slots_.data(), slots_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i)
        take_line(store_, slots_[i], mates_.longest, i, codes_);
    const auto measure = [this](std::uint32_t from, const std::uint32_t* to, std::size_t n,
                                float* distances) {
        products_.resize(std::max(n, products_.size()));
        kernels_.inner_product_int8_at(codes_.row(from), codes_.bytes.data(), to, n, kBuildBytes,
                                       kBuildBytes, products_.data());
        for (std::size_t i = 0; i < n; ++i)
            distances[i] = codes_.between(from, to[i], products_[i]);
    };
    for (std::uint32_t row = static_cast<std::uint32_t>(first_row); row < slots_.size(); ++row)
        add_link(0, row, links_, store_.alpha, measure);
    links.resize(links_.size());
    for (std::size_t i = 0; i < links_.size(); ++i) links[i] = slots_[links_[i]];
}

}  // namespace mrl
