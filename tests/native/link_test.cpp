// Linking rows that wait, as the extension does it, over pages in memory: every link leads to
// another slot of the graph, none twice; entries grow with the graph; and rows that were linked are
// found as well as those of a build.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "disk.hpp"
#include "postgres/engine_reader.hpp"

using disk::build;
using disk::Disk;
using disk::vectors;

namespace {

constexpr std::uint32_t kBatch = 100;  // rows linked together
constexpr std::size_t kQueries = 60, kK = 10, kEffort = 24;

// Every page is always there.
class Steady {
  public:
    explicit Steady(Disk& disk) : disk_(disk) {}

    std::vector<MrlHit> search(MrlReader* reader, const float* query, MrlSearch search) {
        const MrlPageHost host{nullptr, nullptr, nullptr, nullptr};
        CHECK(mrl_search_begin(reader, &disk_.meta, &host, query, search) == MRL_DONE);
        MrlStatus status = mrl_search_step(reader, MRL_READ);
        for (MrlAnswer answer; status == MRL_PAGES || status == MRL_PAUSED;
             status = mrl_search_step(reader, answer)) {
            answer = status == MRL_PAUSED ? MRL_READ : MRL_COPIED;
            if (status == MRL_PAUSED) continue;
            const MrlPageRequest* request = mrl_search_request(reader);
            for (std::uint32_t i = 0; i < request->n; ++i)
                std::memcpy(request->copies + std::size_t{i} * request->bytes,
                            disk_.pages[request->section].at(request->pages[i]).data() +
                                request->offsets[i],
                            request->bytes);
        }
        CHECK(status == MRL_DONE);
        std::size_t n;
        const MrlHit* hits = mrl_search_hits(reader, &n);
        return {hits, hits + n};
    }

  private:
    Disk& disk_;
};

std::vector<float> vector_of(Disk& disk, const MrlReader* reader, std::uint32_t slot) {
    const std::uint32_t place = slot % disk.meta.rows_per_page;
    const std::uint8_t* page = disk.pages[MRL_ROWS][slot / disk.meta.rows_per_page].data();
    std::vector<float> vector(disk.meta.dims);
    MrlTail tail;
    std::memcpy(&tail, page + mrl_tail_at(&disk.meta, place), sizeof tail);
    mrl_decode(reader, page + MRL_PAGE_HEAD + std::size_t{place} * disk.meta.code_stride, &tail,
               vector.data());
    return vector;
}

void give_lines(Disk& disk, MrlLinker* linker) {
    const std::uint32_t* slots;
    std::size_t n;
    CHECK(mrl_link_missing(linker, &slots, &n) == MRL_DONE);
    CHECK(std::is_sorted(slots, slots + n));
    for (std::size_t i = 0; i < n; ++i)
        mrl_link_give_line(linker, slots[i], disk.item(MRL_LINES, slots[i]));
}

// As in link.c.
void link_batch(Disk& disk, MrlReader* reader) {
    const std::uint32_t first = disk.meta.linked, end = std::min(disk.meta.slots, first + kBatch);
    MrlLinker* linker;
    CHECK(mrl_link_begin(reader, &disk.meta, &linker) == MRL_DONE);
    Steady pages(disk);
    for (std::uint32_t slot = first; slot < end; ++slot) {
        pages.search(reader, vector_of(disk, reader, slot).data(), {MRL_GATHER, 0, 0, 0, nullptr});
        CHECK(mrl_link_add(linker, slot, reader) == MRL_DONE);
    }
    give_lines(disk, linker);
    const std::uint32_t* slots;
    std::size_t n;
    CHECK(mrl_link_prune(linker, &slots, &n) == MRL_DONE);
    for (const std::uint32_t slot : std::vector<std::uint32_t>(slots, slots + n)) {
        std::uint32_t links[mrl::kDegree];
        std::memcpy(links, disk.item(MRL_LINKS, slot), sizeof links);
        CHECK(mrl_link_give_links(linker, slot, links) == MRL_DONE);
    }
    give_lines(disk, linker);
    CHECK(mrl_link_end(linker, &n) == MRL_DONE);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t slot;
        const std::uint32_t* links = mrl_link_change(linker, i, &slot);
        std::memcpy(disk.item(MRL_LINKS, slot), links, MRL_ITEM_BYTES);
    }
    mrl_link_free(linker);
    disk.meta.linked = end;
    const std::size_t due =
        std::min<std::size_t>(end - first, mrl_reader_entries_due(reader, disk.meta.slots));
    for (std::size_t i = 0; i < due; ++i) {
        const auto slot = static_cast<std::uint32_t>(first + i * (end - first) / due);
        CHECK(mrl_reader_add_entry(reader, slot, disk.item(MRL_LINES, slot)) == MRL_DONE);
    }
}

// The share of the k best by int8 codes of all rows that walks find.
double recall(Disk& disk, MrlReader* reader, const std::vector<float>& queries) {
    Steady pages(disk);
    std::size_t both = 0;
    const auto slots = [](std::vector<MrlHit> hits) {
        std::vector<std::uint32_t> out;
        hits.resize(std::min(hits.size(), kK));
        for (const MrlHit& hit : hits) out.push_back(hit.slot);
        std::sort(out.begin(), out.end());
        return out;
    };
    for (std::size_t q = 0; q < kQueries; ++q) {
        const float* query = queries.data() + q * disk.meta.dims;
        const auto walk = slots(pages.search(reader, query, {MRL_WALK, kEffort, 40, kK, nullptr}));
        const auto all =
            slots(pages.search(reader, query, {MRL_WALK, 4000, disk.meta.slots, kK, nullptr}));
        std::vector<std::uint32_t> common;
        std::set_intersection(walk.begin(), walk.end(), all.begin(), all.end(),
                              std::back_inserter(common));
        both += common.size();
    }
    return static_cast<double>(both) / static_cast<double>(kQueries * kK);
}

void check_links(Disk& disk) {
    for (std::uint32_t slot = 0; slot < disk.meta.linked; ++slot) {
        std::uint32_t links[mrl::kDegree];
        std::memcpy(links, disk.item(MRL_LINKS, slot), sizeof links);
        std::uint32_t* end = std::find(links, links + mrl::kDegree, mrl::kNoLink);
        CHECK(end != links);
        std::sort(links, end);
        CHECK(std::adjacent_find(links, end) == end);
        CHECK(*(end - 1) < disk.meta.linked);
        CHECK(!std::binary_search(links, end, slot));
    }
}

void check_entries(const mrl::Entries& entries, std::size_t rows) {
    CHECK(entries.size() == mrl::entries_for(rows));
    CHECK(entries.begins.front() == 0 && entries.begins.back() == entries.size());
    CHECK(std::is_sorted(entries.begins.begin(), entries.begins.end()));
    CHECK(entries.lines.size() == entries.size() * mrl::kLineBytes);
    std::vector<std::uint32_t> slots = entries.slots;
    std::sort(slots.begin(), slots.end());
    CHECK(std::adjacent_find(slots.begin(), slots.end()) == slots.end());
    CHECK(slots.back() < rows);
}

void check(MrlMetric metric, std::size_t n, std::size_t built, std::mt19937& random) {
    constexpr std::size_t dims = 64;
    const std::vector<float> all = vectors(n, dims, random),
                             queries = vectors(kQueries, dims, random),
                             first(all.begin(),
                                   all.begin() + static_cast<std::ptrdiff_t>(built * dims));
    Disk fresh = build(metric, all, dims), disk = build(metric, first, dims);
    MrlReader *reader, *fresh_reader;
    CHECK(mrl_reader_open(&fresh.meta, fresh.blob.data(), &fresh_reader) == MRL_DONE);
    CHECK(mrl_reader_open(&disk.meta, disk.blob.data(), &reader) == MRL_DONE);
    for (std::size_t i = built; i < n; ++i) disk.append(reader, all.data() + i * dims);

    while (disk.meta.linked < disk.meta.slots) link_batch(disk, reader);

    check_links(disk);
    check_entries(reader->entries, n);
    const double linked = recall(disk, reader, queries),
                 best = recall(fresh, fresh_reader, queries);
    std::printf("metric %d, %zu of %zu rows linked: %.3f, built %.3f\n", metric, n - built, n,
                linked, best);
    CHECK(linked >= best - 0.015);
    mrl_reader_free(reader);
    mrl_reader_free(fresh_reader);
}

}  // namespace

int main() {
    std::mt19937 random(1);
    for (const MrlMetric metric : {MRL_COSINE, MRL_INNER_PRODUCT, MRL_L2})
        check(metric, 2000, 1000, random);
    check(MRL_COSINE, 5000, 3500, random);
    return 0;
}
