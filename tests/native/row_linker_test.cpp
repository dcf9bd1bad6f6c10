// The links of rows that come one after another: those that are not even offered are those that
// would be turned away, and in the end rows that came are as well linked as any.
#include "graph/row_linker.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "graph/build.hpp"
#include "graph/link.hpp"
#include "small_index.hpp"

namespace {

using namespace small;

using Slots = std::vector<std::uint32_t>;

// Of rows that lie in groups: one of three, or one of a few dozen copies of one row.
std::vector<float> grouped(std::size_t n, bool copies, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> all;
    for (std::size_t i = 0; i < n; ++i) {
        std::vector<float> vector = vector_of(static_cast<std::int64_t>(random() % 3));
        const float noise = copies && random() % 3 == 0 ? 0.0f : 1.0f;
        for (float& x : vector) x += noise * normal(random);
        all.insert(all.end(), vector.begin(), vector.end());
    }
    return all;
}

void check_slots(const mrl::Store& store, std::uint32_t slot, const Slots& links) {
    CHECK(links.size() <= mrl::kDegree);
    CHECK(std::set<std::uint32_t>(links.begin(), links.end()).size() == links.size());
    for (const std::uint32_t other : links) CHECK(other != slot && other < store.links.slots());
}

struct Offers {
    std::size_t made = 0, kept_back = 0;
};

// Where no slot leads back to a row, its nearest link does so in place of its last one.
void check_led_to(mrl::Store& store, mrl::ScratchPool& scratches) {
    const mrl::LinkBatch batch = mrl::next_batch(store, 1);
    if (batch.slots.empty()) return;
    mrl::LinkChanges changes = mrl::find_links(store, batch, scratches, 1);
    changes.others.clear();
    const auto [slot, links] = changes.fresh.front();
    mrl::apply_links(store, std::move(changes));
    CHECK(store.links.leads_to(links.front(), slot));
    for (std::size_t i = 1; i < links.size(); ++i) CHECK(!store.links.leads_to(links[i], slot));
}

// Links of the rows that wait, found one by one, and who of the linked ones would take them.
Offers check_offers(const mrl::Store& store, const mrl::LinkBatch& batch) {
    const mrl::Mates mates(store, batch.slots, batch.longest_square);
    mrl::RowLinker linker(store, mates);
    mrl::BackLinker back(store, mates);
    mrl::Walk walk;
    Offers offers;
    for (std::size_t i = 0; i < batch.slots.size(); ++i) {
        const std::uint32_t slot = batch.slots[i], row = store.row_of(slot);
        float coordinates[mrl::kLineCoordinates], square;
        store.projection->project(store.rows, &row, 1, coordinates, &square);
        const Slots links = linker.links_of(i, coordinates, walk);
        check_slots(store, slot, links);
        CHECK(!links.empty());
        for (const std::uint32_t other : links) {
            const std::uint32_t* own = store.links.of(other);
            const Slots before(own, own + store.links.degree(other));
            Slots after = before;
            back.add(other, {slot}, after);
            check_slots(store, other, after);
            const std::vector<mrl::SlotLinks>& takers = linker.takers();
            const auto taker =
                std::find_if(takers.begin(), takers.end(),
                             [&](const mrl::SlotLinks& one) { return one.first == other; });
            ++(taker != takers.end() ? offers.made : offers.kept_back);
            // One that takes the row does so as if it were asked alone.
            if (taker == takers.end())
                CHECK(after == before);
            else if (!taker->second.empty())
                CHECK(after == taker->second && after != before);
            CHECK(std::find(after.begin(), after.end(), slot) != after.end() || after == before);
        }
    }
    return offers;
}

void check(mrl::Metric metric, std::size_t n, bool copies, std::mt19937& random) {
    const std::size_t built = n / 2;
    const std::vector<float> vectors = grouped(n, copies, random);
    std::vector<std::int64_t> keys(built);
    for (std::size_t i = 0; i < built; ++i) keys[i] = static_cast<std::int64_t>(i);
    mrl::Store store(metric, kDims, mrl::KeyType::int64, true);
    store.append(span(keys), vectors.data(), kDims, 1);
    const std::vector<float> mean(kDims, 0.0f);
    store.projection.emplace(metric, kDims, projection().data(), mean.data());
    mrl::build_graph(store, {}, {});
    for (std::size_t i = built; i < n; ++i)
        put(store, static_cast<std::int64_t>(i), vectors.data() + i * kDims);
    for (std::uint32_t row = 0; row < n; row += 16) store.remove(row);

    Offers offers;
    mrl::ScratchPool scratches;
    check_led_to(store, scratches);
    for (std::size_t linked = n - store.waiting.size(); linked < n;) {
        const mrl::LinkBatch batch = mrl::next_batch(store, mrl::kTogether);
        const Offers here = check_offers(store, batch);
        offers.made += here.made;
        offers.kept_back += here.kept_back;
        mrl::apply_links(store, mrl::find_links(store, batch, scratches, 1));
        linked += batch.waited;
    }

    CHECK(store.waiting.empty());
    // Copies are let in as long as there is room; of others most are led to from elsewhere.
    CHECK(offers.made > n && (copies || offers.kept_back > n));
    std::printf("metric %d: %zu of %zu links offered\n", static_cast<int>(metric), offers.made,
                offers.made + offers.kept_back);
    std::vector<bool> led_to(n, false);
    for (std::uint32_t slot = 0; slot < n; ++slot) {
        const std::uint32_t* own = store.links.of(slot);
        const Slots links(own, own + store.links.degree(slot));
        CHECK(!links.empty() || store.is_dead(slot));
        for (const std::uint32_t other : links) led_to[other] = true;
    }
    // Copies take places from each other; but for these, only rows that went before they were
    // linked are led to by none.
    const auto unled = static_cast<std::size_t>(std::count(led_to.begin(), led_to.end(), false));
    CHECK(unled <= (copies ? n / 10 : n / 32));
}

}  // namespace

int main() {
    std::mt19937 random(3);
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
        check(metric, 2000, false, random);
        check(metric, 1000, true, random);
    }
    return 0;
}
