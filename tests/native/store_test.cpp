// What is kept: keys against a map, and arrays that grow while others read them.
#include "store/store.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "small_index.hpp"
#include "store/store_file.hpp"
#include "system/random.hpp"

namespace {

using namespace small;

// A row takes the number of one that went, as in a store.
void check_keys(mrl::KeyType type, std::size_t most, unsigned seed) {
    std::mt19937 random(seed);
    const auto some_key = [&] {
        std::string key(mrl::key_bytes(type), '\0');
        if (type == mrl::KeyType::text) key.resize(random() % 30);
        const std::uint64_t number = random() % most;
        for (std::size_t i = 0; i < key.size(); ++i)
            key[i] = static_cast<char>(number >> (8 * (i % 4)));
        return key;
    };
    mrl::Keys keys(type);
    std::map<std::string, std::uint32_t> expected;
    std::vector<std::uint32_t> free;
    std::uint32_t rows = 0;
    for (std::size_t step = 0; step < 20 * most; ++step) {
        const std::string key = some_key();
        const auto there = expected.find(key);
        CHECK(keys.find(key) == (there == expected.end() ? mrl::Keys::kNone : there->second));
        if (there != expected.end() && random() % 2 == 0) {
            keys.erase(there->second);
            free.push_back(there->second);
            expected.erase(there);
        } else if (there == expected.end()) {
            std::uint32_t row = rows;
            if (!free.empty()) {
                row = free.back();
                free.pop_back();
            }
            rows = std::max(rows, row + 1);
            if (random() % 2 == 0)
                keys.make_room(rows, {}, 1 + random() % 9, mrl::Growth::in_place);
            CHECK(keys.find(key) == mrl::Keys::kNone);
            keys.make_room(rows, key, 1, mrl::Growth::moves);
            keys.set(row, key);
            expected.emplace(key, row);
        }
        if (keys.is_wasteful()) {
            auto texts = keys.texts_in_use();
            keys.swap_texts(texts);
            CHECK(!keys.is_wasteful());
        }
    }
    for (const auto& [key, row] : expected) CHECK(keys.find(key) == row && keys.at(row) == key);
    // Of the table four bytes a place, of which three quarters were full before it was doubled.
    const std::size_t of_table = std::max<std::size_t>(64, 8 * (most + 9) / 3) * 4;
    if (type != mrl::KeyType::text)
        CHECK(keys.bytes() <= 2 * most * mrl::key_bytes(type) + of_table + 256);
}

// Writing the same keys over and over takes no more and more bytes.
void check_text_bytes(bool graph) {
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::text, true);
    std::string text;
    std::vector<std::int64_t> offsets{0};
    for (int i = 0; i < 100; ++i) {
        text += "a key of some thirty bytes, number " + std::to_string(i);
        offsets.push_back(static_cast<std::int64_t>(text.size()));
    }
    const mrl::KeySpan keys{mrl::KeyType::text, reinterpret_cast<const unsigned char*>(text.data()),
                            offsets.data(), 100};
    std::vector<std::int64_t> numbers(100);
    for (std::size_t i = 0; i < 100; ++i) numbers[i] = static_cast<std::int64_t>(i);
    load(index, keys, vectors_of(numbers), graph);
    std::size_t before = 0;
    for (int round = 0; round < 120; ++round) {
        for (auto& number : numbers) number += 100;
        index.upsert(keys, vectors_of(numbers).data(), kDims);
        index.link_waiting(1000, 1);
        if (round == 20) before = index.bytes();
    }
    CHECK(index.live_rows() == 100);
    CHECK(index.bytes() < before + 250'000);  // 10,000 times 37 bytes were 370,000
    for (std::size_t i = 0; i < 100; ++i) CHECK(index.keys().find(keys.at(i)) != mrl::Keys::kNone);
}

std::vector<const void*> places_of(mrl::Store& store) {
    return {store.rows.vector(0), store.rows.codes(), store.lines.high(), store.lines.low(),
            store.links.of(0)};
}

// Rows that come one after another: no array that is large moves, and none changes while `prepare`
// makes room beside readers.
void check_growth(mrl::Store& store) {
    const auto before = places_of(store);
    const std::size_t rows = store.rows.size(), bytes = store.bytes();
    std::vector<float> vector = vector_of(1);
    for (std::size_t i = 0; i < rows; ++i) {
        const auto key = static_cast<std::int64_t>(rows + i);
        const std::size_t was = store.bytes();
        store.prepare(1, mrl::Growth::in_place);  // small arrays say that they will move
        CHECK(places_of(store) == before && store.rows.size() == rows + i && store.bytes() == was);
        vector[0] = static_cast<float>(i);
        store.put(span({key}).at(0), vector.data());
        CHECK(places_of(store) == before);
    }
    CHECK(store.rows.size() == 2 * rows && store.live == 2 * rows);
    CHECK(store.bytes() < 2 * bytes + bytes / 10);
    CHECK(store.rows.vector(2 * rows - 1)[0] == static_cast<float>(rows - 1));
}

long faults() {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

// Whether pages can be taken before they are written to: not by an older system, not under qemu.
bool takes_pages() {
#if defined(MADV_POPULATE_WRITE)
    constexpr std::size_t kPages = 256, kPage = 4096;
    void* mapped =
        mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    madvise(mapped, kPages * kPage, MADV_NOHUGEPAGE);
    madvise(mapped, kPages * kPage, MADV_POPULATE_WRITE);
    const auto before = faults();
    for (std::size_t i = 0; i < kPages; ++i) static_cast<volatile char*>(mapped)[i * kPage] = 1;
    const auto taken = faults() - before;
    munmap(mapped, kPages * kPage);
    return taken < static_cast<long>(kPages) / 2;
#else
    return false;
#endif
}

// Links of a file are written to without a fault each: the pages were taken before.
void check_own_pages(mrl::Store& store) {
    const std::uint32_t to = 7;
    for (std::uint32_t slot = 0; slot < 20'000; slot += 32) store.links.own(slot);  // 4 KiB apart
    CHECK(store.links.degree(0) == 0);
    const auto before = faults();
    for (std::uint32_t slot = 0; slot < 20'000; slot += 32) store.links.set(slot, &to, 1);
    const auto written = faults() - before;
    CHECK(!takes_pages() || written < 100);  // of 625
    CHECK(store.links.degree(32) == 1 && store.links.of(32)[0] == to);
}

// As it was loaded, and as a file that is mapped.
void check_growth(const std::string& path) {
    constexpr std::size_t kRows = 40'000;
    std::vector<std::int64_t> keys(kRows);
    for (std::size_t i = 0; i < kRows; ++i) keys[i] = static_cast<std::int64_t>(i);
    const auto few = vectors_of({1, 2, 3, 4, 5, 6, 7, 8});
    std::vector<float> vectors;
    for (std::size_t i = 0; i < kRows / 8; ++i) {
        vectors.insert(vectors.end(), few.begin(), few.end());
    }
    mrl::Store store(mrl::Metric::l2, kDims, mrl::KeyType::int64, true);
    store.append(span(keys), vectors.data(), kDims, 2);
    const std::vector<float> mean(kDims, 0.0f);
    store.projection.emplace(store.metric(), kDims, projection().data(), mean.data());
    store.add_line_codes(2);
    store.links.resize(kRows);
    store.has_graph = true;
    mrl::save_store(store, path, "", 2);
    check_growth(store);
    std::string about;
    mrl::Store mapped = mrl::open_store(path, about, 2);
    check_own_pages(mapped);
    check_growth(mapped);
    ::unlink(path.c_str());
}

// Addresses for many times as much, or for fewer where the process may not have so many.
void check_addresses() {
    constexpr std::size_t kBytes = 160 * mrl::kHugePage;
    CHECK(mrl::Reserved(kBytes).holds(50 * kBytes));
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    struct rlimit few = before;
    few.rlim_cur = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + 8 * kBytes;
    CHECK(pages == 0 || setrlimit(RLIMIT_AS, &few) == 0);
    const mrl::Reserved fewer(kBytes);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    CHECK(fewer.holds(4 * kBytes));
}

// The same numbers whatever the compiler and its standard library.
void check_draws() {
    std::mt19937_64 random(7);
    CHECK((mrl::draw_distinct(1000, 8, random) ==
           std::vector<std::uint32_t>{15, 493, 548, 495, 113, 683, 13, 167}));
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; ++i) {
        const double value = mrl::draw_normal(random);
        sum += value;
        squares += value * value;
    }
    CHECK(std::abs(sum) < 1000 && std::abs(squares - 1e5) < 1500);
    CHECK(mrl::draw_normal(random) == -0.826926768f);

    std::vector<std::uint32_t> all = mrl::draw_distinct(50, 60, random);
    CHECK(!std::is_sorted(all.begin(), all.end()));
    std::sort(all.begin(), all.end());
    for (std::uint32_t i = 0; i < 50; ++i) CHECK(all.at(i) == i);
    CHECK(all.size() == 50);
}

}  // namespace

int main() {
    const std::string path = "store_test." + std::to_string(getpid()) + ".mrl";
    for (unsigned seed = 0; seed < 4; ++seed) {
        for (const auto type :
             {mrl::KeyType::int32, mrl::KeyType::int64, mrl::KeyType::uuid, mrl::KeyType::text}) {
            check_keys(type, 10, seed);
            check_keys(type, 3000, seed);
        }
    }
    check_text_bytes(true);
    check_text_bytes(false);
    check_growth(path);
    check_addresses();
    check_draws();
    std::printf("store: keys, growth, draws\n");
}
