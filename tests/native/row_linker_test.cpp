// The links of rows that come one after another: those that are not even offered are those that
// would be turned away, and in the end rows that came are as well linked as any.
#include "graph/row_linker.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "check.hpp"
#include "graph/build.hpp"
#include "graph/lead.hpp"
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

// Links that are all known.
class Known : public mrl::LinksToBe {
  public:
    explicit Known(std::vector<Slots> links) : links_(std::move(links)) {}
    Slots* changed(std::uint32_t slot) override { return &links_[slot]; }
    Slots* of(std::uint32_t slot) override { return &links_[slot]; }

  private:
    std::vector<Slots> links_;
};

// Slot 0 has no room, slot 1 has; 2 is far away and leads to all, which does not count.
void check_led_to() {
    constexpr std::uint32_t kMate = 40, kOther = 41;
    Slots full(mrl::kDegree);
    std::iota(full.begin(), full.end(), 3u);
    const std::uint32_t last = full.back();
    std::vector<Slots> links(42);
    links[0] = full;
    links[1] = {0};
    links[2] = {kMate, kOther};
    links[kMate] = {0, 2, kOther};
    links[kOther] = {0, 2};

    Known roomy(links);
    mrl::lead_to_all({kMate, kOther}, {{0, 1}, {kMate, 0, 1}}, roomy);
    CHECK(*roomy.of(0) == full);
    CHECK((*roomy.of(1) == Slots{0, kMate}));
    CHECK((*roomy.of(kMate) == Slots{0, 2, kOther}));  // by which the other is reached
    CHECK((*roomy.of(kOther) == Slots{0, 2}));

    Known tight(links);
    mrl::lead_to_all({kMate, kOther}, {{0}, {0}}, tight);
    CHECK(tight.of(0)->size() == mrl::kDegree && tight.of(0)->back() == kOther);
    CHECK((*tight.of(kMate) == Slots{0, 2, kOther, last}));  // what was given up is led to
    CHECK((*tight.of(kOther) == Slots{0, 2, kMate}));

    Known own(links);
    *own.of(kOther) = full;
    mrl::lead_to_all({kOther}, {{0}}, own);
    CHECK(own.of(0)->back() == kOther && *own.of(kOther) == full);  // it leads there already

    Known alone(links);
    mrl::lead_to_all({kMate}, {{}}, alone);
    CHECK(*alone.of(0) == full);
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

// Every live slot is led to; rows that went before they were linked need not be.
void check_all_led_to(const mrl::Store& store) {
    const std::size_t n = store.links.slots();
    std::vector<bool> led_to(n, false);
    for (std::uint32_t slot = 0; slot < n; ++slot) {
        const std::uint32_t* own = store.links.of(slot);
        for (std::size_t e = 0; e < store.links.degree(slot); ++e) led_to[own[e]] = true;
        CHECK(store.links.degree(slot) > 0 || store.is_dead(slot));
    }
    for (std::uint32_t slot = 0; slot < n; ++slot) CHECK(led_to[slot] || store.is_dead(slot));
}

mrl::Store built_of(mrl::Metric metric, const std::vector<float>& vectors, std::size_t n) {
    std::vector<std::int64_t> keys(n);
    std::iota(keys.begin(), keys.end(), 0);
    mrl::Store store(metric, kDims, mrl::KeyType::int64, true);
    store.append(span(keys), vectors.data(), kDims, 1);
    const std::vector<float> mean(kDims, 0.0f);
    store.projection.emplace(metric, kDims, projection().data(), mean.data());
    mrl::build_graph(store, {}, {});
    return store;
}

// Rows that come far from all others, and hardly to be told apart.
void check_near_copies(mrl::Metric metric, float noise, std::mt19937& random) {
    constexpr std::size_t kBuilt = 500, kRows = 900;
    std::normal_distribution<float> normal;
    std::vector<float> vectors(kRows * kDims), far(kDims);
    for (float& x : far) x = 8.0f * normal(random);
    for (float& x : vectors) x = normal(random);
    for (std::size_t i = kBuilt * kDims; i < vectors.size(); ++i)
        vectors[i] = far[i % kDims] + noise * vectors[i];
    mrl::Store store = built_of(metric, vectors, kBuilt);
    for (std::size_t i = kBuilt; i < kRows; ++i)
        put(store, static_cast<std::int64_t>(i), vectors.data() + i * kDims);
    mrl::ScratchPool scratches;
    while (!store.waiting.empty()) {
        const mrl::LinkBatch batch = mrl::next_batch(store, mrl::kTogether);
        mrl::apply_links(store, mrl::find_links(store, batch, scratches, 1));
    }
    check_all_led_to(store);
}

void check(mrl::Metric metric, std::size_t n, bool copies, std::mt19937& random) {
    const std::size_t built = n / 2;
    const std::vector<float> vectors = grouped(n, copies, random);
    mrl::Store store = built_of(metric, vectors, built);
    for (std::size_t i = built; i < n; ++i)
        put(store, static_cast<std::int64_t>(i), vectors.data() + i * kDims);
    for (std::uint32_t row = 0; row < n; row += 16) store.remove(row);

    Offers offers;
    mrl::ScratchPool scratches;
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
    check_all_led_to(store);
}

}  // namespace

int main() {
    check_led_to();
    std::mt19937 random(3);
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
        check(metric, 2000, false, random);
        check(metric, 1000, true, random);
        for (const float noise : {0.0f, 0.002f, 0.02f, 0.3f})
            check_near_copies(metric, noise, random);
    }
    return 0;
}
