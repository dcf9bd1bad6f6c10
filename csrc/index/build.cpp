#include "build.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <random>
#include <utility>

#include "../kernels/dispatch.hpp"
#include "thread_pool.hpp"

namespace mrl {
namespace {

constexpr std::size_t kWidth = 256;   // bytes of a build code: 240 coordinates and zeros
constexpr std::size_t kBlock = 96;    // rows compared at once: their products stay in the second-level cache
constexpr std::size_t kReverse = 64;  // links from others that a row considers
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Near {
    float distance;
    std::uint32_t slot;
    friend bool operator<(const Near& a, const Near& b) { return a.distance != b.distance ? a.distance < b.distance : a.slot < b.slot; }
};

// What distances between rows are computed from: int8 coordinates with a scale, the squared length, and under inner product a lift, the
// coordinate that gives all rows one length, so that the nearest is the one with the largest product (Bachrach et al., RecSys 2014).
struct Codes {
    Array<std::int8_t> bytes;  // kWidth each
    Array<float> scale, square, lift;

    explicit Codes(std::size_t n) : bytes(n * kWidth), scale(n), square(n), lift(n) {}
    std::size_t size() const { return scale.size(); }
    const std::int8_t* row(std::size_t i) const { return bytes.data() + i * kWidth; }
    float between(std::size_t i, std::size_t j, std::int32_t product) const {
        return std::max(0.0f, square[i] + square[j] - 2.0f * (scale[i] * scale[j] * static_cast<float>(product) + lift[i] * lift[j]));
    }
};

struct Cells {
    std::size_t count = 0;
    Codes centres{0};
    std::vector<std::uint32_t> of_row;  // the cell of each row
    std::vector<float> distance;        // of each row from its centre, up to a constant of the row
};

// Progress from many threads, told by one at a time.
class Meter {
  public:
    Meter(const BuildProgress& report, double total) : report_(report), total_(total) {}
    void add(double work) {
        if (!report_) return;
        const std::lock_guard lock(mutex_);
        done_ += work;
        if (done_ - told_ >= total_ / 200) {
            told_ = done_;
            report_(std::min(done_, total_), total_);
        }
    }

  private:
    const BuildProgress& report_;
    std::mutex mutex_;
    double done_ = 0, told_ = 0;
    double total_;
};

Codes project_rows(const Rows& rows, const Projection& projection, const std::vector<std::uint32_t>& which, float* unit,
                   std::size_t threads) {
    Codes codes(which.size());
    std::vector<float> squares(which.size());
    const std::size_t blocks = (which.size() + kBlock - 1) / kBlock;
    parallel_for(threads, blocks, [&](std::size_t block, std::size_t) {
        const std::size_t first = block * kBlock, count = std::min(kBlock, which.size() - first);
        std::vector<float> z(count * kLineCoordinates);
        projection.project(rows, which.data() + first, count, z.data(), squares.data() + first);
        for (std::size_t i = 0; i < count; ++i) {
            const float* coordinates = z.data() + i * kLineCoordinates;
            codes.scale[first + i] = kernels().quantise_int8(coordinates, kLineCoordinates, codes.bytes.data() + (first + i) * kWidth);
            float square = 0;
            for (std::size_t j = 0; j < kLineCoordinates; ++j) square += coordinates[j] * coordinates[j];
            codes.square[first + i] = square;
        }
    });
    double sum = 0, longest = 0;
    for (std::size_t i = 0; i < which.size(); ++i) {
        sum += squares[i];
        longest = std::max<double>(longest, squares[i]);
    }
    *unit = static_cast<float>(std::sqrt(sum / std::max<double>(1, static_cast<double>(which.size()))));
    if (!(*unit > 1e-30f)) *unit = 1.0f;
    for (std::size_t i = 0; i < which.size(); ++i) {
        // Under cosine a row's coordinates stand for all of it: they are stretched to its length, as its line code's factor does.
        if (rows.metric() == Metric::cosine && codes.square[i] > 0) {
            codes.scale[i] *= std::sqrt(squares[i] / codes.square[i]);
            codes.square[i] = squares[i];
        }
        if (rows.metric() == Metric::inner_product) {
            codes.lift[i] = static_cast<float>(std::sqrt(std::max(0.0, longest - codes.square[i])));
            codes.square[i] = static_cast<float>(longest);
        }
    }
    return codes;
}

// Rows of `b` packed for tile_int8, with what turns products into distances.
struct Packed {
    Array<std::uint8_t> bytes;
    void pack(const Codes& codes, const std::uint32_t* which, std::size_t n) {
        std::vector<const std::int8_t*> rows(n);
        for (std::size_t i = 0; i < n; ++i) rows[i] = codes.row(which[i]);
        bytes.resize(round_up(n, 16) * kWidth);
        pack_tile(rows.data(), n, kWidth, bytes.data());
    }
};

// The nearest centre of each listed row.
void assign(const Codes& rows, const std::vector<std::uint32_t>& which, Cells& cells, std::size_t threads, Meter* meter) {
    Packed packed;
    std::vector<std::uint32_t> all(cells.count);
    std::iota(all.begin(), all.end(), 0u);
    packed.pack(cells.centres, all.data(), cells.count);
    constexpr std::size_t kCentres = 512;  // whose products are looked at together
    parallel_for(threads, (which.size() + kBlock - 1) / kBlock, [&](std::size_t block, std::size_t) {
        const std::size_t first = block * kBlock, count = std::min(kBlock, which.size() - first);
        std::vector<std::int8_t> gathered(count * kWidth);
        std::vector<std::int32_t> products(count * kCentres);
        for (std::size_t i = 0; i < count; ++i) std::copy_n(rows.row(which[first + i]), kWidth, gathered.data() + i * kWidth);
        std::vector<float> best(count, kInfinity);
        for (std::size_t c = 0; c < cells.count; c += kCentres) {
            const std::size_t centres = std::min(kCentres, cells.count - c);
            kernels().tile_int8(gathered.data(), count, kWidth, packed.bytes.data() + c * kWidth, (centres + 15) / 16, kWidth,
                                products.data(), kCentres);
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t row = which[first + i];
                const std::int32_t* product = products.data() + i * kCentres;
                const float scale = 2.0f * rows.scale[row], lift = 2.0f * rows.lift[row];
                const float *centre_square = cells.centres.square.data() + c, *centre_scale = cells.centres.scale.data() + c,
                            *centre_lift = cells.centres.lift.data() + c;
                float distance[kCentres];
                for (std::size_t j = 0; j < centres; ++j) {
                    distance[j] = centre_square[j] - scale * centre_scale[j] * static_cast<float>(product[j]) - lift * centre_lift[j];
                }
                for (std::size_t j = 0; j < centres; ++j) {
                    if (distance[j] < best[i]) {
                        best[i] = distance[j];
                        cells.of_row[row] = static_cast<std::uint32_t>(c + j);
                    }
                }
            }
        }
        for (std::size_t i = 0; i < count; ++i) cells.distance[which[first + i]] = best[i];
        if (meter != nullptr) meter->add(static_cast<double>(count) * static_cast<double>(cells.count));
    });
}

// Lloyd's k-means on a sample, then every row to its nearest centre. A cell holds some tens to hundreds of rows; how good the centres are
// matters little, as each row is compared with many cells.
Cells make_cells(const Codes& codes, std::size_t count, const BuildOptions& options, Meter& meter) {
    constexpr std::size_t kSampled = 16, kIterations = 3;
    const std::size_t n = codes.size();
    std::mt19937_64 random(options.seed);
    std::vector<std::uint32_t> all(n), sample;
    std::iota(all.begin(), all.end(), 0u);
    Cells cells;
    cells.count = count;
    cells.centres = Codes(round_up(count, 16));
    cells.of_row.assign(n, 0);
    cells.distance.assign(n, 0.0f);
    std::sample(all.begin(), all.end(), std::back_inserter(sample), static_cast<std::ptrdiff_t>(std::min(n, count * kSampled)), random);
    std::shuffle(sample.begin(), sample.end(), random);
    const auto copy_centre = [&](std::size_t cell, std::size_t row) {
        std::copy_n(codes.row(row), kWidth, cells.centres.bytes.data() + cell * kWidth);
        cells.centres.scale[cell] = codes.scale[row];
        cells.centres.square[cell] = codes.square[row];
        cells.centres.lift[cell] = codes.lift[row];
    };
    for (std::size_t cell = 0; cell < count; ++cell) copy_centre(cell, sample[cell % sample.size()]);
    for (std::size_t iteration = 0; iteration < kIterations && count > 1; ++iteration) {
        assign(codes, sample, cells, options.threads, nullptr);
        std::vector<std::vector<std::uint32_t>> members(count);
        for (const std::uint32_t row : sample) members[cells.of_row[row]].push_back(row);
        parallel_for(options.threads, count, [&](std::size_t cell, std::size_t) {
            if (members[cell].empty()) return;  // stays where it is: few rows lie there
            float mean[kWidth] = {};
            float lift = 0;
            const float share = 1.0f / static_cast<float>(members[cell].size());
            for (const std::uint32_t row : members[cell]) {
                const std::int8_t* code = codes.row(row);
                const float scale = codes.scale[row] * share;
                for (std::size_t j = 0; j < kWidth; ++j) mean[j] += scale * static_cast<float>(code[j]);
                lift += codes.lift[row] * share;
            }
            float square = lift * lift;
            for (const float x : mean) square += x * x;
            cells.centres.scale[cell] = kernels().quantise_int8(mean, kWidth, cells.centres.bytes.data() + cell * kWidth);
            cells.centres.square[cell] = square;
            cells.centres.lift[cell] = lift;
        });
    }
    assign(codes, all, cells, options.threads, &meter);
    return cells;
}

// For each cell the others by distance, itself first, until about `rows_wanted` rows are in them.
std::vector<std::vector<std::uint32_t>> nearest_cells(const Cells& cells, const std::vector<std::size_t>& sizes, std::size_t rows_wanted,
                                                      std::size_t threads) {
    Packed packed;
    std::vector<std::uint32_t> all(cells.count);
    std::iota(all.begin(), all.end(), 0u);
    packed.pack(cells.centres, all.data(), cells.count);
    std::vector<std::vector<std::uint32_t>> near(cells.count);
    parallel_for(threads, cells.count, [&](std::size_t cell, std::size_t) {
        std::vector<std::int32_t> products(round_up(cells.count, 16));
        kernels().tile_int8(cells.centres.row(cell), 1, kWidth, packed.bytes.data(), products.size() / 16, kWidth, products.data(),
                            products.size());
        std::vector<Near> order(cells.count);
        for (std::size_t other = 0; other < cells.count; ++other) {
            order[other] = {other == cell ? -1.0f : cells.centres.between(cell, other, products[other]), static_cast<std::uint32_t>(other)};
        }
        std::sort(order.begin(), order.end());
        std::size_t rows = 0;
        for (std::size_t i = 0; i < order.size() && (rows < rows_wanted || i < 2); ++i) {
            near[cell].push_back(order[i].slot);
            rows += sizes[order[i].slot];
        }
    });
    return near;
}

// The cells in a chain: each next one is the nearest that is left, among those near the last; else any.
std::vector<std::uint32_t> chain(const std::vector<std::vector<std::uint32_t>>& near) {
    std::vector<std::uint32_t> order;
    std::vector<bool> used(near.size(), false);
    std::size_t next_unused = 0;
    for (std::uint32_t cell = 0; order.size() < near.size();) {
        order.push_back(cell);
        used[cell] = true;
        const auto free = std::find_if(near[cell].begin(), near[cell].end(), [&](std::uint32_t other) { return !used[other]; });
        if (free != near[cell].end()) {
            cell = *free;
            continue;
        }
        while (next_unused < near.size() && used[next_unused]) ++next_unused;
        cell = static_cast<std::uint32_t>(next_unused);
    }
    return order;
}

// Sorts by distance; equal ones stay as they came. Short lists by rank, without a branch for each comparison.
class Sorter {
  public:
    void sort(std::vector<Near>& all) {
        constexpr std::size_t kRanked = 256;
        const std::size_t n = all.size();
        if (n > kRanked) {
            std::stable_sort(all.begin(), all.end(), [](const Near& a, const Near& b) { return a.distance < b.distance; });
            return;
        }
        float distances[kRanked];
        std::uint16_t ranks[kRanked];
        for (std::size_t i = 0; i < n; ++i) distances[i] = all[i].distance;
        kernels().rank(distances, n, ranks);
        sorted_.assign(n, Near{0.0f, kNoLink});
        for (std::size_t i = 0; i < n; ++i) {
            std::size_t place = ranks[i];
            while (sorted_[place].slot != kNoLink) ++place;  // equal ones share a rank, and have places behind it
            sorted_[place] = all[i];
        }
        all.swap(sorted_);
    }

  private:
    std::vector<Near> sorted_;
};

// Keeps the nearest `k` of what is offered.
class Nearest {
  public:
    explicit Nearest(std::size_t k) : k_(k) { kept_.reserve(2 * k); }
    float threshold() const { return threshold_; }
    void offer(Near near) {
        kept_.push_back(near);
        if (kept_.size() == 2 * k_) cut();
    }
    std::vector<Near>& take() {
        if (kept_.size() > k_) cut();
        sorter_.sort(kept_);
        return kept_;
    }
    void clear() {
        kept_.clear();
        threshold_ = kInfinity;
    }

  private:
    void cut() {
        std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), kept_.end());
        kept_.resize(k_);
        threshold_ = kept_.back().distance;
    }
    std::size_t k_;
    float threshold_ = kInfinity;
    std::vector<Near> kept_;
    Sorter sorter_;
};

// Chooses links among candidates in rising distance: one is passed over while some link is nearer to it than the row is, by the round's
// factor. A link's distances to all later candidates are one call of a kernel; codes and lengths are first copied side by side, as each is
// looked at some ten times.
class Pruner {
  public:
    Pruner(const Codes& codes, float alpha) : codes_(codes), alpha_(alpha) {}

    std::size_t prune(std::uint32_t slot, const std::vector<Near>& candidates, Near* links) {
        const std::size_t n = candidates.size();
        copy(candidates);
        std::size_t count = 0;
        for (float round = 1.0f; count < kDegree; round = std::min(alpha_, round * 1.2f)) {
            for (std::size_t i = 0; i < n && count < kDegree; ++i) {
                if (occlusion_[i] > round || candidates[i].slot == slot) continue;
                links[count++] = candidates[i];
                occlusion_[i] = kInfinity;
                if (count < kDegree) occlude(candidates, i);
            }
            if (round >= alpha_) break;
        }
        return count;
    }

  private:
    void copy(const std::vector<Near>& candidates) {
        const std::size_t n = candidates.size();
        occlusion_.assign(n, 0.0f);
        products_.resize(n);
        places_.resize(n);
        if (bytes_.size() < n * kWidth) {
            bytes_.resize(n * kWidth);
            scale_.resize(n);
            square_.resize(n);
            lift_.resize(n);
        }
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t from = candidates[i].slot;
            std::copy_n(codes_.row(from), kWidth, bytes_.data() + i * kWidth);
            scale_[i] = codes_.scale[from];
            square_[i] = codes_.square[from];
            lift_[i] = codes_.lift[from];
        }
    }

    void occlude(const std::vector<Near>& candidates, std::size_t link) {
        std::size_t count = 0;
        for (std::size_t i = link + 1; i < candidates.size(); ++i) {
            places_[count] = static_cast<std::uint32_t>(i);
            count += occlusion_[i] <= alpha_ ? 1 : 0;
        }
        kernels_.inner_product_int8_at(bytes_.data() + link * kWidth, bytes_.data(), places_.data(), count, kWidth, kWidth,
                                       products_.data());
        const float scale = 2.0f * scale_[link], lift = 2.0f * lift_[link];
        for (std::size_t p = 0; p < count; ++p) {
            const std::size_t i = places_[p];
            const float between = square_[link] + square_[i] - scale * scale_[i] * static_cast<float>(products_[p]) - lift * lift_[i];
            const float ratio = between > 0 ? candidates[i].distance / between : kInfinity;
            occlusion_[i] = std::max(occlusion_[i], ratio);
        }
    }

    const Codes& codes_;
    const Kernels& kernels_ = kernels();
    float alpha_;
    Array<std::int8_t> bytes_;
    std::vector<float> scale_, square_, lift_, occlusion_;
    std::vector<std::uint32_t> places_;
    std::vector<std::int32_t> products_;
};

using Links = std::vector<Near>;  // kDegree for each slot, unused ones with kNoLink

// Candidates by cells, pruned.
void link_cells(const Codes& codes, const std::vector<std::size_t>& begins, const std::vector<std::vector<std::uint32_t>>& near,
                const BuildOptions& options, Links& links, Meter& meter) {
    const std::size_t cells = begins.size() - 1;
    std::vector<std::size_t> packed_at(cells + 1, 0);
    for (std::size_t c = 0; c < cells; ++c) packed_at[c + 1] = packed_at[c] + round_up(begins[c + 1] - begins[c], 16);
    Array<std::uint8_t> packed(packed_at.back() * kWidth);
    parallel_for(options.threads, cells, [&](std::size_t c, std::size_t) {
        std::vector<const std::int8_t*> rows(begins[c + 1] - begins[c]);
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = codes.row(begins[c] + i);
        pack_tile(rows.data(), rows.size(), kWidth, packed.data() + packed_at[c] * kWidth);
    });
    parallel_for(options.threads, cells, [&](std::size_t cell, std::size_t) {
        constexpr std::size_t kOthers = 256;
        const Kernels& kernel = kernels();
        Pruner pruner(codes, options.alpha);
        std::vector<Nearest> nearest(kBlock, Nearest(options.candidates));
        std::vector<std::int32_t> products(kBlock * kOthers);
        for (std::size_t first = begins[cell]; first < begins[cell + 1]; first += kBlock) {
            const std::size_t count = std::min(kBlock, begins[cell + 1] - first);
            for (std::size_t i = 0; i < count; ++i) nearest[i].clear();
            for (const std::uint32_t other : near[cell]) {
                for (std::size_t at = begins[other]; at < begins[other + 1]; at += kOthers) {
                    const std::size_t others = std::min(kOthers, begins[other + 1] - at);
                    kernel.tile_int8(codes.row(first), count, kWidth, packed.data() + (packed_at[other] + at - begins[other]) * kWidth,
                                     (others + 15) / 16, kWidth, products.data(), kOthers);
                    for (std::size_t i = 0; i < count; ++i) {
                        float distance[kOthers];
                        std::uint32_t passing[kOthers];
                        const std::int32_t* product = products.data() + i * kOthers;
                        const float scale = 2.0f * codes.scale[first + i], lift = 2.0f * codes.lift[first + i];
                        const float base = codes.square[first + i];
                        const float *square = codes.square.data() + at, *scales = codes.scale.data() + at, *lifts = codes.lift.data() + at;
                        for (std::size_t j = 0; j < others; ++j) {
                            distance[j] = base + square[j] - scale * scales[j] * static_cast<float>(product[j]) - lift * lifts[j];
                        }
                        const std::size_t found = kernel.select_below(distance, others, nearest[i].threshold(), passing);
                        for (std::size_t p = 0; p < found; ++p) {
                            const auto slot = static_cast<std::uint32_t>(at + passing[p]);
                            if (slot != first + i) nearest[i].offer({std::max(0.0f, distance[passing[p]]), slot});
                        }
                    }
                }
            }
            for (std::size_t i = 0; i < count; ++i) {
                Near* to = links.data() + (first + i) * kDegree;
                const std::size_t degree = pruner.prune(static_cast<std::uint32_t>(first + i), nearest[i].take(), to);
                std::fill(to + degree, to + kDegree, Near{kInfinity, kNoLink});
            }
            meter.add(static_cast<double>(count) * static_cast<double>(options.compared_rows));
        }
    });
}

// Offers every link to its target as well, and prunes what is then too much.
void link_back(const Codes& codes, const BuildOptions& options, Links& links) {
    const std::size_t n = codes.size();
    std::vector<std::uint32_t> begins(n + 1, 0);
    for (const Near& link : links) {
        if (link.slot != kNoLink) ++begins[link.slot + 1];
    }
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
    std::vector<Near> backward(begins.back());
    {
        std::vector<std::uint32_t> next(begins.begin(), begins.end() - 1);
        for (std::size_t slot = 0; slot < n; ++slot) {
            for (std::size_t e = 0; e < kDegree && links[slot * kDegree + e].slot != kNoLink; ++e) {
                const Near& link = links[slot * kDegree + e];
                backward[next[link.slot]++] = {link.distance, static_cast<std::uint32_t>(slot)};
            }
        }
    }
    constexpr std::size_t kSlots = 256;
    parallel_for(options.threads, (n + kSlots - 1) / kSlots, [&](std::size_t block, std::size_t) {
        Pruner pruner(codes, options.alpha);
        std::vector<Near> candidates;
        for (std::size_t slot = block * kSlots; slot < std::min(n, (block + 1) * kSlots); ++slot) {
            Near* own = links.data() + slot * kDegree;
            candidates.clear();
            for (std::size_t e = 0; e < kDegree && own[e].slot != kNoLink; ++e) candidates.push_back(own[e]);
            auto from = backward.begin() + begins[slot], to = backward.begin() + begins[slot + 1];
            if (to - from > static_cast<std::ptrdiff_t>(kReverse)) {
                std::nth_element(from, from + kReverse, to);
                to = from + kReverse;
            }
            candidates.insert(candidates.end(), from, to);
            std::sort(candidates.begin(), candidates.end());
            candidates.erase(
                std::unique(candidates.begin(), candidates.end(), [](const Near& a, const Near& b) { return a.slot == b.slot; }),
                candidates.end());
            std::size_t degree = candidates.size();
            if (degree <= kDegree) {
                std::copy(candidates.begin(), candidates.end(), own);
            } else {
                degree = pruner.prune(static_cast<std::uint32_t>(slot), candidates, own);
            }
            std::fill(own + degree, own + kDegree, Near{kInfinity, kNoLink});
        }
    });
}

void store_links(const Links& links, Graph& graph) {
    for (std::size_t slot = 0; slot < graph.slots(); ++slot) {
        std::uint32_t* to = graph.links(slot);
        for (std::size_t e = 0; e < kDegree; ++e) to[e] = links[slot * kDegree + e].slot;
    }
}

// Every row searches for itself; what its walk met are its new candidates.
void link_walks(const Codes& codes, const Projection& projection, const LineCodes& lines, const Graph& graph, const BuildOptions& options,
                Links& links, Meter& meter) {
    constexpr std::size_t kSlots = 64;
    const std::size_t n = codes.size();
    struct Worker {
        Walk walk;
        std::vector<std::uint32_t> offered;  // of each slot, the last row to which it was offered
        std::uint32_t stamp = 0;
    };
    std::vector<Worker> workers(std::max<std::size_t>(1, options.threads));
    parallel_for(options.threads, (n + kSlots - 1) / kSlots, [&](std::size_t block, std::size_t worker) {
        Walk& walk = workers[worker].walk;
        std::vector<std::uint32_t>& offered = workers[worker].offered;
        std::uint32_t& stamp = workers[worker].stamp;
        offered.resize(n, 0);
        Pruner pruner(codes, options.alpha);
        Sorter sorter;
        std::vector<Near> candidates;
        std::vector<std::uint32_t> ids;
        std::vector<std::int32_t> products;
        const std::size_t end = std::min(n, (block + 1) * kSlots);
        for (std::size_t slot = block * kSlots; slot < end; ++slot) {
            float coordinates[kLineCoordinates];
            for (std::size_t j = 0; j < kLineCoordinates; ++j) coordinates[j] = codes.scale[slot] * static_cast<float>(codes.row(slot)[j]);
            projection.as_query(coordinates);
            LineQuery query;
            lines.prepare(coordinates, query);
            graph.walk(kernels(), lines, query, {options.walk_hops, options.walk_pool, 0, kInfinity, false}, walk, nullptr);
            Near* own = links.data() + slot * kDegree;
            ids.clear();
            const auto offer = [&](std::uint32_t other) {
                if (std::exchange(offered[other], stamp) != stamp) ids.push_back(other);
            };
            ++stamp;
            for (const std::uint32_t other : walk.popped) offer(other);
            for (std::size_t i = 0; i < walk.pool.size; ++i) offer(walk.pool.id[i]);
            for (std::size_t e = 0; e < kDegree && own[e].slot != kNoLink; ++e) offer(own[e].slot);
            products.resize(ids.size());
            kernels().inner_product_int8_at(codes.row(slot), codes.bytes.data(), ids.data(), ids.size(), kWidth, kWidth, products.data());
            candidates.clear();
            for (std::size_t i = 0; i < ids.size(); ++i) {
                if (ids[i] != slot) candidates.push_back({codes.between(slot, ids[i], products[i]), ids[i]});
            }
            sorter.sort(candidates);
            const std::size_t degree = pruner.prune(static_cast<std::uint32_t>(slot), candidates, own);
            std::fill(own + degree, own + kDegree, Near{kInfinity, kNoLink});
        }
        meter.add(static_cast<double>(end - block * kSlots) * static_cast<double>(options.compared_rows));
    });
}

// Gives every slot that no walk could reach a link from one that is reached: its own nearest link if that has room, else in place of that
// one's last link to a slot that others reach as well.
void connect(Graph& graph, const std::vector<std::uint32_t>& entries) {
    const std::size_t n = graph.slots();
    std::vector<std::uint32_t> in_degree(n, 0), stack;
    for (std::size_t slot = 0; slot < n; ++slot) {
        for (std::size_t e = 0; e < kDegree && graph.links(slot)[e] != kNoLink; ++e) ++in_degree[graph.links(slot)[e]];
    }
    std::vector<bool> reached(n, false);
    const auto reach_from = [&](std::uint32_t start) {
        if (reached[start]) return;
        reached[start] = true;
        stack.assign(1, start);
        while (!stack.empty()) {
            const std::uint32_t slot = stack.back();
            stack.pop_back();
            for (std::size_t e = 0; e < kDegree && graph.links(slot)[e] != kNoLink; ++e) {
                const std::uint32_t to = graph.links(slot)[e];
                if (reached[to]) continue;
                reached[to] = true;
                stack.push_back(to);
            }
        }
    };
    for (const std::uint32_t entry : entries) reach_from(entry);
    for (std::uint32_t slot = 0; slot < n; ++slot) {
        if (reached[slot]) continue;
        std::uint32_t host = entries[slot % entries.size()];
        for (std::size_t e = 0; e < kDegree && graph.links(slot)[e] != kNoLink; ++e) {
            if (!reached[graph.links(slot)[e]]) continue;
            host = graph.links(slot)[e];
            break;
        }
        std::uint32_t* to = graph.links(host);
        std::size_t place = graph.degree(host);
        if (place == kDegree) {
            place = kDegree - 1;
            while (place > 0 && in_degree[to[place]] < 2) --place;
            --in_degree[to[place]];
        }
        to[place] = slot;
        ++in_degree[slot];
        reach_from(slot);
    }
}

}  // namespace

BuiltGraph build_graph(const Rows& rows, const Projection& projection, const std::vector<std::uint32_t>& rows_in,
                       const BuildOptions& options, const BuildProgress& progress) {
    const std::size_t n = rows_in.size();
    BuiltGraph built;
    float unit = 1.0f;
    Codes unordered = project_rows(rows, projection, rows_in, &unit, options.threads);
    built.codes.reset(rows.metric(), unit);
    if (n == 0) return built;

    const std::size_t cell_count = cells_of(n);
    const double work =
        static_cast<double>(n) * static_cast<double>(cell_count + options.compared_rows + options.rounds * options.compared_rows);
    Meter meter(progress, work);
    const Cells cells = make_cells(unordered, cell_count, options, meter);

    // Slots: cells in their chain's order, rows within a cell as they came.
    std::vector<std::size_t> sizes(cell_count, 0);
    for (const std::uint32_t cell : cells.of_row) ++sizes[cell];
    const auto near_by_cell = nearest_cells(cells, sizes, options.compared_rows, options.threads);
    const std::vector<std::uint32_t> order = chain(near_by_cell);
    std::vector<std::uint32_t> place(cell_count);
    std::vector<std::size_t> begins(cell_count + 1, 0);
    for (std::size_t i = 0; i < cell_count; ++i) {
        place[order[i]] = static_cast<std::uint32_t>(i);
        begins[i + 1] = begins[i] + sizes[order[i]];
    }
    std::vector<std::vector<std::uint32_t>> near(cell_count);
    for (std::size_t i = 0; i < cell_count; ++i) {
        for (const std::uint32_t other : near_by_cell[order[i]]) near[i].push_back(place[other]);
    }
    std::vector<std::uint32_t> unordered_of_slot(n);
    std::vector<Near> middle(cell_count, Near{kInfinity, kNoLink});  // of each cell: the slot nearest to its centre
    {
        std::vector<std::size_t> next(begins.begin(), begins.end() - 1);
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint32_t cell = place[cells.of_row[i]];
            const auto slot = static_cast<std::uint32_t>(next[cell]++);
            unordered_of_slot[slot] = static_cast<std::uint32_t>(i);
            middle[cell] = std::min(middle[cell], Near{cells.distance[i] + unordered.square[i], slot});
        }
    }
    Codes codes(n);
    built.row_of_slot.resize(n);
    built.codes.resize(n);
    parallel_for(options.threads, (n + kBlock - 1) / kBlock, [&](std::size_t block, std::size_t) {
        for (std::size_t slot = block * kBlock; slot < std::min(n, (block + 1) * kBlock); ++slot) {
            const std::size_t from = unordered_of_slot[slot];
            std::copy_n(unordered.row(from), kWidth, codes.bytes.data() + slot * kWidth);
            codes.scale[slot] = unordered.scale[from];
            codes.square[slot] = unordered.square[from];
            codes.lift[slot] = unordered.lift[from];
            built.row_of_slot[slot] = rows_in[from];
            float z[kLineCoordinates], square;
            projection.project(rows, &rows_in[from], 1, z, &square);
            built.codes.encode(slot, z, square);
        }
    });
    unordered = Codes(0);

    std::vector<std::uint32_t> entries;
    std::erase_if(middle, [](const Near& m) { return m.slot == kNoLink; });
    for (const Near& m : middle) entries.push_back(m.slot);
    built.graph.resize(n);
    built.graph.set_entries(built.codes, entries);

    Links links(n * kDegree, Near{kInfinity, kNoLink});
    link_cells(codes, begins, near, options, links, meter);
    link_back(codes, options, links);
    store_links(links, built.graph);
    connect(built.graph, entries);
    for (std::size_t round = 0; round < options.rounds; ++round) {
        link_walks(codes, projection, built.codes, built.graph, options, links, meter);
        link_back(codes, options, links);
        store_links(links, built.graph);
        connect(built.graph, entries);
    }
    return built;
}

}  // namespace mrl
