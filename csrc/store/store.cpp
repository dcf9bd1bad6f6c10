#include "store.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "../system/thread_pool.hpp"
#include "line_spread.hpp"

namespace mrl {
namespace {

constexpr std::size_t kBlock = 96;                                // rows projected together
constexpr std::size_t kFew = 64;                                  // numbers that a list begins with
constexpr std::size_t kMany = kHugePage / sizeof(std::uint32_t);  // and goes on with
// How many of the rows that took dead ones' places, and of those that died, are known: the last.
constexpr std::size_t kReborn = 65536, kDied = 4096;

// Calls take(row, coordinates, |y|^2) for every row, block by block.
template <class Take>
void project_all(const Rows& rows, const Projection& projection, std::size_t threads, Take&& take) {
    parallel_for(threads, (rows.size() + kBlock - 1) / kBlock, [&](std::size_t block, std::size_t) {
        const std::size_t first = block * kBlock, count = std::min(kBlock, rows.size() - first);
        std::vector<std::uint32_t> which(count);
        std::iota(which.begin(), which.end(), static_cast<std::uint32_t>(first));
        std::vector<float> z(count * kLineCoordinates), squares(count);
        projection.project(rows, which.data(), count, z.data(), squares.data());
        for (std::size_t i = 0; i < count; ++i) {
            take(first + i, z.data() + i * kLineCoordinates, squares[i]);
        }
    });
}

}  // namespace

RowFilter Store::filter(const Selection* selection) const {
    return {
        .deleted = &deleted, .selection = selection, .born = &born, .row_of_slots = &row_of_slots};
}

const FlatCodes* Store::flat_codes(Space space, std::size_t width, Precision precision) const {
    for (const FlatCodes& codes : flat) {
        const bool as_wide = space == Space::projection
                                 ? width == std::min(dims(), kLineCoordinates)
                                 : width == codes.dims();
        if (codes.space() == space && codes.precision() == precision && as_wide) return &codes;
    }
    return nullptr;
}

std::size_t Store::bytes() const {
    std::size_t sum = rows.bytes() + keys.bytes() + lines.bytes() + links.bytes() +
                      entries.bytes() + row_of_slots.bytes() + slot_of_rows.bytes() +
                      deleted.words().bytes() + born.bytes();
    for (const FlatCodes& codes : flat) sum += codes.bytes();
    if (projection) sum += projection->bytes();
    return sum;
}

void Store::reserve(std::size_t n) {
    rows.reserve(n);
    keys.reserve(n);
}

void Store::append(const KeySpan& more, const float* vectors, std::size_t vector_stride,
                   std::size_t threads) {
    if (has_graph || has_line_codes || !flat.empty())
        throw std::logic_error("rows are appended before codes are made");
    const std::size_t first = rows.size();
    if (first + more.n >= kNoLink) {
        throw std::length_error("an index holds at most 4,294,967,294 rows");
    }
    rows.append(vectors, more.n, vector_stride, threads);
    for (std::size_t i = 0; i < more.n; ++i) {
        keys.set(first + i, more.at(i));
        longest_square = std::max<double>(longest_square, rows.square(first + i));
    }
    deleted.resize(rows.size());
    born.resize(rows.size());
    live += more.n;
    publish();
}

std::vector<float> Store::sample(std::size_t n) const {
    const std::size_t count = std::min(n, rows.size());
    std::vector<float> vectors(count * dims());
    for (std::size_t i = 0; i < count; ++i) {
        rows.decode(i * rows.size() / count, vectors.data() + i * dims());
    }
    return vectors;
}

void Store::add_flat_codes(Space space, std::size_t width, Precision precision, const float* mean,
                           std::size_t threads) {
    if (flat_codes(space, width, precision) != nullptr) return;
    const bool projected = space == Space::projection;
    if (projected && !projection) throw std::logic_error("codes of the projection need one");
    FlatCodes codes(
        metric(), space, projected ? kLineCoordinates : width, precision,
        mean == nullptr ? std::vector<float>{} : std::vector<float>(mean, mean + width));
    codes.resize(rows.size());
    if (projected) {
        project_all(rows, *projection, threads, [&](std::size_t row, const float* z, float square) {
            codes.encode(row, z, square);
        });
    } else {
        parallel_for(threads, (rows.size() + kBlock - 1) / kBlock, [&](std::size_t b, std::size_t) {
            std::vector<float> vector(dims());
            for (std::size_t row = b * kBlock; row < std::min(rows.size(), (b + 1) * kBlock);
                 ++row) {
                if (!rows.keeps_vectors()) rows.decode(row, vector.data());
                codes.encode(row, rows.keeps_vectors() ? rows.vector(row) : vector.data());
            }
        });
    }
    flat.push_back(std::move(codes));
}

// Twice over the rows: their unit is the rms of |y| over all of them.
void Store::add_line_codes(std::size_t threads) {
    if (!projection) throw std::logic_error("line codes need a projection");
    std::vector<double> sums((rows.size() + kBlock - 1) / kBlock, 0.0);
    project_all(rows, *projection, threads,
                [&](std::size_t row, const float*, float square) { sums[row / kBlock] += square; });
    const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
    lines.reset(metric(), unit_of(sum, rows.size()));
    lines.resize(rows.size());
    project_all(rows, *projection, threads, [&](std::size_t row, const float* z, float square) {
        lines.encode(row, z, square);
    });
    lines.set_spread(measure_spread(rows, *projection));
    has_line_codes = true;
}

// Whatever may want memory, before anything is changed.
bool Store::make_room(std::string_view key, std::size_t rows_after, std::size_t more,
                      Growth growth) {
    keys.make_room(rows_after, key, more, growth);
    bool has_room = true;
    if (rows_after > rows.size()) {
        has_room &= deleted.make_room(rows_after, growth);
        has_room &= born.make_room(rows_after, growth);
        if (!row_of_slots.empty()) {
            has_room &= row_of_slots.make_room(rows_after, growth);
            has_room &= slot_of_rows.make_room(rows_after, growth);
        }
        if (has_graph) has_room &= links.make_room(rows_after, growth);
        if (has_line_codes) has_room &= lines.make_room(rows_after, growth);
        for (FlatCodes& codes : flat) has_room &= codes.make_room(rows_after, growth);
        has_room &= rows.make_room(rows_after, growth);
    }
    if (has_graph) {  // it moves twice at most: from the second time on it grows in place
        const std::size_t waits = waiting.size() + more;
        has_room &= growth == Growth::moves && !waiting.has_room(waits)
                        ? waiting.make_room(std::max(waiting.empty() ? kFew : kMany, waits))
                        : waiting.make_room(waits, growth);
    }
    if (growth == Growth::in_place) return has_room;
    if (free_rows.size() == free_rows.capacity())
        free_rows.reserve(std::max(kFew, 2 * free_rows.size()));
    if (rows_after == rows.size()) reborn.resize(kReborn);
    return true;
}

bool Store::prepare(std::size_t more, Growth growth) {
    return make_room({}, rows.size() + more, more, growth);
}

// All arrays but the rows themselves and the keys.
void Store::lengthen(std::size_t rows_after) {
    deleted.resize(rows_after);
    born.resize(rows_after);
    if (!row_of_slots.empty()) {
        row_of_slots.resize(rows_after);
        slot_of_rows.resize(rows_after);
    }
    if (has_graph) links.resize(rows_after);
    if (has_line_codes) lines.resize(rows_after);
    for (FlatCodes& codes : flat) codes.resize(rows_after);
}

void Store::put(std::string_view key, const float* vector) {
    const std::uint32_t before = keys.find(key);
    const bool replaces = before != Keys::kNone && !has_graph;  // its own number, at once
    const bool next = free_rows.empty() && !replaces;
    make_room(key, rows.size() + (next ? 1 : 0), 1, Growth::moves);
    if (before != Keys::kNone) remove(before);
    std::uint32_t row;
    if (!next) {
        row = free_rows.back();
        free_rows.pop_back();
        rows.replace(row, vector);
        born[row] = ++epoch;
        reborn[epoch % reborn.size()] = row;
        deleted.clear(row);
    } else {
        return append(key, vector);
    }
    keys.set(row, key);
    encode(row, vector);
    --dead;
    come_alive(row);
}

void Store::append(std::string_view key, const float* vector) {
    const auto row = static_cast<std::uint32_t>(rows.size());
    rows.write_ahead(vector);
    if (!row_of_slots.empty()) row_of_slots.data()[row] = slot_of_rows.data()[row] = row;
    encode(row, vector);
    keys.set(row, key);
    lengthen(row + 1);
    rows.lengthen(row + 1);
    come_alive(row);
}

void Store::come_alive(std::uint32_t row) {
    ++live;
    const std::uint32_t slot = slot_of(row);
    if (has_graph) waiting.append(&slot, 1);
    publish();
}

bool Store::append_beside(std::string_view key, const float* vector) {
    if (!free_rows.empty() || !has_room(key) || keys.find(key) != Keys::kNone) return false;
    append(key, vector);
    return true;
}

bool Store::has_room(std::string_view key) const {
    const std::size_t n = rows.size() + 1;
    return keys.has_room(key) && rows.has_room(n) && deleted.has_room(n) && born.has_room(n) &&
           (row_of_slots.empty() || (row_of_slots.has_room(n) && slot_of_rows.has_room(n))) &&
           (!has_graph || (links.has_room(n) && waiting.has_room(waiting.size() + 1))) &&
           (!has_line_codes || lines.has_room(n)) &&
           std::all_of(flat.begin(), flat.end(),
                       [n](const FlatCodes& codes) { return codes.has_room(n); });
}

void Store::encode(std::uint32_t row, const float* vector) {
    if (rows.square(row) > longest_square) longest_square = rows.square(row);
    float coordinates[kLineCoordinates], square = 0;
    if (projection) projection->project(rows, &row, 1, coordinates, &square);
    if (has_line_codes) lines.encode(slot_of(row), coordinates, square);
    for (FlatCodes& codes : flat) {
        if (codes.space() == Space::projection) {
            codes.encode(row, coordinates, square);
        } else {
            codes.encode(row, vector);
        }
    }
}

void Store::remove(std::uint32_t row) {
    if (died.empty()) died.resize(kDied);
    died[++deaths % died.size()] = row;
    keys.erase(row);
    deleted.set(row);
    --live;
    ++dead;
    if (has_graph) {
        ++marked;
    } else {
        free_rows.push_back(row);
    }
}

}  // namespace mrl
