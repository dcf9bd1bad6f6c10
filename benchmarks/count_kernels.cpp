// Runs one kernel of one instruction set so many times: count_kernels.py counts its instructions.
//
//     count_kernels SET KERNEL TIMES; without arguments: the kernels, and how many rows each is of
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/dispatch.hpp"

namespace {

constexpr std::size_t kRows = 192, kDims = 384, kBytes = kDims / 8, kScores = 1024;

struct Data {
    std::vector<float> floats = std::vector<float>((kRows + 1) * kDims);
    std::vector<std::int8_t> codes = std::vector<std::int8_t>((kRows + 1) * kDims);
    std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>((kRows + 1) * kDims);
    std::vector<std::uint32_t> ids = std::vector<std::uint32_t>(kScores);
    std::vector<float> scores = std::vector<float>(kScores), ones = std::vector<float>(kScores, 1);
    std::vector<std::int32_t> products = std::vector<std::int32_t>(kScores);
    alignas(64) float key[2048], open[2048];
    alignas(64) std::uint32_t id[2048];
    mrl::LineQuery line{};

    Data() {
        std::mt19937 random(7);
        const auto draw = [&](int most) { return static_cast<int>(random() % most); };
        for (auto& x : floats) x = static_cast<float>(draw(2001) - 1000) / 1000;
        for (auto& x : codes) x = static_cast<std::int8_t>(draw(255) - 127);
        for (auto& x : bytes) x = static_cast<std::uint8_t>(draw(256));
        for (auto& x : ids) x = static_cast<std::uint32_t>(draw(kRows));
        for (auto& x : scores) x = static_cast<float>(draw(10000));
        for (auto& x : products) x = draw(10000);
        for (int i = 0; i < 2048; ++i) {
            key[i] = static_cast<float>(draw(10000)), open[i] = i % 2 ? key[i] : INFINITY;
            id[i] = static_cast<std::uint32_t>(i);
        }
        for (auto& x : line.coordinates) x = static_cast<std::int8_t>(draw(255) - 127);
        for (int plane = 0; plane < 4; ++plane)
            std::memset(line.coordinates + 64 * plane + 60, 0, 4);
        line.half_scale = 1;
    }
};

struct Case {
    const char* name;
    const char* shape;
    std::size_t rows;  // what one run is divided by
    std::function<void(const mrl::Kernels&)> run;
};

std::vector<Case> cases(Data& d) {
    static std::vector<float> out(kRows * kRows);
    static std::vector<std::int32_t> ints(kRows * kRows);
    static std::vector<std::uint32_t> positions(kScores);
    static std::vector<std::uint16_t> ranks(kScores);
    static std::vector<std::int32_t> offsets(kRows);
    static std::vector<float> bounds(kRows, 1e9f);
    static std::vector<std::uint32_t> written(kRows);
    const float* rows = d.floats.data() + kDims;
    const std::int8_t* codes = d.codes.data() + kDims;
    const auto floats = [&](const char* name, mrl::FloatRows mrl::Kernels::* kernel) {
        return Case{name, "384 dims", kRows, [=, &d](const mrl::Kernels& k) {
                        (k.*kernel)(d.floats.data(), rows, kRows, kDims, kDims, out.data());
                    }};
    };
    const auto pool = [&d](std::size_t size) {
        mrl::Pool made{};
        made.key = d.key, made.open = d.open, made.id = d.id, made.size = size;
        made.threshold = INFINITY;
        return made;
    };
    return {
        floats("inner_product", &mrl::Kernels::inner_product),
        floats("squared_l2", &mrl::Kernels::squared_l2),
        floats("cosine_distance", &mrl::Kernels::cosine_distance),
        {"inner_product_int8", "384 dims", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.inner_product_int8(d.codes.data(), codes, kRows, kDims, kDims, ints.data());
         }},
        {"inner_product_int8_at", "384 dims", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.inner_product_int8_at(d.codes.data(), codes, d.ids.data(), kRows, kDims, kDims,
                                     ints.data());
         }},
        {"hamming", "384 bits", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.hamming(d.bytes.data(), d.bytes.data() + kDims, kRows, kBytes, kBytes, ints.data());
         }},
        {"inner_product_bit", "384 bits, 4 planes", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.inner_product_bit(d.bytes.data(), 4, d.bytes.data() + kDims, kRows, kBytes, kBytes,
                                 ints.data());
         }},
        {"tile_int8", "384 dims, a product", kRows * kRows,
         [=, &d](const mrl::Kernels& k) {
             k.tile_int8(codes, kRows, kDims, d.bytes.data(), kRows / 16, kDims, ints.data(),
                         kRows);
         }},
        {"tile_int8_above", "384 dims, a product", kRows * kRows,
         [=, &d](const mrl::Kernels& k) {
             k.tile_int8_above(codes, offsets.data(), kRows, kDims, d.bytes.data(), kRows / 16,
                               kDims, d.ones.data(), bounds.data(), ints.data(), kRows,
                               written.data());
         }},
        {"score_high", "a line", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.score_high(&d.line, d.bytes.data(), d.ids.data(), kRows, out.data());
         }},
        {"score_both", "two lines", kRows,
         [=, &d](const mrl::Kernels& k) {
             k.score_both(&d.line, d.bytes.data(), d.bytes.data() + kRows * 64, d.ids.data(), kRows,
                          out.data());
         }},
        {"quantise_int8", "384 dims", kRows,
         [=, &d](const mrl::Kernels& k) {
             for (std::size_t row = 0; row < kRows; ++row)
                 k.quantise_int8(rows + row * kDims, kDims, d.codes.data() + row * kDims);
         }},
        {"select_below", "a score, 5 % pass", kScores,
         [=, &d](const mrl::Kernels& k) {
             k.select_below(d.scores.data(), kScores, 500, positions.data());
         }},
        {"select_below_int32", "a score, 5 % pass", kScores,
         [=, &d](const mrl::Kernels& k) {
             k.select_below_int32(d.products.data(), kScores, 500, positions.data());
         }},
        {"select_products", "a score, 5 % pass", kScores,
         [=, &d](const mrl::Kernels& k) {
             k.select_products(d.products.data(), d.ones.data(), nullptr, kScores, 1, -9500,
                               out.data(), positions.data());
         }},
        {"rank", "a score of 256", 256,
         [&d](const mrl::Kernels& k) { k.rank(d.scores.data(), 256, ranks.data()); }},
        {"pool_append", "a candidate, 64 at once", 64,
         [=, &d](const mrl::Kernels& k) {
             mrl::Pool made = pool(512);
             made.threshold = 2000;
             k.pool_append(&made, d.scores.data(), d.ids.data(), 64);
         }},
        {"pool_cut", "a candidate of 512", 512,
         [=, &d](const mrl::Kernels& k) {
             mrl::Pool made = pool(512);
             k.pool_cut(&made, 500);
         }},
        {"pool_best", "a candidate of 512", 512,
         [=, &d](const mrl::Kernels& k) {
             const mrl::Pool made = pool(512);
             k.pool_best(&made, 4, positions.data());
         }},
        {"pool_count", "a candidate of 512", 512,
         [=, &d](const mrl::Kernels& k) {
             const mrl::Pool made = pool(512);
             k.pool_count(&made, 5000);
         }},
    };
}

}  // namespace

int main(int argc, char** argv) {
    static Data data;
    for (const Case& each : cases(data)) {
        if (argc != 4) {
            std::printf("%s\t%s\t%zu\n", each.name, each.shape, each.rows);
        } else if (std::strcmp(each.name, argv[2]) == 0) {
            mrl::use_kernels(argv[1]);
            for (int i = 0; i < std::atoi(argv[3]); ++i) each.run(mrl::kernels());
        }
    }
}
