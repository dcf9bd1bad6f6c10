// Searches beside writes: who waits for whom, and what an answer is of (run this one under TSan:
// make threads).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <random>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "graph/link.hpp"
#include "index/index.hpp"
#include "small_index.hpp"
#include "system/fair_lock.hpp"

namespace {

using namespace small;

void wait_until(const auto& condition) {
    while (!condition()) std::this_thread::yield();
}

// Whoever comes while others wait is let in after them, by turns.
void check_turns() {
    mrl::FairLock lock;
    std::mutex writing;
    std::string order;
    const auto note = [&](char who) {
        const std::lock_guard hold(writing);
        order += who;
    };
    std::vector<std::thread> threads;
    const auto add = [&](char who) {
        const auto before = lock.waiting();
        threads.emplace_back([&, who] {
            if (who == 'r') {
                const std::shared_lock hold(lock);
                note(who);
            } else {
                const std::unique_lock hold(lock);
                note(who);
            }
        });
        wait_until([&] { return lock.waiting() != before; });
    };
    lock.lock_shared();
    CHECK(!lock.is_wanted());
    add('1');
    CHECK(lock.is_wanted());
    for (const char who : {'r', 'r', '2', 'r', '3'}) add(who);
    CHECK(order.empty());
    lock.unlock_shared();
    for (std::thread& thread : threads) thread.join();
    CHECK(order.size() == 6 && order.substr(1, 3) == "rrr");  // all readers after the first writer
    CHECK(!lock.is_wanted());
    threads.clear();

    lock.lock();
    for (const char who : {'1', 'r', '2', 'r'}) add(who);
    lock.unlock();
    for (std::thread& thread : threads) thread.join();
    CHECK(order.substr(6, 2) == "rr");
}

std::vector<std::int64_t> first_keys(std::size_t n) {
    std::vector<std::int64_t> keys(n);
    for (std::size_t i = 0; i < n; ++i) keys[i] = static_cast<std::int64_t>(i);
    return keys;
}

// A row that is written while a batch is searched is there before the batch ends.
void check_batch_gives_way(const mrl::Plan& plan, std::size_t queries) {
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(3000), true);
    const std::vector<float> batch = vectors_of(first_keys(queries));
    std::atomic<std::size_t> answered{0}, answered_then{0};
    std::thread writer;
    mrl::StageCounts counts{};
    index.search(batch.data(), queries, {.plan = plan}, counts,
                 [&](std::size_t, const mrl::RowHit*, std::size_t) {
                     if (answered++ != 0) return;
                     writer = std::thread([&] {
                         index.upsert(span({5000}), vector_of(5000).data(), kDims);
                         answered_then = answered.load();
                     });
                 });
    writer.join();
    CHECK(answered == queries && answered_then < queries);
}

mrl::Plan flat_plan(mrl::Space space, std::size_t dims, mrl::Precision precision, std::size_t n) {
    return {.route = mrl::Route::flat,
            .effort = 0,
            .stages = {{space, dims, precision, n},
                       {mrl::Space::prefix, kDims, mrl::Precision::float32, n}}};
}

// A writer that waits when a search begins has its turn within the search, and the answer is of the
// moment after it: without the rows that went, and with those that came, behind the others or in a
// dead one's place. No clock decides: a search passes a writer that sleeps, until it gives way.
void check_gives_way_within(const mrl::Plan& plan, std::size_t queries, bool torn = false) {
    constexpr std::size_t kRows = 1500, kGone = 10, kReplaced = 1400;
    const auto near = [](float step) {
        auto vector = vector_of(-1);
        vector[0] += step;
        return vector;
    };
    auto vectors = vectors_of(first_keys(kRows));
    std::copy_n(near(0.1f).begin(), kDims, vectors.begin() + kGone * kDims);
    std::copy_n(near(0.2f).begin(), kDims, vectors.begin() + kReplaced * kDims);
    mrl::Store store(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(store, first_keys(kRows), vectors, false);
    if (torn) make_torn_graph(store);
    const auto batch = vectors_of(std::vector<std::int64_t>(queries, -1));

    mrl::FairLock lock(std::uint64_t{1} << 62);
    mrl::ScratchPool scratches;
    bool written = false;
    std::atomic<bool> ended{false};
    lock.lock_shared();
    std::thread writer([&] {
        const std::unique_lock hold(lock);
        put(store, 5001, near(0.01f).data());
        store.remove(kGone);
        store.remove(kReplaced);
        put(store, 5002, near(0.02f).data());
        written = true;
    });
    wait_until([&] { return lock.asleep() == 1; });
    std::thread searcher([&] {
        mrl::StageCounts counts{};
        mrl::search(store, batch.data(), queries, {.plan = plan}, lock, scratches, counts,
                    [&](std::size_t, const mrl::RowHit* hits, std::size_t n) {
                        CHECK(written);
                        CHECK(n == plan.stages.back().keep);
                        const auto key = [&](std::size_t i) {
                            return store.keys.integer(hits[i].row);
                        };
                        CHECK(key(0) == 5001 && key(1) == 5002);
                        for (std::size_t i = 2; i < n; ++i)
                            CHECK(key(i) != kGone && key(i) < static_cast<std::int64_t>(kRows));
                        for (std::size_t i = 1; i < n; ++i) CHECK(key(i - 1) != key(i));
                    });
        ended = true;
    });
    wait_until([&] { return ended || lock.waiting() == 2; });
    lock.unlock_shared();
    writer.join();
    searcher.join();
}

// Readers do not wait for a writer that has no core; it has its turn all the same.
void check_passing() {
    mrl::FairLock lock(std::uint64_t{1} << 62);  // nanoseconds
    std::atomic<bool> written{false};
    lock.lock_shared();
    std::thread writer([&] {
        const std::unique_lock hold(lock);
        written = true;
    });
    wait_until([&] { return lock.asleep() == 1; });
    for (int i = 0; i < 1000; ++i) {
        lock.lock_shared();
        lock.unlock_shared();
    }
    CHECK(lock.is_wanted() && !written);
    lock.unlock_shared();
    writer.join();
    CHECK(written && !lock.is_wanted() && lock.waiting() == 0);
    lock.lock_shared();  // nobody is counted any more
    lock.unlock_shared();
}

// A new row waits for no search, nor a search for it: it is put in the middle of one.
void check_append_in_a_search(bool graph) {
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(3000), graph);
    index.upsert(span({5000}), vector_of(5000).data(), kDims);  // arrays get room
    const auto before = index.sections();
    const auto query = vector_of(5001);
    const mrl::Plan plan = graph ? graph_plan(50, 5) : flat_plan(mrl::Space::prefix, 16, int8, 5);
    mrl::StageCounts counts{};
    index.search(query.data(), 1, {.plan = plan}, counts,
                 [&](std::size_t, const mrl::RowHit* hits, std::size_t n) {
                     index.upsert(span({5001}), query.data(), kDims);
                     CHECK(n == 5 && index.keys().integer(hits[0].row) != 5001);
                 });
    CHECK(search(index, query, plan)[0].keys[0] == 5001);
    const auto after = index.sections();
    CHECK(after.appended.times == before.appended.times + 1);
    CHECK(after.put.times + after.put_moving.times == before.put.times + before.put_moving.times);
}

// How much is changed while searches wait: never more than a few rows, or the links of a batch.
void check_sections() {
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(2000), true);
    std::vector<std::int64_t> more(1000);
    for (std::size_t i = 0; i < more.size(); ++i) more[i] = static_cast<std::int64_t>(1500 + i);
    index.upsert(span(more), vectors_of(more).data(), kDims);  // none of the first 500 changes
    index.link_waiting(more.size(), 2);
    index.upsert(span(more), vectors_of(first_keys(1000)).data(), kDims);
    index.link_waiting(more.size(), 2);
    index.heal();
    const mrl::Sections sections = index.sections();
    CHECK(sections.appended.times > 0 && sections.appended.most == 1);
    CHECK(sections.put.times > 0 && sections.put.most <= 32);
    CHECK(sections.put_moving.most <= 32);
    CHECK(sections.linked.times > 0);
    CHECK(sections.linked.most <= mrl::kTogether * (1 + mrl::kDegree));
    CHECK(sections.mended.times > 0 && sections.mended.most <= 512);
    CHECK(sections.buried.times > 0 && sections.buried.most <= 512);
}

// Rows that come one after another, beside searches of all of them: each answer is the first so
// many, no fewer than were there when it was asked for, and no more than when it came.
void check_appended_in_order(double seconds, bool graph) {
    constexpr std::size_t kRows = 1000, kAll = 1'000'000;
    mrl::Index index(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(kRows), graph);
    constexpr auto prefix = mrl::Space::prefix, projection = mrl::Space::projection;
    const std::vector<mrl::Plan> plans{
        flat_plan(prefix, 16, int8, kAll), flat_plan(prefix, kDims, bit, kAll),
        flat_plan(projection, kDims, int4, kAll), flat_plan(projection, kDims, int8, kAll)};
    std::atomic<bool> stop{false};
    std::atomic<std::size_t> began{kRows}, written{kRows}, searches{0};
    std::thread writer([&] {
        while (!stop) {
            if (written > kRows + 100 * (searches + 1)) {  // not so many that each takes long
                std::this_thread::yield();
                continue;
            }
            const auto key = static_cast<std::int64_t>(began++);
            index.upsert(span({key}), vector_of(key).data(), kDims);
            ++written;
        }
    });
    std::thread linker([&] {
        while (graph && !stop) index.link_waiting(64, 1);
    });
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(
                                               std::chrono::duration<double>(seconds));
    for (; searches < 20 || std::chrono::steady_clock::now() < end; ++searches) {
        const std::size_t least = written;
        const auto newest = static_cast<std::int64_t>(least - 1);
        const std::size_t n = searches % 2 == 0 ? 1 : 9;  // the second by tiles
        const auto queries = vectors_of(std::vector<std::int64_t>(n, newest));
        const mrl::Plan& plan = plans[searches / 2 % plans.size()];
        for (const Answer& answer : search(index, queries, plan)) {
            const std::size_t count = answer.keys.size();
            CHECK(least <= count && count <= began);
            const std::set<std::int64_t> keys(answer.keys.begin(), answer.keys.end());
            CHECK(keys.size() == count && *keys.begin() == 0);
            CHECK(*keys.rbegin() == static_cast<std::int64_t>(count - 1));
        }
        if (graph) CHECK(search(index, queries, graph_plan(200, 3))[0].keys[0] == newest);
        const mrl::Selection all = index.select(span(first_keys(least)));
        CHECK(all.count == least);
        CHECK(search(index, queries, plan, &all)[0].keys.size() == least);
    }
    stop = true;
    writer.join();
    linker.join();
    std::printf("%zu searches beside %zu rows that came\n", searches.load(), written - kRows);
    CHECK(written > kRows);
}

// Rows are written while links are looked for, many in the time that a few of them take.
void check_writes_beside_linking() {
    constexpr std::size_t kLinked = 10 * mrl::kTogether;
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(6000), true);
    std::vector<std::int64_t> more(kLinked);
    for (std::size_t i = 0; i < kLinked; ++i) more[i] = static_cast<std::int64_t>(10'000 + i);
    index.upsert(span(more), vectors_of(more).data(), kDims);
    std::atomic<bool> linked{false};
    std::thread linker([&] {
        index.link_waiting(kLinked, 1);
        linked = true;
    });
    std::size_t writes = 0;
    const auto vector = vector_of(1);
    while (!linked)
        index.upsert(span({static_cast<std::int64_t>(20'000 + writes++)}), vector.data(), kDims);
    linker.join();
    CHECK(writes > 3 * kLinked / mrl::kTogether);  // one at a time between two of its steps were 10
    CHECK(index.waiting() == writes);
}

// Each answer is of one moment: rows that are replaced, and whose numbers go to others, are in it
// once, whatever it was that looked at all rows meanwhile.
void check_moments(double seconds, bool graph) {
    constexpr auto prefix = mrl::Space::prefix, projection = mrl::Space::projection;
    constexpr std::size_t kRows = 3000, kAll = 4 * kRows;
    mrl::Index index(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    load(index, first_keys(kRows), graph);
    const std::vector<mrl::Plan> plans{
        {.route = mrl::Route::flat, .effort = 0, .stages = {{prefix, kDims, float32, kAll}}},
        flat_plan(prefix, 16, int8, kAll),
        flat_plan(prefix, 8, float32, kAll),
        flat_plan(prefix, kDims, bit, kAll),
        flat_plan(projection, kDims, int4, kAll),
        flat_plan(projection, kDims, int8, kAll)};
    std::vector<std::int64_t> even;
    for (std::size_t key = 0; key < kRows; key += 2) even.push_back(static_cast<std::int64_t>(key));
    std::atomic<bool> stop{false};
    std::atomic<std::size_t> searches{0}, writes{0}, round{0};
    std::thread writer([&] {
        std::mt19937 random(1);
        while (!stop) {
            const auto key = static_cast<std::int64_t>(random() % kRows);
            const auto vector = vector_of(static_cast<std::int64_t>(kRows * ++round) + key);
            index.upsert(span({key}), vector.data(), kDims);
            ++writes;
            while (graph && index.waiting() > 1000) std::this_thread::yield();
        }
    });
    std::thread linker([&] {  // which heals, too
        while (graph && !stop) {
            if (index.is_behind()) index.link_waiting(64, 2);
        }
    });
    std::vector<std::thread> readers;
    for (unsigned t = 0; t < 2; ++t) {
        readers.emplace_back([&, t] {
            std::mt19937 random(t);
            mrl::Selection renewed = index.select(span(even));
            while (!stop) {
                const std::size_t n = t == 0 ? 1 : 16;  // by tiles, where that can be
                const auto queries = vectors_of(first_keys(n));
                const auto answers = search(index, queries, plans[random() % plans.size()]);
                for (const Answer& answer : answers) {
                    CHECK(answer.keys.size() == kRows);
                    CHECK(std::set<std::int64_t>(answer.keys.begin(), answer.keys.end()).size() ==
                          kRows);
                    CHECK(std::is_sorted(answer.distances.begin(), answer.distances.end()));
                }
                ++searches;
                const mrl::Selection selection = index.select(span(even));
                for (const Answer& answer : search(index, queries, plans[1], &selection)) {
                    for (const std::int64_t key : answer.keys) CHECK(key % 2 == 0);
                }
                // All keys are judged: whatever was written meanwhile, no odd one is selected.
                auto judged = index.reselect(renewed, span(first_keys(kRows)), span(even));
                renewed = judged ? std::move(*judged) : index.select(span(even));
                for (const Answer& answer : search(index, queries, plans[1], &renewed)) {
                    for (const std::int64_t key : answer.keys) CHECK(key % 2 == 0);
                }
            }
        });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    writer.join();
    linker.join();
    for (std::thread& reader : readers) reader.join();
    std::printf("%zu searches of all rows beside %zu writes: each as of one moment\n",
                searches.load(), writes.load());
    CHECK(searches > 0 && writes > 0);
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
    constexpr auto prefix = mrl::Space::prefix, projection = mrl::Space::projection;
    check_turns();
    for (const std::size_t queries : {1, 20}) {  // the second by tiles, where that can be
        check_gives_way_within({mrl::Route::flat, 0, {{prefix, kDims, float32, 10}}}, queries);
        check_gives_way_within(flat_plan(prefix, 16, int8, 10), queries);
        check_gives_way_within(flat_plan(prefix, kDims, bit, 10), queries);
        check_gives_way_within(flat_plan(projection, kDims, int4, 10), queries);
        check_gives_way_within(flat_plan(projection, kDims, int8, 10), queries);
        check_gives_way_within(graph_plan(50, 10), queries, true);
    }
    check_batch_gives_way(graph_plan(200, 10), 3000);
    check_batch_gives_way(flat_plan(mrl::Space::projection, kDims, mrl::Precision::int8, 10), 3000);
    check_writes_beside_linking();
    check_passing();
    check_append_in_a_search(true);
    check_append_in_a_search(false);
    check_sections();
    check_appended_in_order(seconds, true);
    check_appended_in_order(seconds, false);
    check_moments(seconds, true);
    check_moments(seconds, false);
    std::printf("beside: turns, batches, moments\n");
}
