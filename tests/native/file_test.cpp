// The index as a file: it answers as it did, beside others that map it, through changes; and no
// damaged file is taken for a good one.
//
//   file_test [ROUNDS [SEED]]    of damage
#include "store/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <string>

#include "check.hpp"
#include "small_index.hpp"
#include "store/store_file.hpp"

namespace {

using namespace small;

std::vector<std::uint8_t> content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void overwrite(const std::string& path, const std::vector<std::uint8_t>& bytes) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 &&
          ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    ::close(file);
}

// The same for a file that holds `before`: only the pages that differ.
void change(const std::string& path, const std::vector<std::uint8_t>& before,
            const std::vector<std::uint8_t>& bytes) {
    const int file = ::open(path.c_str(), O_WRONLY);
    CHECK(file >= 0 && ::ftruncate(file, static_cast<off_t>(bytes.size())) == 0);
    for (std::size_t at = 0; at < bytes.size(); at += 4096) {
        const std::size_t size = std::min<std::size_t>(4096, bytes.size() - at);
        if (at + size <= before.size() &&
            std::memcmp(before.data() + at, bytes.data() + at, size) == 0)
            continue;
        CHECK(::pwrite(file, bytes.data() + at, size, static_cast<off_t>(at)) ==
              static_cast<ssize_t>(size));
    }
    ::close(file);
}

bool same(const std::vector<Answer>& a, const std::vector<Answer>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i].keys != b[i].keys || a[i].distances != b[i].distances) return false;
    }
    return a.size() == b.size();
}

mrl::Plan flat_plan(mrl::Precision precision, std::size_t dims) {
    return {mrl::Route::flat,
            1,
            {{mrl::Space::prefix, dims, precision, 40},
             {mrl::Space::prefix, kDims, mrl::Precision::float32, 10}}};
}

// Saved after a life of changes, opened twice: both answer as the saved one, changes of one are its
// own, and the file stays as it was.
void check_round_trip(const std::string& path, mrl::Metric metric, bool graph, std::size_t rows) {
    std::vector<std::int64_t> keys(rows), later(rows / 3), gone(rows / 4);
    std::iota(keys.begin(), keys.end(), 0);
    std::iota(later.begin(), later.end(), static_cast<std::int64_t>(rows));
    std::iota(gone.begin(), gone.end(), 5);
    mrl::Index index(metric, kDims, mrl::KeyType::int64, true);
    load(index, keys, graph);
    index.erase(span(gone));
    index.upsert(span(later), vectors_of(later).data(), kDims);
    index.link_waiting(rows / 8, 2);
    index.save(path, "{\"about\": \"this\"}");
    const auto before = content(path);

    const auto queries = vectors_of({1'000'001, 1'000'002, 3, 4});
    std::vector<mrl::Plan> plans{flat_plan(mrl::Precision::int8, 16),
                                 flat_plan(mrl::Precision::bit, kDims)};
    for (const auto precision : {mrl::Precision::int8, mrl::Precision::bit}) {
        plans.push_back(flat_plan(precision, kDims));
        plans.back().stages[0].space = mrl::Space::projection;
    }
    if (graph) plans.push_back(graph_plan(50, 10));
    std::string about, other_about;
    const auto one = mrl::Index::open(path, about), other = mrl::Index::open(path, other_about);
    CHECK(about == "{\"about\": \"this\"}" && other_about == about);
    CHECK(one->live_rows() == index.live_rows() && one->waiting() == index.waiting());
    for (const mrl::Plan& plan : plans)
        CHECK(same(search(index, queries, plan), search(*one, queries, plan)));
    // The same changes to both of them give the same answers; a third one, which stays as it was
    // saved, answers as before.
    std::vector<std::int64_t> more(rows + 10);
    std::iota(more.begin(), more.end(), static_cast<std::int64_t>(10 * rows));
    for (mrl::Index* changed : {&index, one.get()}) {
        changed->erase(span(later));
        changed->upsert(span(more), vectors_of(more).data(), kDims);
        changed->link_waiting(4 * rows, 2);
        changed->heal();
    }
    std::vector<std::vector<Answer>> then;
    for (const mrl::Plan& plan : plans) {
        CHECK(same(search(index, queries, plan), search(*one, queries, plan)));
        then.push_back(search(*other, queries, plan));
    }
    CHECK(content(path) == before);
    const auto third = mrl::Index::open(path, about);
    for (std::size_t i = 0; i < plans.size(); ++i)
        CHECK(same(then[i], search(*third, queries, plans[i])));
    one->save(path, "again");  // a file is replaced while others have it mapped
    for (std::size_t i = 0; i < plans.size(); ++i)
        CHECK(same(then[i], search(*third, queries, plans[i])));
    const auto fourth = mrl::Index::open(path, about);
    CHECK(about == "again");
    for (const mrl::Plan& plan : plans)
        CHECK(same(search(*one, queries, plan), search(*fourth, queries, plan)));
}

// Text keys, no vectors, and large arrays, which are mapped and grow.
void check_mapped(const std::string& path) {
    constexpr std::size_t kRows = 30'000;
    std::string names;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int64_t> numbers(kRows);
    std::iota(numbers.begin(), numbers.end(), 0);
    for (std::size_t i = 0; i < kRows; ++i) {
        names += "name " + std::to_string(i);
        offsets.push_back(static_cast<std::int64_t>(names.size()));
    }
    const mrl::KeySpan keys{mrl::KeyType::text,
                            reinterpret_cast<const unsigned char*>(names.data()), offsets.data(),
                            kRows};
    mrl::Index index(mrl::Metric::l2, kDims, mrl::KeyType::text, true);
    const auto vectors = vectors_of(numbers);
    index.append(keys, vectors.data(), kDims, 2);
    index.save(path, "");
    std::string about;
    const auto mapped = mrl::Index::open(path, about);
    CHECK(mapped->bytes() <= index.bytes());
    for (mrl::Index* changed : {&index, mapped.get()}) {
        const mrl::KeySpan first{mrl::KeyType::text, keys.bytes, offsets.data(), 3};
        CHECK(changed->erase(first) == 3);
        changed->upsert(first, vectors.data() + 7 * kDims, kDims);
        for (int round = 0; round < 3; ++round) {  // beyond the room that was reserved
            std::string more;
            std::vector<std::int64_t> ends{0};
            for (std::size_t i = 0; i < kRows; ++i) {
                more += "more " + std::to_string(round) + " " + std::to_string(i);
                ends.push_back(static_cast<std::int64_t>(more.size()));
            }
            changed->append(
                {mrl::KeyType::text, reinterpret_cast<const unsigned char*>(more.data()),
                 ends.data(), kRows},
                vectors.data(), kDims, 2);
        }
    }
    CHECK(index.live_rows() == mapped->live_rows());
    const mrl::Plan exact{
        mrl::Route::flat, 1, {{mrl::Space::prefix, kDims, mrl::Precision::float32, 20}}};
    mrl::StageCounts counts{};
    std::vector<std::string> found[2];
    for (const int which : {0, 1}) {
        const mrl::Index& asked = which == 0 ? index : *mapped;
        asked.search(vectors.data(), 1, {exact, nullptr, 1, false}, counts,
                     [&](std::size_t, const mrl::RowHit* hits, std::size_t n) {
                         for (std::size_t i = 0; i < n; ++i)
                             found[which].emplace_back(asked.keys().at(hits[i].row));
                     });
    }
    CHECK(found[0] == found[1] && found[0].size() == 20);
}

// What a file of an index is after damage: refused, or, where nothing was changed, as good as
// before.
void check_damage(const std::string& path, std::size_t rounds, std::uint64_t seed) {
    std::vector<std::int64_t> keys(40);
    std::iota(keys.begin(), keys.end(), 0);
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, keys, true);
    index.erase(span({3, 4}));
    index.save(path, "about");
    const auto good = content(path);
    const std::uint32_t sections = [&] {
        std::uint32_t count;
        std::memcpy(&count, good.data() + 24, 4);
        return count;
    }();
    std::mt19937_64 random(seed);
    std::size_t refused = 0, forged_and_taken = 0;
    auto there = good;
    std::string about;
    for (std::size_t round = 0; round < rounds; ++round) {
        auto bad = good;
        const std::uint64_t kind = random() % 8;
        bool forged = false;
        if (kind == 0) {
            bad.resize(random() % (good.size() + 1));
        } else if (kind == 1) {
            bad.resize(good.size() + 1 + random() % 8192, static_cast<std::uint8_t>(random() % 2));
        } else if (kind == 2) {  // a page from elsewhere
            const std::size_t pages = good.size() / 4096, to = random() % pages,
                              from = random() % pages;
            std::memcpy(bad.data() + to * 4096, good.data() + from * 4096, 4096);
        } else {
            for (std::uint64_t i = 0, n = 1 + random() % 8; i < n; ++i) {
                const bool in_header = random() % 2 != 0;
                bad[random() % (in_header ? 40 + 64 * sections : good.size())] ^=
                    static_cast<std::uint8_t>(1 + random() % 255);
            }
            if (kind >= 6) {  // by one who knows the format: all checksums are right
                forged = true;
                for (std::uint32_t s = 0; s < sections; ++s) {
                    std::uint64_t offset, bytes;
                    std::memcpy(&offset, bad.data() + 40 + 64 * s + 32, 8);
                    std::memcpy(&bytes, bad.data() + 40 + 64 * s + 40, 8);
                    if (offset > bad.size() || bytes > bad.size() - offset) continue;
                    std::uint64_t chunk = mrl::checksum(bad.data() + offset,
                                                        bytes);  // the file is smaller than a chunk
                    const std::uint64_t sum = mrl::checksum(&chunk, bytes == 0 ? 0 : 8);
                    std::memcpy(bad.data() + 40 + 64 * s + 48, &sum, 8);
                }
                std::memset(bad.data() + 32, 0, 8);
                const std::size_t header = (40 + 64 * sections + 4095) / 4096 * 4096;
                const std::uint64_t sum = mrl::checksum(bad.data(), header);
                std::memcpy(bad.data() + 32, &sum, 8);
            }
        }
        change(path, there, bad);
        there = std::move(bad);
        try {
            const auto opened = mrl::Index::open(path, about);
            CHECK(forged || there == good);
            forged_and_taken += forged ? 1 : 0;
        } catch (const mrl::FileError&) {
            CHECK(there != good);
            ++refused;
        }
    }
    CHECK(refused > rounds / 2);
    std::printf("%zu damaged files: %zu refused, %zu forged ones taken, no other\n", rounds,
                refused, forged_and_taken);
}

// What a file says of itself is read without the rest of it, and checked.
void check_about(const std::string& path) {
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    load(index, {1, 2, 3}, false);
    index.save(path, "a file of three rows");
    const auto good = content(path);
    const auto damaged = [&](const std::string& section) {
        for (std::size_t at = 40;; at += 64) {
            if (reinterpret_cast<const char*>(good.data() + at) != section) continue;
            std::uint64_t offset;
            std::memcpy(&offset, good.data() + at + 32, 8);
            auto bad = good;
            bad[offset] ^= 1;
            overwrite(path, bad);
            break;
        }
        try {
            return mrl::about_file(path) != "a file of three rows";
        } catch (const mrl::FileError&) {
            return true;
        }
    };
    CHECK(mrl::about_file(path) == "a file of three rows");
    CHECK(!damaged("rows.codes"));
    CHECK(damaged("about"));
}

void check_refusals(const std::string& path) {
    std::string about;
    const auto refused = [&] {
        try {
            mrl::Index::open(path, about);
            return false;
        } catch (const mrl::FileError&) {
            return true;
        }
    };
    ::unlink(path.c_str());
    CHECK(refused());
    overwrite(path, {});
    CHECK(refused());
    overwrite(path, std::vector<std::uint8_t>(10'000, 'x'));
    CHECK(refused());
    mrl::Index index(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    index.save(path, "");
    CHECK(!refused());
    std::vector<std::uint8_t> longer = content(path);
    longer.resize(longer.size() + 4096);
    overwrite(path, longer);
    CHECK(refused());
    mrl::Store store(mrl::Metric::cosine, kDims, mrl::KeyType::int64, true);
    store.marked = 1;  // of no rows
    mrl::save_store(store, path, "", 1);
    CHECK(refused());
    index.save(path, "");
    ::chmod(path.c_str(), 0622);
    CHECK(refused());  // others may write it
    ::chmod(path.c_str(), 0600);
    const std::string link = path + ".link";
    ::unlink(link.c_str());
    CHECK(::symlink(path.c_str(), link.c_str()) == 0);
    try {
        mrl::Index::open(link, about);
        CHECK(false);
    } catch (const mrl::FileError&) {
    }
    ::unlink(link.c_str());
    try {
        index.save("/nonexistent folder/file", "");
        CHECK(false);
    } catch (const mrl::FileError&) {
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t rounds = argc > 1 ? static_cast<std::size_t>(std::atoll(argv[1])) : 20'000;
    const std::string folder = (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") +
                               std::string("/mrl file test ") + std::to_string(getpid());
    CHECK(mkdir(folder.c_str(), 0700) == 0);
    const std::string path = folder + "/an index.mrl";
    for (const auto metric : {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
        for (const std::size_t rows :
             {std::size_t{0}, std::size_t{1}, std::size_t{70}, std::size_t{900}}) {
            check_round_trip(path, metric, true, rows);
            check_round_trip(path, metric, false, rows);
        }
    }
    check_mapped(path);
    check_about(path);
    check_refusals(path);
    check_damage(path, rounds, argc > 2 ? static_cast<std::uint64_t>(std::atoll(argv[2])) : 1);
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
    std::printf("file: round trips, mapped arrays, refusals, damage\n");
}
