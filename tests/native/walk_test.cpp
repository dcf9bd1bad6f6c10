// The kernels of lines, pools and tiles: every instruction set against the portable one, bit for
// bit, and that one against plain loops.
#include "search/walk.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/pack.hpp"
#include "search/entries.hpp"
#include "store/line_codes.hpp"
#include "store/rows.hpp"
#include "system/memory.hpp"

namespace {

const mrl::Kernels& scalar() { return *mrl::available_kernels().front(); }

constexpr float kInfinity = std::numeric_limits<float>::infinity();

mrl::LineQuery make_query(std::mt19937& random) {
    mrl::LineQuery query;
    std::memset(query.coordinates, 0, sizeof query.coordinates);
    query.sum = 0;
    const bool extreme = random() % 4 == 0;
    for (std::size_t p = 0; p < 4; ++p) {
        for (std::size_t b = 0; b < 60; ++b) {
            const int value =
                extreme ? (random() % 2 == 0 ? 127 : -127) : static_cast<int>(random() % 255) - 127;
            query.coordinates[64 * p + b] = static_cast<std::int8_t>(value);
            query.sum += value;
        }
    }
    query.half_scale = 0.01f;
    return query;
}

void put_half(std::uint8_t* at, std::mt19937& random) {
    auto bits = static_cast<std::uint16_t>(random());
    if ((bits & 0x7c00u) == 0x7c00u) bits = static_cast<std::uint16_t>(bits & 0x83ffu);  // finite
    std::memcpy(at, &bits, 2);
}

double half(const std::uint8_t* at) {
    std::uint16_t bits;
    std::memcpy(&bits, at, 2);
    const int exponent = bits >> 10 & 31;
    const double fraction = (bits & 1023) / 1024.0;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
    return bits & 0x8000u ? -magnitude : magnitude;
}

void check_lines(std::mt19937& random) {
    constexpr std::size_t kRows = 70;
    Guarded high_memory(kRows * mrl::kLineBytes), low_memory(kRows * mrl::kLineBytes);
    auto *high = high_memory.as<std::uint8_t>(), *low = low_memory.as<std::uint8_t>();
    for (std::size_t i = 0; i < kRows * mrl::kLineBytes; ++i) {
        high[i] = static_cast<std::uint8_t>(random());
        low[i] = static_cast<std::uint8_t>(random());
    }
    for (std::size_t row = 0; row < kRows; ++row) {
        for (std::uint8_t* plane : {high, low}) {
            put_half(plane + row * 64 + 60, random);
            put_half(plane + row * 64 + 62, random);
        }
    }
    const mrl::LineQuery query = make_query(random);
    for (std::size_t n = 0; n <= kRows; ++n) {
        std::vector<std::uint32_t> ids(n);
        for (auto& id : ids) id = static_cast<std::uint32_t>(random() % kRows);
        if (n != 0) ids[0] = kRows - 1;
        std::vector<float> by_high(n), by_both(n);
        scalar().score_high(&query, high, ids.data(), n, by_high.data());
        scalar().score_both(&query, high, low, ids.data(), n, by_both.data());
        for (std::size_t i = 0; i < n; ++i) {
            double coarse = 0, fine = 0;
            for (std::size_t j = 0; j < mrl::kLineCoordinates; ++j) {
                const int q = query.coordinates[64 * (j / 60) + j % 60];
                const int h = high[ids[i] * 64 + j % 60] >> 2 * (j / 60) & 3,
                          l = low[ids[i] * 64 + j % 60] >> 2 * (j / 60) & 3;
                coarse += q * (4.0 * h - 6.0);
                fine += q * (4.0 * h + l - 7.5);
            }
            const auto expect = [&](const std::uint8_t* tail, double sum) {
                return half(tail) -
                       half(tail + 2) * (2.0 * sum) * static_cast<double>(query.half_scale);
            };
            const double a = expect(high + ids[i] * 64 + 60, coarse),
                         b = expect(low + ids[i] * 64 + 60, fine);
            CHECK(std::fabs(by_high[i] - a) <=
                  1e-6 * (std::fabs(a) + std::fabs(half(high + ids[i] * 64 + 60)) + 1));
            CHECK(std::fabs(by_both[i] - b) <=
                  1e-6 * (std::fabs(b) + std::fabs(half(low + ids[i] * 64 + 60)) + 1));
        }
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            std::vector<float> got(n);
            kernels->score_high(&query, high, ids.data(), n, got.data());
            CHECK(got == by_high);
            kernels->score_both(&query, high, low, ids.data(), n, got.data());
            CHECK(got == by_both);
        }
    }
    for (std::size_t row = 0; row < kRows; ++row) {
        const std::uint8_t *highs = high + row * 64, *lows = low + row * 64;
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            Guarded to(256);
            kernels->unpack_line(highs, lows, to.as<std::int8_t>());
            for (std::size_t at = 0; at < 256; ++at) {
                const int h = highs[at % 64] >> 2 * (at / 64) & 3,
                          l = lows[at % 64] >> 2 * (at / 64) & 3;
                CHECK(to.as<std::int8_t>()[at] == (at % 64 < 60 ? 8 * h + 2 * l - 15 : 0));
            }
        }
    }
}

struct PoolMemory {
    mrl::Array<float> key{4096}, open{4096};
    mrl::Array<std::uint32_t> id{4096};
    mrl::Pool pool{key.data(), open.data(), id.data(), 0, kInfinity};
    bool equals(const PoolMemory& other) const {
        return pool.size == other.pool.size && pool.threshold == other.pool.threshold &&
               std::equal(pool.key, pool.key + pool.size, other.pool.key) &&
               std::equal(pool.open, pool.open + pool.size, other.pool.open) &&
               std::equal(pool.id, pool.id + pool.size, other.pool.id);
    }
};

void check_ranks(std::mt19937& random) {
    for (std::size_t n = 0; n <= 270; ++n) {
        Guarded memory(n * sizeof(float));
        float* scores = memory.as<float>();
        for (std::size_t i = 0; i < n; ++i)
            scores[i] = random() % 20 == 0 ? kInfinity : static_cast<float>(random() % 50) - 25.0f;
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            std::vector<std::uint16_t> ranks(n);
            kernels->rank(scores, n, ranks.data());
            for (std::size_t i = 0; i < n; ++i) {
                CHECK(ranks[i] == std::count_if(scores, scores + n,
                                                [&](float other) { return other < scores[i]; }));
            }
        }
    }
}

// A life of appends, pops and cuts on every instruction set at once; `values` small makes ties. Of
// `infinite` keys one is infinite or 2^127 (0: none); +inf comes as well as a walk brings it in,
// which hides a candidate.
void check_pool(std::mt19937& random, unsigned values, unsigned infinite) {
    const auto all = mrl::available_kernels();
    std::vector<PoolMemory> pools(all.size());
    std::uint32_t next = 0;
    for (int step = 0; step < 60; ++step) {
        const std::size_t n = random() % 65, keep = 1 + random() % 60, want = 1 + random() % 16;
        std::vector<float> scores(n);
        std::vector<std::uint32_t> ids(n);
        for (std::size_t i = 0; i < n; ++i) {
            scores[i] = static_cast<float>(random() % values) - 100.0f;
            if (infinite != 0 && random() % infinite == 0)
                scores[i] = std::ldexp(random() % 2 == 0 ? -1.0f : 1.0f, 127 + random() % 2);
            ids[i] = next++;
        }
        const float limit = static_cast<float>(random() % values) - 100.0f;
        const std::size_t hidden = infinite == 0 ? 1000 : random() % 80;
        for (std::size_t k = 0; k < all.size(); ++k) {
            mrl::Pool& pool = pools[k].pool;
            all[k]->pool_append(&pool, scores.data(), ids.data(), n);
            if (hidden < pool.size) pool.key[hidden] = pool.open[hidden] = kInfinity;
            std::uint32_t best[16];
            const std::size_t found = all[k]->pool_best(&pool, want, best);
            float least = kInfinity;
            for (std::size_t i = 0; i < pool.size; ++i) least = std::min(least, pool.open[i]);
            CHECK(found == 0 ? least == kInfinity : pool.open[best[0]] == least);
            if (found != 0) pool.open[best[0]] = kInfinity;
            CHECK(all[k]->pool_count(&pool, limit) ==
                  static_cast<std::size_t>(std::count_if(pool.key, pool.key + pool.size,
                                                         [&](float key) { return key < limit; })));
            if (step % 3 == 2) {
                std::vector<float> sorted(pool.key, pool.key + pool.size);
                std::sort(sorted.begin(), sorted.end());
                const float before = pool.threshold;
                all[k]->pool_cut(&pool, keep);
                if (sorted.size() > keep)
                    sorted.erase(std::lower_bound(sorted.begin(), sorted.end(), kInfinity),
                                 sorted.end());
                CHECK(pool.size >= std::min(keep, sorted.size()) &&
                      pool.size <= std::max(keep + mrl::kPoolTies, std::min(keep, sorted.size())));
                if (sorted.size() < keep) CHECK(pool.threshold == before);
                std::vector<float> kept(pool.key, pool.key + pool.size);
                std::sort(kept.begin(), kept.end());
                CHECK(std::equal(kept.begin(), kept.end(), sorted.begin()));  // the smallest ones
            }
            CHECK(pools[k].equals(pools[0]));
        }
    }
}

// The norm of a query is in the margin that ends its walk: one number on every instruction set.
void check_query_norms(std::mt19937& random) {
    constexpr std::size_t kDims = 384;
    std::normal_distribution<float> normal;
    const mrl::Rows rows(mrl::Metric::l2, kDims, true);
    for (int round = 0; round < 20; ++round) {
        std::vector<float> query(kDims);
        double square = 0;
        for (float& x : query) {
            x = normal(random);
            square += static_cast<double>(x) * x;
        }
        mrl::RowQuery first, prepared;
        mrl::use_kernels("scalar");
        rows.prepare(query.data(), first);
        CHECK(std::fabs(first.norm - std::sqrt(square)) <= 1e-12 * std::sqrt(square));
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            mrl::use_kernels(kernels->name);
            rows.prepare(query.data(), prepared);
            CHECK(prepared.norm == first.norm);
        }
    }
    mrl::use_kernels("");
}

// What is written is what was to be, and it is written wherever a product is above its row's bound.
void check_above(const mrl::Kernels& kernels, const std::int8_t* a, std::size_t n_a,
                 std::size_t stride, const std::uint8_t* packed, std::size_t blocks,
                 std::size_t dims, const std::vector<std::int32_t>& products,
                 std::mt19937& random) {
    constexpr std::int32_t kUntouched = -1000000007;
    const std::size_t width = blocks * 16;
    Guarded factor_memory(width * sizeof(float));
    auto* factors = factor_memory.as<float>();
    for (std::size_t j = 0; j < width; ++j) factors[j] = static_cast<float>(random() % 100) * 0.01f;
    std::vector<float> bounds(n_a);
    std::vector<std::int32_t> offsets(n_a, 0), out(n_a * width, kUntouched);
    for (std::size_t i = 0; i < n_a; ++i) {
        float most = 0;
        for (std::size_t j = 0; j < width; ++j)
            most = std::max(most, factors[j] * static_cast<float>(products[i * width + j]));
        bounds[i] =
            random() % 4 == 0 ? -kInfinity : most * static_cast<float>(random() % 120) * 0.01f;
        for (std::size_t d = 0; d < dims; ++d) offsets[i] -= 128 * a[i * stride + d];
    }
    std::vector<std::uint32_t> written(n_a, 0xffffffffu);
    kernels.tile_int8_above(a, offsets.data(), n_a, stride, packed, blocks, dims, factors,
                            bounds.data(), out.data(), width, written.data());
    for (std::size_t i = 0; i < n_a; ++i) {
        for (std::size_t group = 0; group < 32; ++group) {
            const std::size_t first = std::min(width, group * mrl::kTileGroup),
                              last = std::min(width, first + mrl::kTileGroup);
            bool above = false;
            for (std::size_t j = first; j < last; ++j)
                above |= factors[j] * static_cast<float>(products[i * width + j]) > bounds[i];
            CHECK((written[i] >> group & 1) == (above ? 1u : 0u));
            for (std::size_t j = first; j < last; ++j) {
                const std::int32_t got = out[i * width + j];
                CHECK(got == products[i * width + j] || (!above && got == kUntouched));
            }
        }
    }
}

void check_tiles(std::mt19937& random) {
    for (std::size_t dims : {4u, 8u, 12u, 20u, 64u, 128u, 384u, 1028u, 2056u}) {
        for (std::size_t n_a : {1u, 2u, 5u, 6u, 7u, 13u}) {
            for (std::size_t n_b : {1u, 16u, 17u, 64u, 70u, 131u}) {
                const std::size_t stride = dims + 3, blocks = (n_b + 15) / 16;
                std::vector<std::int8_t> b(n_b * dims);
                Guarded a_memory((n_a - 1) * stride + dims), packed_memory(blocks * 16 * dims);
                auto* a = a_memory.as<std::int8_t>();
                const auto byte = [&] {
                    return static_cast<std::int8_t>(
                        random() % 8 == 0 ? -128 : static_cast<int>(random() % 256) - 128);
                };
                for (std::size_t i = 0; i < (n_a - 1) * stride + dims; ++i) a[i] = byte();
                for (auto& x : b) x = byte();
                std::vector<const std::int8_t*> rows(n_b);
                for (std::size_t i = 0; i < n_b; ++i) rows[i] = b.data() + i * dims;
                mrl::pack_tile(rows.data(), n_b, dims, packed_memory.as<std::uint8_t>());
                for (const mrl::Kernels* kernels : mrl::available_kernels()) {
                    std::vector<std::int32_t> out(n_a * blocks * 16);
                    kernels->tile_int8(a, n_a, stride, packed_memory.as<std::uint8_t>(), blocks,
                                       dims, out.data(), blocks * 16);
                    for (std::size_t i = 0; i < n_a; ++i) {
                        for (std::size_t j = 0; j < blocks * 16; ++j) {
                            std::int32_t sum = 0;
                            for (std::size_t d = 0; d < dims && j < n_b; ++d)
                                sum += a[i * stride + d] * b[j * dims + d];
                            CHECK(out[i * blocks * 16 + j] == sum);
                        }
                    }
                    check_above(*kernels, a, n_a, stride, packed_memory.as<std::uint8_t>(), blocks,
                                dims, out, random);
                }
            }
        }
    }
}

void check_gathers(std::mt19937& random) {
    // Widths of four and six registers of any set (64 to 384 bytes) have loops of their own.
    std::vector<std::size_t> widths{64, 96, 128, 192, 256, 384, 768};
    for (std::size_t dims = 0; dims <= 300; ++dims) widths.push_back(dims);
    for (const std::size_t dims : widths) {
        constexpr std::size_t kRows = 23;
        Guarded memory(kRows * dims);
        auto* rows = memory.as<std::int8_t>();
        for (std::size_t i = 0; i < kRows * dims; ++i) rows[i] = static_cast<std::int8_t>(random());
        std::vector<std::uint32_t> ids(random() % 40);
        for (auto& id : ids) id = static_cast<std::uint32_t>(random() % kRows);
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            std::vector<std::int32_t> out(ids.size());
            kernels->inner_product_int8_at(rows, rows, ids.data(), ids.size(), dims, dims,
                                           out.data());
            for (std::size_t i = 0; i < ids.size(); ++i) {
                std::int32_t sum = 0;
                for (std::size_t d = 0; d < dims; ++d) sum += rows[d] * rows[ids[i] * dims + d];
                CHECK(out[i] == sum);
            }
        }
    }
}

void check_quantising(std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (std::size_t n = 0; n <= 150; ++n) {
        Guarded memory(n * sizeof(float));
        auto* values = memory.as<float>();
        const float scale = std::ldexp(1.0f, static_cast<int>(random() % 250) - 125);
        for (std::size_t i = 0; i < n; ++i)
            values[i] = random() % 50 == 0 ? 0.0f : scale * normal(random);
        std::vector<std::int8_t> expected(n);
        const float unit = scalar().quantise_int8(values, n, expected.data());
        for (std::size_t i = 0; i < n; ++i)
            CHECK(unit == 0 ? expected[i] == 0
                            : std::fabs(values[i] / unit - expected[i]) <= 0.5001f);
        for (const mrl::Kernels* kernels : mrl::available_kernels()) {
            std::vector<std::int8_t> codes(n);
            CHECK(kernels->quantise_int8(values, n, codes.data()) == unit);
            CHECK(codes == expected);
        }
        std::vector<std::int32_t> products(n);
        std::vector<float> factors(n), addends(n);
        for (std::size_t i = 0; i < n; ++i) {
            products[i] = static_cast<std::int32_t>(random() % 20001) - 10000;
            factors[i] = std::fabs(normal(random));
            addends[i] = normal(random);
        }
        for (const float* addend :
             {static_cast<const float*>(nullptr), static_cast<const float*>(addends.data())}) {
            for (const float threshold : {-2.0f, -0.3f, 0.0f, 0.3f, 3.0f, kInfinity}) {
                std::vector<float> expected_scores(n + 1), scores(n + 1);
                std::vector<std::uint32_t> expected_places(n + 1), places(n + 1);
                std::size_t expected_count = 0;
                for (std::size_t i = 0; i < n; ++i) {
                    const float score = (addend == nullptr ? 0.0f : addend[i]) -
                                        0.001f * factors[i] * static_cast<float>(products[i]);
                    if (!(score < threshold)) continue;
                    expected_scores[expected_count] = score;
                    expected_places[expected_count++] = static_cast<std::uint32_t>(i);
                }
                for (const mrl::Kernels* kernels : mrl::available_kernels()) {
                    const std::size_t count =
                        kernels->select_products(products.data(), factors.data(), addend, n, 0.001f,
                                                 threshold, scores.data(), places.data());
                    const auto end = static_cast<std::ptrdiff_t>(count);
                    CHECK(count == expected_count);
                    CHECK(
                        std::equal(scores.begin(), scores.begin() + end, expected_scores.begin()));
                    CHECK(
                        std::equal(places.begin(), places.begin() + end, expected_places.begin()));
                }
            }
        }
    }
}

// A walk that forgets one by one what the one before it met goes as one that clears all bits, also
// behind one that was broken off, and over another number of slots.
void check_forgetting(std::mt19937& random) {
    constexpr std::size_t kSlots = 1500, kFewer = 1100;
    std::normal_distribution<float> normal;
    const auto coordinates = [&] {
        std::vector<float> z(mrl::kLineCoordinates);
        for (float& x : z) x = normal(random);
        return z;
    };
    struct Graph {
        mrl::Links links;
        mrl::LineCodes lines;
        mrl::Entries entries;
    };
    std::vector<Graph> graphs(2);
    for (std::size_t g = 0; g < graphs.size(); ++g) {
        const std::size_t slots = g == 0 ? kSlots : kFewer;
        graphs[g].lines.reset(mrl::Metric::l2, 1.0f);
        graphs[g].lines.resize(slots);
        graphs[g].links.resize(slots);
        for (std::size_t slot = 0; slot < slots; ++slot) {
            const auto z = coordinates();
            graphs[g].lines.encode(slot, z.data(), 240.0f);
            std::uint32_t to[mrl::kDegree];
            for (auto& other : to) other = static_cast<std::uint32_t>(random() % slots);
            graphs[g].links.set(slot, to, mrl::kDegree);
        }
        graphs[g].entries = mrl::group_entries(graphs[g].lines, {1, 70, 900});
    }
    mrl::Walk clearing, forgetting(0);
    for (unsigned round = 0; round < 60; ++round) {
        const Graph& graph = graphs[round % 7 == 3 ? 1 : 0];
        const mrl::GraphView view{graph.links, graph.entries, graph.lines};
        mrl::LineQuery query;
        const auto z = coordinates();
        graph.lines.prepare(z.data(), query);
        const mrl::WalkOptions options{
            .hops = 20, .pool = 40, .hidden = round % 3 == 0 ? 900 : mrl::kNoLink};
        if (round % 5 == 2) {  // broken off, with bits that nobody told it of
            forgetting.prepare(graph.links.slots(), options.pool, graph.entries.size());
            for (std::uint32_t slot = 0; slot < kFewer; slot += 3) forgetting.first_visit(slot);
        }
        for (mrl::Walk* walk : {&clearing, &forgetting})
            mrl::walk_graph(scalar(), view, query, options, nullptr, *walk);
        CHECK(clearing.popped == forgetting.popped);
        CHECK(clearing.scored == forgetting.scored && clearing.pool.size == forgetting.pool.size);
        CHECK(std::equal(clearing.pool.id, clearing.pool.id + clearing.pool.size,
                         forgetting.pool.id));
    }
}

}  // namespace

int main() {
    std::mt19937 random(20261122);
    check_lines(random);
    check_ranks(random);
    for (unsigned round = 0; round < 160; ++round) {
        const unsigned infinite[] = {0, 0, 20, 2};
        check_pool(random, round % 2 == 0 ? 1000000 : 1 + round, infinite[round / 2 % 4]);
    }
    check_query_norms(random);
    check_tiles(random);
    check_gathers(random);
    check_quantising(random);
    check_forgetting(random);
    std::printf("lines, pools, tiles, gathers: all sets agree\n");
}
