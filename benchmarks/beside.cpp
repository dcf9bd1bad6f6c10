// Searches beside a writer of single rows, without Python: bench_beside.py --native runs it.
//
// beside_bench INDEX DIMS SECONDS RATE EFFORT KEEP KEEP QUERIES ROWS
//
// QUERIES and ROWS are files of float32 vectors, RATE is of rows a second, or 0: as many as can be.
// Of each search: the time on the wall, the CPU that its thread used, and how long it waited for
// locks; what is left is a core that it did not have, which is the scheduler's. First alone, then
// beside two threads that only compute (the control), then beside the writer and the linker. What
// it prints is JSON, in milliseconds.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "index/index.hpp"
#include "system/waits.hpp"

namespace {

using Clock = std::chrono::steady_clock;

struct Took {
    std::uint64_t wall, cpu, locks;
    std::uint64_t no_core() const { return wall - std::min(wall, cpu + locks); }
};

std::vector<float> read(const char* path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    std::vector<float> all(static_cast<std::size_t>(file.tellg()) / sizeof(float));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(all.data()),
              static_cast<std::streamsize>(all.size() * sizeof(float)));
    return all;
}

void print_spread(const char* name, const std::vector<Took>& took,
                  const std::function<std::uint64_t(const Took&)>& of, const char* end) {
    std::vector<double> ms(took.size());
    std::transform(took.begin(), took.end(), ms.begin(),
                   [&](const Took& one) { return static_cast<double>(of(one)) * 1e-6; });
    std::sort(ms.begin(), ms.end());
    std::printf("\"%s\": {", name);
    for (const double share : {0.5, 0.99, 0.999, 0.9999}) {
        const auto at = static_cast<std::size_t>(share * static_cast<double>(ms.size() - 1));
        std::printf("\"%g\": %.4f, ", share, ms[at]);
    }
    std::printf("\"longest\": %.3f}%s", ms.back(), end);
}

void print_section(const char* name, const mrl::Section& section) {
    if (section.times == 0) return;
    std::printf(
        "\"%s\": {\"times\": %llu, \"most\": %llu, \"longest\": %.3f, \"longest_cpu\": %.3f, ",
        name, static_cast<unsigned long long>(section.times),
        static_cast<unsigned long long>(section.most),
        static_cast<double>(section.held.longest) * 1e-6,
        static_cast<double>(section.computed.longest) * 1e-6);
    std::printf("\"cpu_by_powers_of_two_us\": [");
    for (std::size_t i = 0; i < section.computed.counts.size(); ++i) {
        std::printf("%s%llu", i == 0 ? "" : ", ",
                    static_cast<unsigned long long>(section.computed.counts[i]));
    }
    std::printf("]}, ");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 10) return 2;
    const std::size_t dims = std::stoul(argv[2]), effort = std::stoul(argv[5]);
    const double seconds = std::stod(argv[3]), rate = std::stod(argv[4]);
    const std::vector<float> queries = read(argv[8]), fresh = read(argv[9]);
    const std::size_t n_queries = queries.size() / dims, n_fresh = fresh.size() / dims;
    const mrl::Plan plan{
        mrl::Route::graph,
        effort,
        {{mrl::Space::projection, mrl::kLineCoordinates, mrl::Precision::int4, std::stoul(argv[6])},
         {mrl::Space::prefix, dims, mrl::Precision::int8, std::stoul(argv[7])},
         {mrl::Space::prefix, dims, mrl::Precision::float32, 10}}};
    std::string about;
    const auto index = mrl::Index::open(argv[1], about);
    const std::size_t rows = index->live_rows();
    mrl::measuring_waits = true;

    std::atomic<bool> stop{false};
    std::atomic<std::size_t> written{0};
    std::vector<Took> took;
    const auto search = [&] {
        mrl::StageCounts counts{};
        while (!stop) {
            const std::uint64_t locks = mrl::waited.for_locks,
                                cpu = mrl::nanoseconds_of(CLOCK_THREAD_CPUTIME_ID),
                                began = mrl::nanoseconds_of(CLOCK_MONOTONIC);
            index->search(queries.data() + took.size() % n_queries * dims, 1, {.plan = plan},
                          counts, [](std::size_t, const mrl::RowHit*, std::size_t) {});
            const std::uint64_t wall = mrl::nanoseconds_of(CLOCK_MONOTONIC) - began;
            took.push_back({wall, mrl::nanoseconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu,
                            mrl::waited.for_locks - locks});
        }
    };
    const auto compute = [&] {
        volatile std::uint64_t x = 0;
        while (!stop) x = x + 1;
    };
    const auto write = [&] {
        const auto began = Clock::now();
        for (; !stop; ++written) {
            if (rate > 0) {
                const std::chrono::duration<double> due(static_cast<double>(written) / rate);
                std::this_thread::sleep_until(began +
                                              std::chrono::duration_cast<Clock::duration>(due));
            }
            const auto key = static_cast<std::int64_t>(rows + written);
            index->upsert(
                {mrl::KeyType::int64, reinterpret_cast<const unsigned char*>(&key), nullptr, 1},
                fresh.data() + written % n_fresh * dims, dims);
        }
    };
    const auto link = [&] {  // as mrl_db/engines/native/background.py does
        while (!stop) {
            if (index->link_waiting(256, index->waiting() > 4096 ? 2 : 1) == 0) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        }
    };
    const auto measure = [&](const char* name, double length,
                             const std::vector<std::function<void()>>& others) {
        stop = false;
        took.clear();
        std::vector<std::thread> threads;
        for (const auto& other : others) threads.emplace_back(other);
        threads.emplace_back(search);
        std::this_thread::sleep_for(std::chrono::duration<double>(length));
        stop = true;
        for (std::thread& thread : threads) thread.join();
        std::printf("\"%s\": {\"searches\": %zu, ", name, took.size());
        print_spread("wall", took, [](const Took& one) { return one.wall; }, ", ");
        print_spread("cpu", took, [](const Took& one) { return one.cpu; }, ", ");
        print_spread("locks", took, [](const Took& one) { return one.locks; }, ", ");
        print_spread("no_core", took, [](const Took& one) { return one.no_core(); }, "}, ");
    };
    std::printf("{");
    measure("alone", std::min(seconds, 10.0), {});
    measure("control", seconds, {compute, compute});
    measure("beside", seconds, {write, link});
    std::printf("\"sections\": {");
    const mrl::Sections sections = index->sections();
    print_section("put", sections.put);
    print_section("put_moving", sections.put_moving);
    print_section("linked", sections.linked);
    print_section("appended", sections.appended);
    std::printf("\"all\": {}}, \"written_a_second\": %.0f, \"waiting_in_the_end\": %zu}\n",
                static_cast<double>(written) / seconds, index->waiting());
}
