// Deleted rows leave the graph, step by step as the index takes them (Index::heal): then no link
// leads to a dead slot, no walk begins at one, links lead from entries to every other slot, and
// rows that come take the dead ones' numbers.
#include "graph/heal.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "search/entries.hpp"
#include "small_index.hpp"

namespace {

using namespace small;

using Slots = std::set<std::uint32_t>;

void check_links(const mrl::Store& store, const mrl::Dying& dying) {
    for (std::uint32_t slot = 0; slot < store.links.slots(); ++slot) {
        const std::uint32_t* own = store.links.of(slot);
        const std::size_t degree = store.links.degree(slot);
        if (dying.has(slot)) CHECK(degree == 0);
        CHECK(Slots(own, own + degree).size() == degree);
        for (std::size_t e = 0; e < degree; ++e)
            CHECK(own[e] != slot && own[e] < store.links.slots() && !dying.has(own[e]));
    }
}

void check_entries(const mrl::Store& store, const mrl::Dying& dying) {
    const auto& entries = store.entries.slots;
    CHECK(!entries.empty());
    CHECK(Slots(entries.begin(), entries.end()).size() == entries.size());
    for (const std::uint32_t entry : entries) CHECK(!dying.has(entry));
}

// … to all that do not wait.
void check_reached(const mrl::Store& store, const mrl::Dying& dying) {
    std::vector<std::uint32_t> open = store.entries.slots;
    Slots reached(open.begin(), open.end());
    const Slots waiting(store.waiting.data(), store.waiting.data() + store.waiting.size());
    while (!open.empty()) {
        const std::uint32_t* own = store.links.of(open.back());
        open.pop_back();
        for (std::size_t e = 0; e < mrl::kDegree && own[e] != mrl::kNoLink; ++e)
            if (reached.insert(own[e]).second) open.push_back(own[e]);
    }
    for (std::uint32_t slot = 0; slot < dying.of_slots; ++slot)
        CHECK(reached.count(slot) == !(dying.has(slot) || waiting.count(slot) == 1));
}

void heal(mrl::Store& store, const mrl::Dying& dying) {
    const auto take = [&](const std::vector<mrl::SlotLinks>& mended) {
        for (const auto& [slot, links] : mended) {
            CHECK(!dying.has(slot));
            store.links.set(slot, links.data(), links.size());
        }
    };
    for (std::size_t begin = 0; begin < dying.of_slots; begin += mrl::kHealPiece)
        take(mrl::mend(store, dying, begin, 2));
    mrl::Entries entries = mrl::entries_without(store, dying);
    take(mrl::connect_without(store, dying, entries, 2));
    mrl::leave_out(store, dying, entries);
    mrl::bury(store, dying.slots);
}

// Links at random: healing asks no more of a graph, and takes a moment where a build takes seconds.
void make_graph(mrl::Store& store, std::mt19937& random) {
    constexpr std::size_t kLinks = 6;
    const auto slots = static_cast<std::uint32_t>(store.rows.size());
    store.has_graph = true;
    store.links.resize(slots);
    std::vector<std::uint32_t> entries;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
        Slots links;
        while (links.size() < kLinks) links.insert(static_cast<std::uint32_t>(random() % slots));
        links.erase(slot);
        const std::vector<std::uint32_t> list(links.begin(), links.end());
        store.links.set(slot, list.data(), list.size());
        if (slot % 16 == 0) entries.push_back(slot);
    }
    store.entries = mrl::group_entries(store.lines, entries);
}

// region: rows that all go, so that some entries have nothing but dead ones around them.
void check(mrl::Metric metric, std::size_t n, std::size_t one_in, bool region) {
    std::mt19937 random(static_cast<unsigned>(one_in));
    std::vector<std::int64_t> keys(n);
    for (std::size_t i = 0; i < n; ++i) keys[i] = static_cast<std::int64_t>(i);
    const auto vectors = vectors_of(keys);
    mrl::Store store(metric, kDims, mrl::KeyType::int64, true);
    load(store, keys, vectors, false);
    make_graph(store, random);
    for (std::size_t i = 0; i < n / 10; ++i)  // these wait
        put(store, static_cast<std::int64_t>(n + i),
            vector_of(-1 - static_cast<std::int64_t>(i)).data());
    const std::size_t rows = store.rows.size();
    Slots gone, later;
    for (std::uint32_t row = 0; row < rows; ++row) {
        const bool in_region = region && row < n && vectors[row * kDims] > 0;
        if (in_region || random() % one_in == 0) gone.insert(row);
    }
    for (const std::uint32_t row : gone) store.remove(row);

    const mrl::Dying dying = mrl::find_dying(store);
    CHECK(Slots(dying.slots.begin(), dying.slots.end()).size() == gone.size());
    for (const std::uint32_t slot : dying.slots) CHECK(gone.count(store.row_of(slot)) == 1);
    for (std::uint32_t row = 0; later.size() < 5; ++row) {  // meanwhile
        if (gone.count(row) == 0) store.remove(*later.insert(row).first);
    }
    heal(store, dying);

    check_links(store, dying);
    check_entries(store, dying);
    check_reached(store, dying);
    for (const std::uint32_t slot : store.waiting) CHECK(!dying.has(slot));
    CHECK(store.moment().waiting == store.waiting.size());
    CHECK(store.marked == later.size());
    CHECK(Slots(store.free_rows.begin(), store.free_rows.end()) == gone);
    CHECK(store.free_rows.size() == gone.size());
    CHECK(mrl::find_dying(store).slots.size() == later.size());
    for (std::size_t i = 0; i < gone.size(); ++i)
        put(store, static_cast<std::int64_t>(10 * n + i), vectors.data());
    CHECK(store.rows.size() == rows && store.free_rows.empty());
    put(store, static_cast<std::int64_t>(20 * n), vectors.data());
    CHECK(store.rows.size() == rows + 1);
}

// All go but one of those that link to each other, and no walk begins among them.
void check_lone(mrl::Metric metric) {
    constexpr std::uint32_t kEach = 20, kAll = 2 * kEach;
    std::vector<std::int64_t> keys(kAll);
    for (std::uint32_t i = 0; i < kAll; ++i) keys[i] = i;
    mrl::Store store(metric, kDims, mrl::KeyType::int64, true);
    load(store, keys, vectors_of(keys), false);
    store.has_graph = true;
    store.links.resize(kAll);
    for (std::uint32_t slot = 0; slot < kAll; ++slot) {
        std::vector<std::uint32_t> links;
        for (std::uint32_t other = slot / kEach * kEach; links.size() < kEach - 1; ++other)
            if (other != slot) links.push_back(other);
        store.links.set(slot, links.data(), links.size());
    }
    store.entries = mrl::group_entries(store.lines, {kEach});
    for (std::uint32_t slot = 1; slot < kEach; ++slot) store.remove(store.row_of(slot));
    const mrl::Dying dying = mrl::find_dying(store);

    heal(store, dying);

    check_links(store, dying);
    check_reached(store, dying);
    CHECK(store.links.degree(0) == 1);
}

}  // namespace

int main() {
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::l2, mrl::Metric::inner_product})
        check_lone(metric);
    check(mrl::Metric::cosine, 500, 10, false);
    check(mrl::Metric::l2, 500, 2, false);
    check(mrl::Metric::inner_product, 800, 10, true);
    check(mrl::Metric::cosine, 4200, 5, true);  // in two pieces
    std::printf("heal: links, entries, who is reached, rows that wait, numbers of the dead\n");
}
