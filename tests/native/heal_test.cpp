// Deleted rows leave the graph, step by step as the index takes them (Index::heal): then no link
// leads to a dead slot, no walk begins at one, and rows that come take the dead ones' numbers.
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
    for (std::size_t begin = 0; begin < dying.of_slots; begin += mrl::kHealPiece) {
        for (const auto& [slot, links] : mrl::mend(store, dying, begin, 2)) {
            CHECK(!dying.has(slot));
            store.links.set(slot, links.data(), links.size());
        }
    }
    mrl::Entries entries = mrl::entries_without(store, dying);
    mrl::leave_out(store, dying, entries);
    mrl::bury(store, dying.slots);

    check_links(store, dying);
    check_entries(store, dying);
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

}  // namespace

int main() {
    check(mrl::Metric::cosine, 500, 10, false);
    check(mrl::Metric::l2, 500, 2, false);
    check(mrl::Metric::inner_product, 800, 10, true);
    check(mrl::Metric::cosine, 4200, 5, true);  // in two pieces
    std::printf("heal: links, entries, rows that wait, numbers of the dead\n");
}
