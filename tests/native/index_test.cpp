// The index by itself: answers against brute force on every metric and route, through growth,
// deletion and healing; and searches beside writes (run this one under TSan: make threads).
#include "index/index.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "small_index.hpp"
#include "system/thread_pool.hpp"

namespace {

using namespace small;

// The recall over many queries; each answer is checked to be in order, without doubles, alive and
// truly that far.
double checked_recall(const mrl::Index& index, const std::set<std::int64_t>& alive,
                      const mrl::Plan& plan, std::mt19937& random,
                      const std::set<std::int64_t>* wanted = nullptr) {
    std::vector<std::int64_t> asked(40);
    for (auto& key : asked) key = 1000000 + static_cast<std::int64_t>(random() % 100000);
    const auto queries = vectors_of(asked);
    std::optional<mrl::Selection> selection;
    if (wanted != nullptr) selection = index.select(span({wanted->begin(), wanted->end()}));
    std::set<std::int64_t> allowed;
    for (const std::int64_t key : alive) {
        if (wanted == nullptr || wanted->count(key) != 0) allowed.insert(key);
    }
    const auto answers = search(index, queries, plan, selection ? &*selection : nullptr, 2);
    double sum = 0;
    for (std::size_t q = 0; q < asked.size(); ++q) {
        const auto expected = brute_force(index.metric(), queries.data() + q * kDims, allowed,
                                          plan.stages.back().keep);
        const Answer& got = answers[q];
        CHECK(got.keys.size() == expected.keys.size());
        CHECK(std::set<std::int64_t>(got.keys.begin(), got.keys.end()).size() == got.keys.size());
        for (std::size_t i = 0; i < got.keys.size(); ++i) {
            CHECK(allowed.count(got.keys[i]) == 1);
            CHECK(std::fabs(got.distances[i] - distance(index.metric(), queries.data() + q * kDims,
                                                        vector_of(got.keys[i]).data())) < 1e-4);
            CHECK(i == 0 || got.distances[i - 1] <= got.distances[i]);
        }
        sum += overlap(got, expected);
    }
    return sum / static_cast<double>(asked.size());
}

void check_life(mrl::Metric metric, bool graph, std::size_t rows) {
    std::mt19937 random(static_cast<unsigned>(rows));
    std::vector<std::int64_t> keys(rows);
    for (std::size_t i = 0; i < rows; ++i) keys[i] = static_cast<std::int64_t>(i);
    std::set<std::int64_t> alive(keys.begin(), keys.end());
    mrl::Index index(metric, kDims, mrl::KeyType::int64, true);
    load(index, keys, graph);
    const std::size_t n = 4 * rows + 100;
    const mrl::Stage last{mrl::Space::prefix, kDims, float32, 10};
    std::vector<mrl::Plan> plans{
        {mrl::Route::flat, 0, {last}},
        {mrl::Route::flat, 0, {{mrl::Space::prefix, 16, int8, n}, last}},
        {mrl::Route::flat, 0, {{mrl::Space::prefix, 8, float32, n}, last}},
        {mrl::Route::flat,
         0,
         {{mrl::Space::prefix, kDims, bit, n}, {mrl::Space::prefix, kDims, int8, n}, last}},
        {mrl::Route::flat, 0, {{mrl::Space::projection, kDims, int8, n}, last}},
        {mrl::Route::flat, 0, {{mrl::Space::projection, kDims, bit, n}, last}},
        {mrl::Route::flat, 0, {{mrl::Space::projection, kDims, int4, n}, last}}};
    const auto check_all = [&] {
        for (const auto& plan : plans)
            CHECK(checked_recall(index, alive, plan, random) >=
                  0.9999);  // law 1, ties of floats aside
        const double by_codes = checked_recall(
            index, alive, {mrl::Route::flat, 0, {{mrl::Space::projection, kDims, int4, 40}, last}},
            random);
        CHECK(by_codes >= 0.9);
        if (graph) CHECK(checked_recall(index, alive, graph_plan(120, 10), random) >= 0.95);
        for (const std::size_t share : {2u, 10u, 100u}) {
            std::set<std::int64_t> wanted;
            for (const std::int64_t key : alive) {
                if (key % static_cast<std::int64_t>(share) == 0) wanted.insert(key);
            }
            if (graph)
                CHECK(checked_recall(index, alive, graph_plan(120, 10), random, &wanted) >= 0.9);
            CHECK(checked_recall(index, alive, plans[1], random, &wanted) >= 0.9999);
        }
    };
    check_all();
    std::int64_t next = static_cast<std::int64_t>(rows);
    for (int round = 0; round < 4; ++round) {
        std::vector<std::int64_t> fresh, gone;
        for (std::size_t i = 0; i < rows / 3 + 5; ++i) fresh.push_back(next++);
        for (const std::int64_t key : alive) {
            if (random() % 3 == 0) gone.push_back(key);
        }
        if (round == 2)
            fresh.insert(fresh.end(), alive.begin(), alive.end());  // replaced by themselves
        gone.push_back(-1);                                         // not there
        CHECK(index.erase(span(gone)) == gone.size() - 1);
        for (const std::int64_t key : gone) alive.erase(key);
        if (round == 2)
            std::erase_if(fresh, [&](std::int64_t key) {
                return std::count(gone.begin(), gone.end(), key) != 0;
            });
        const auto vectors = vectors_of(fresh);
        index.upsert(span(fresh), vectors.data(), kDims);
        alive.insert(fresh.begin(), fresh.end());
        CHECK(index.live_rows() == alive.size());
        if (round == 1) index.heal();
        if (round != 3) check_all();  // rows that wait for their links are found
        if (round == 0) index.link_waiting(50, 1);
        if (round > 0) index.link_waiting(alive.size() + fresh.size(), 2);
        CHECK(round == 0 || index.waiting() == 0);
        check_all();
    }
    std::vector<std::int64_t> all(alive.begin(), alive.end());
    CHECK(index.erase(span(all)) == all.size());
    CHECK(search(index, vectors_of({5}), graph ? graph_plan(50, 10) : plans[1])[0].keys.empty());
    const auto again = vectors_of({7});
    index.upsert(span({7}), again.data(), kDims);
    const auto found =
        search(index, vectors_of({5}), graph ? graph_plan(50, 10) : plans[1])[0].keys;
    CHECK(found == std::vector<std::int64_t>{7});
}

// Rows asked for as if they were none: who links to one has links past it, the row is in no answer,
// and the index is as it was.
void check_hidden_rows() {
    std::vector<std::int64_t> keys(3000), asked;
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::int64_t>(i);
    for (std::int64_t key = 0; key < 600; ++key) asked.push_back(5 * key);
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, keys, true);
    const std::vector<std::int64_t> gone{1, 2, 3, 7, 11};
    index.erase(span(gone));
    std::set<std::int64_t> alive(keys.begin(), keys.end());
    for (const std::int64_t key : gone) alive.erase(key);
    asked.push_back(7);  // is not there
    const auto links = index.links();
    const mrl::HiddenRows hidden = index.hide(span(asked), 2);
    CHECK(hidden.rows.size() == asked.size() && hidden.rows.back() == mrl::Keys::kNone);
    std::size_t torn = 0, detoured = 0, gained = 0;
    const std::set<std::uint32_t> rows(hidden.rows.begin(), hidden.rows.end());
    for (const std::uint32_t link : links) torn += rows.count(link);
    for (const auto& [slot, detour] : hidden.detours) {
        detoured += detour.slots.size();
        CHECK(std::is_sorted(detour.slots.begin(), detour.slots.end()));
        CHECK(detour.slots.size() == detour.links.size());
        for (std::size_t i = 0; i < detour.slots.size(); ++i) {
            const std::uint32_t* to = detour.links_of(detour.slots[i], nullptr);
            std::set<std::uint32_t> own;
            std::size_t degree = 0;
            for (; degree < mrl::kDegree && to[degree] != mrl::kNoLink; ++degree)
                own.insert(to[degree]);
            CHECK(own.size() == degree && degree > 0);
            CHECK(own.count(slot) == 0 && own.count(detour.slots[i]) == 0 &&
                  *own.rbegin() < keys.size());
            gained += degree == mrl::kDegree ? 1 : 0;
        }
        CHECK(detour.links_of(slot, nullptr) == nullptr);
    }
    CHECK(detoured == torn && gained > 0);

    // A walk that must find a way round a hole misses no less than one that is led past it.
    mrl::HiddenRows holes = hidden;
    holes.detours.clear();
    std::size_t found[2] = {0, 0};
    const auto queries = vectors_of(asked);
    const mrl::Plan plan = graph_plan(12, 10);
    const mrl::HiddenRows* const both[] = {&holes, &hidden};
    for (const std::size_t detours : {0u, 1u}) {
        mrl::StageCounts counts{};
        std::vector<std::set<std::int64_t>> answers(asked.size());
        index.search(queries.data(), asked.size(), {plan, nullptr, 2, false, both[detours]}, counts,
                     [&](std::size_t query, const mrl::RowHit* hits, std::size_t count) {
                         for (std::size_t i = 0; i < count; ++i)
                             answers[query].insert(index.keys().integer(hits[i].row));
                     });
        for (std::size_t q = 0; q < asked.size(); ++q) {
            CHECK(answers[q].count(asked[q]) == 0);
            alive.erase(asked[q]);
            for (const std::int64_t key :
                 brute_force(index.metric(), queries.data() + q * kDims, alive, 10).keys) {
                found[detours] += answers[q].count(key);
            }
            if (asked[q] != 7) alive.insert(asked[q]);
        }
    }
    CHECK(found[1] > found[0]);
    CHECK(index.links() == links);
}

// Lists hold, in the order of slots, what was selected when they were made; and they and what is in
// no list hold each row that is selected now, once.
void check_lists(const mrl::Selection& selection) {
    const mrl::SelectedRows& then = *selection.then;
    CHECK(then.list.size() == then.slots.size());
    CHECK(std::is_sorted(then.slots.begin(), then.slots.end()));
    std::vector<std::uint32_t> rows = selection.unlisted();
    if (!selection.is_listed()) {
        CHECK(then.list.empty());
        return;
    }
    std::copy_if(then.list.begin(), then.list.end(), std::back_inserter(rows),
                 [&](std::uint32_t row) { return selection.selects(row); });
    std::sort(rows.begin(), rows.end());
    CHECK(rows.size() == selection.count);
    CHECK(std::adjacent_find(rows.begin(), rows.end()) == rows.end());
    for (const std::uint32_t row : rows) CHECK(selection.selects(row));
}

// A selection that is brought up to date after writes is the one that a look at all keys makes, and
// one that is not told of a key does not select its row.
void check_reselect(std::size_t rows, std::size_t passing_of_ten, bool graph) {
    std::mt19937 random(static_cast<unsigned>(rows + passing_of_ten));
    std::vector<std::int64_t> keys(rows);
    for (std::size_t i = 0; i < rows; ++i) keys[i] = static_cast<std::int64_t>(i);
    std::vector<bool> passes(4 * rows + 400);
    for (std::size_t i = 0; i < passes.size(); ++i) passes[i] = random() % 10 < passing_of_ten;
    std::set<std::int64_t> alive(keys.begin(), keys.end());
    mrl::Index index(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(index, keys, graph);
    const auto passing = [&](const auto& of) {
        std::vector<std::int64_t> chosen;
        for (const std::int64_t key : of) {
            if (passes[static_cast<std::size_t>(key)]) chosen.push_back(key);
        }
        return chosen;
    };
    const auto is_alive = [&](std::int64_t key) { return alive.count(key) != 0; };
    const auto rows_of = [&](const mrl::Selection& selection) {
        std::set<std::int64_t> found;
        index.live(&selection, [&](std::uint32_t row) { found.insert(index.keys().integer(row)); });
        return found;
    };
    mrl::Selection selection = index.select(span(passing(alive)));
    std::int64_t next = static_cast<std::int64_t>(rows), moved = 0;
    int turned = 0;
    for (int round = 0; round < 40; ++round) {
        std::set<std::int64_t> changed;
        for (std::size_t write = random() % 30; write > 0; --write) {
            const auto key = random() % 3 == 0
                                 ? next++ % static_cast<std::int64_t>(passes.size())
                                 : static_cast<std::int64_t>(random() % passes.size());
            changed.insert(key);
            if (random() % 3 == 0) {
                index.erase(span({key}));
                alive.erase(key);
            } else {
                const auto vector = vector_of(random() % 2 == 0 ? key : --moved);
                index.upsert(span({key}), vector.data(), kDims);
                alive.insert(key);
            }
            if (random() % 2 == 0) passes[static_cast<std::size_t>(key)].flip();
        }
        if (round % 7 == 6) index.heal();  // numbers of the dead are free again
        std::vector<std::int64_t> present;
        std::copy_if(changed.begin(), changed.end(), std::back_inserter(present), is_alive);
        const auto now = index.reselect(selection, span({changed.begin(), changed.end()}),
                                        span(passing(present)));
        const mrl::Selection anew = index.select(span(passing(alive)));
        CHECK(now.has_value());
        CHECK(now->count == anew.count && now->of_rows == anew.of_rows);
        for (std::uint32_t row = 0; row < now->of_rows; ++row)
            CHECK(now->selects(row) == anew.selects(row));
        CHECK(rows_of(*now) == rows_of(anew));
        turned += now->turned.size() != 0 ? 1 : 0;
        check_lists(*now);
        const auto untold = index.reselect(selection, span({}), span({}));
        const auto before = rows_of(selection);
        for (const std::int64_t key : rows_of(*untold)) {
            CHECK(changed.count(key) == 0 || before.count(key) != 0);
        }
        selection = std::move(*index.reselect(selection, span({changed.begin(), changed.end()}),
                                              span(passing(present))));
    }
    CHECK(turned > 0 || rows < 300 || passing_of_ten % 10 == 0);
}

// There are lists while few rows are selected: up to a half where there were, from an eighth where
// there were none.
void check_lists_come_and_go() {
    constexpr std::int64_t kRows = 800;
    std::vector<std::int64_t> keys(kRows);
    for (std::int64_t i = 0; i < kRows; ++i) keys[static_cast<std::size_t>(i)] = i;
    mrl::Index index(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(index, keys, false);
    mrl::Selection selection = index.select(span({}));
    CHECK(selection.is_listed());
    const auto judge = [&](std::int64_t key, bool passes, std::size_t count, bool listed) {
        const std::vector<std::int64_t> changed{key}, passing(passes ? 1 : 0, key);
        selection = std::move(*index.reselect(selection, span(changed), span(passing)));
        CHECK(selection.count == count && selection.is_listed() == listed);
        check_lists(selection);
    };
    for (std::int64_t i = 0; i < kRows; ++i)
        judge(i, true, static_cast<std::size_t>(i) + 1, i + 1 < kRows / 2);
    for (std::int64_t i = kRows; i-- > 0;)
        judge(i, false, static_cast<std::size_t>(i), i < kRows / 8);
}

// The same rows and options give the same graph, whatever the number of threads.
void check_same_graph(std::size_t rows) {
    std::vector<std::int64_t> keys(rows);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::int64_t>(i);
    std::vector<std::vector<std::uint32_t>> built;
    for (const std::size_t threads : {1u, 2u, 3u}) {
        mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, false);
        const auto vectors = vectors_of(keys);
        index.append(span(keys), vectors.data(), kDims, threads);
        const std::vector<float> mean(kDims, 0.0f);
        index.set_projection(projection().data(), mean.data());
        mrl::BuildOptions options;
        options.threads = threads;
        index.build(options, {});
        std::vector<std::int64_t> more(500);
        for (std::size_t i = 0; i < more.size(); ++i)
            more[i] = static_cast<std::int64_t>(keys.size() + i);
        const auto later = vectors_of(more);
        index.upsert(span(more), later.data(), kDims);
        CHECK(index.link_waiting(1000, threads) == more.size());
        built.push_back(index.links());
    }
    CHECK(built[0] == built[1] && built[0] == built[2]);
}

void check_threads(double seconds) {
    constexpr std::int64_t kKeys = 3000;
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    // When each key was first written, and when its last writing and its last deletion began and
    // ended, on one clock. An answer may not hold a key before its first writing began, nor one
    // whose deletion had ended when the search began, unless a writing ended after that deletion
    // had begun, or goes on.
    struct Life {
        std::atomic<std::uint64_t> first{0}, write_begin{0}, write_end{0}, erase_begin{0},
            erase_end{0};
    };
    std::vector<Life> lives(2 * kKeys);
    std::atomic<std::uint64_t> clock{1};
    std::vector<std::int64_t> first(kKeys);
    for (std::int64_t i = 0; i < kKeys; ++i) {
        first[static_cast<std::size_t>(i)] = i;
        lives[static_cast<std::size_t>(i)].first = 1;
    }
    load(index, first, true);
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> searches{0}, inserts{0}, deletes{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            while (!stop) {
                const std::uint64_t began = clock++;
                std::vector<std::int64_t> asked{static_cast<std::int64_t>(random() % 1000000),
                                                static_cast<std::int64_t>(random() % 1000000)};
                const auto queries = vectors_of(asked);
                std::optional<mrl::Selection> selection;
                if (t == 3) {
                    std::vector<std::int64_t> even;
                    for (std::int64_t key = 0; key < 2 * kKeys; key += 2) even.push_back(key);
                    selection = index.select(span(even));
                }
                const auto answers = search(index, queries, graph_plan(40, 10),
                                            selection ? &*selection : nullptr, 1 + t % 2);
                const std::uint64_t ended = clock++;
                for (std::size_t q = 0; q < 2; ++q) {
                    CHECK(answers[q].keys.size() == 10);
                    for (std::size_t i = 0; i < 10; ++i) {
                        const auto key = static_cast<std::size_t>(answers[q].keys[i]);
                        const Life& life = lives[key];
                        CHECK(life.first != 0 && life.first <= ended);
                        const std::uint64_t erase_begin = life.erase_begin,
                                            erase_end = life.erase_end;
                        const bool erased = erase_begin < erase_end && erase_end < began;
                        const bool writing = life.write_begin > life.write_end;
                        CHECK(!erased || writing || life.write_end > erase_begin ||
                              life.erase_begin != erase_begin);
                        CHECK(t != 3 || key % 2 == 0);
                        CHECK(std::fabs(answers[q].distances[i] -
                                        distance(mrl::Metric::cosine, queries.data() + q * kDims,
                                                 vector_of(answers[q].keys[i]).data())) < 1e-4);
                    }
                }
                ++searches;
            }
        });
    }
    threads.emplace_back([&] {
        std::mt19937 random(77);
        while (!stop) {
            const auto key = static_cast<std::int64_t>(random() % (2 * kKeys));
            Life& life = lives[static_cast<std::size_t>(key)];
            std::uint64_t unborn = 0;
            life.first.compare_exchange_strong(unborn, clock.load());
            life.write_begin = clock++;
            index.upsert(span({key}), vector_of(key).data(), kDims);
            life.write_end = clock++;
            ++inserts;
        }
    });
    threads.emplace_back([&] {
        std::mt19937 random(78);
        while (!stop) {
            const auto key = static_cast<std::int64_t>(random() % (2 * kKeys));
            if (index.live_rows() < kKeys / 2) continue;
            Life& life = lives[static_cast<std::size_t>(key)];
            life.erase_begin = clock++;
            index.erase(span({key}));
            life.erase_end = clock++;
            ++deletes;
        }
    });
    threads.emplace_back([&] {
        while (!stop) {
            if (index.link_waiting(128, 2) == 0) std::this_thread::yield();
        }
    });
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    for (auto& thread : threads) thread.join();
    std::printf("%llu searches beside %llu inserts and %llu deletes: every answer valid\n",
                static_cast<unsigned long long>(searches), static_cast<unsigned long long>(inserts),
                static_cast<unsigned long long>(deletes));
    CHECK(searches > 0 && inserts > 0 && deletes > 0);
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 2.0;
    const std::size_t most_rows = argc > 2 ? static_cast<std::size_t>(std::atoi(argv[2])) : 700;
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
        for (const std::size_t rows :
             {std::size_t{0}, std::size_t{1}, std::size_t{17}, most_rows}) {
            check_life(metric, true, rows);
            check_life(metric, false, rows);
        }
    }
    for (const std::size_t passing_of_ten : {0u, 1u, 2u, 3u, 5u, 10u}) {
        for (const std::size_t rows : {0u, 5u, 300u, 3000u}) {
            check_reselect(rows, passing_of_ten, true);
            check_reselect(rows, passing_of_ten, false);
        }
    }
    check_lists_come_and_go();
    check_hidden_rows();
    check_same_graph(4 * most_rows);
    check_threads(seconds);
    std::printf("index: metrics, routes, growth, deletion, threads\n");
}
