// An index in pages, kept in memory: what the extension builds and writes, without a server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "postgres/engine.h"

namespace disk {

// All pages of an index as they lie on disk.
struct Disk {
    MrlMeta meta{};
    std::vector<std::uint8_t> blob;
    std::vector<std::vector<std::uint8_t>> pages[MRL_SECTIONS];

    std::uint8_t* item(int section, std::uint32_t slot) {
        const std::uint32_t page = slot / MRL_ITEMS;
        while (page >= pages[section].size()) pages[section].emplace_back(MRL_PAGE_BYTES);
        return pages[section][page].data() + MRL_PAGE_HEAD + slot % MRL_ITEMS * MRL_ITEM_BYTES;
    }
    // Puts a row behind all others, as an insert does.
    void append(MrlReader* reader, const float* vector) {
        const std::uint32_t slot = meta.slots++, place = slot % meta.rows_per_page;
        item(MRL_LINKS, slot);
        auto& rows = pages[MRL_ROWS];
        if (slot / meta.rows_per_page == rows.size()) rows.emplace_back(MRL_PAGE_BYTES);
        std::uint8_t* page = rows.back().data();
        std::vector<std::uint8_t> code(meta.code_stride);
        MrlTail tail{};
        CHECK(mrl_encode(reader, vector, code.data(), item(MRL_LINES, slot), &tail) == MRL_DONE);
        std::memcpy(page + MRL_PAGE_HEAD + std::size_t{place} * meta.code_stride, code.data(),
                    code.size());
        std::memcpy(page + mrl_tail_at(&meta, place), &tail, sizeof tail);
    }
};

inline std::vector<float> vectors(std::size_t n, std::size_t dims, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> all(n * dims);
    for (std::size_t i = 0; i < all.size(); ++i) {
        const float spread = 1.0f / (1.0f + static_cast<float>(i % dims) / 16.0f);
        all[i] = normal(random) * spread;
    }
    return all;
}

// An index as the extension builds and writes it; TIDs count the rows.
inline Disk build(MrlMetric metric, const std::vector<float>& rows, std::size_t dims) {
    const MrlBuildOptions options{
        .metric = metric, .dims = static_cast<std::uint32_t>(dims), .threads = 2};
    MrlBuild* build;
    CHECK(mrl_build_begin(&options, &build) == MRL_DONE);
    for (std::size_t i = 0; i < rows.size() / dims; ++i) {
        const std::uint16_t tid[3] = {static_cast<std::uint16_t>(i >> 16),
                                      static_cast<std::uint16_t>(i), 1};
        CHECK(mrl_build_add(build, rows.data() + i * dims, tid, nullptr) == MRL_DONE);
    }
    const auto go_on = [](void*, double, double) { return false; };
    CHECK(mrl_build_graph(build, go_on, nullptr) == MRL_DONE);
    Disk disk;
    disk.meta = *mrl_build_meta(build);
    disk.blob.assign(mrl_build_blob(build), mrl_build_blob(build) + disk.meta.blob_bytes);
    for (int s = 0; s < MRL_SECTIONS; ++s) {
        for (std::uint32_t p = 0; p < disk.meta.pages[s]; ++p) {
            disk.pages[s].emplace_back(MRL_PAGE_BYTES);
            mrl_build_page(build, s, p, disk.pages[s].back().data());
        }
    }
    mrl_build_free(build);
    return disk;
}

}  // namespace disk
