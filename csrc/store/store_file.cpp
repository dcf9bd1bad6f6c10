#include "store_file.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mrl {
namespace {

constexpr std::uint64_t kMostDims = 16'000;  // pgvector's
constexpr std::uint64_t kMostFlatCodes = 16;
constexpr float kMostAlpha = 1e6f;

// What a store is made with, before its arrays.
struct Form {
    std::uint32_t metric = 0, key_type = 0;
    std::uint64_t dims = 0;
    bool keeps_vectors = false;

    template <class Visitor>
    void visit(Visitor& v) {
        v.value("metric", metric);
        v.value("dims", dims);
        v.value("key_type", key_type);
        v.flag("keeps_vectors", keeps_vectors);
    }
    bool is_valid() const {
        return metric < std::size(kMetrics) && key_type < std::size(kKeyTypes) && dims >= 1 &&
               dims <= kMostDims;
    }
};

// What flat codes are made with.
struct FlatForm {
    std::uint64_t dims = 0;
    std::uint32_t precision = 0, space = 0;

    template <class Visitor>
    void visit(Visitor& v) {
        v.value("dims", dims);
        v.value("precision", precision);
        v.value("space", space);
    }
    FlatCodes make(const Store& store) const {
        const auto coded = static_cast<Precision>(precision);
        const bool projected = space == static_cast<std::uint32_t>(Space::projection);
        const bool fits = projected ? store.projection && dims == kLineCoordinates
                                    : space == 0 && dims >= 1 && dims <= store.dims();
        if (!fits || !FlatCodes::keeps(coded)) {
            throw FileError("no such codes");
        }
        return {store.metric(), projected ? Space::projection : Space::prefix, dims, coded, {}};
    }
};

template <class Visitor>
void visit(Store& store, Visitor& v) {
    store.rows.visit(v);
    store.keys.visit(v);
    bool has_projection = store.projection.has_value();
    v.flag("projection", has_projection);
    if (has_projection) {
        if (!store.projection) store.projection.emplace();
        store.projection->visit(v);
    }
    v.flag("has_line_codes", store.has_line_codes);
    if (store.has_line_codes) store.lines.visit(v);
    v.flag("has_graph", store.has_graph);
    v.value("alpha", store.alpha);
    v.value("effort", store.effort);
    if (store.has_graph) {
        store.links.visit(v);
        v.list("graph.entries", store.entries.slots);  // the rest is made from them
        v.list("waiting", store.waiting);
    }
    v.array("row_of_slot", store.row_of_slots);
    v.array("slot_of_row", store.slot_of_rows);
    std::uint64_t flats = store.flat.size();
    v.value("flats", flats);
    if (flats > kMostFlatCodes) throw FileError("too many codes");
    for (std::size_t i = 0; i < flats; ++i) {
        v.prefix = "flat" + std::to_string(i) + ".";
        FlatForm form;
        if (i < store.flat.size()) {
            const FlatCodes& codes = store.flat[i];
            form = {.dims = codes.dims(),
                    .precision = static_cast<std::uint32_t>(codes.precision()),
                    .space = static_cast<std::uint32_t>(codes.space())};
        }
        form.visit(v);
        if (i >= store.flat.size()) store.flat.push_back(form.make(store));
        store.flat[i].visit(v);
        v.prefix.clear();
    }
    v.array("deleted", store.deleted.words());
    v.list("free_rows", store.free_rows);
    v.value("marked", store.marked);
    v.value("longest_square", store.longest_square);
}

template <class Numbers>
bool are_below(const Numbers& numbers, std::size_t n) {
    return std::all_of(numbers.data(), numbers.data() + numbers.size(),
                       [n](std::uint32_t x) { return x < n; });
}

bool are_inverse(Array<std::uint32_t>& row_of_slots, Array<std::uint32_t>& slot_of_rows,
                 std::size_t n) {
    if (row_of_slots.size() != slot_of_rows.size()) return false;
    if (!row_of_slots.empty() && row_of_slots.size() != n) return false;
    for (std::size_t slot = 0; slot < row_of_slots.size(); ++slot) {
        if (row_of_slots[slot] >= n || slot_of_rows[row_of_slots[slot]] != slot) return false;
    }
    return true;
}

// Finishes what came out of a file; false when its parts do not fit one another.
bool restore(Store& store) {
    const std::size_t n = store.rows.size();
    const Array<std::uint64_t>& deleted = store.deleted.words();
    if (n >= kNoLink || !store.rows.is_valid()) return false;
    if (deleted.size() != (n + 63) / 64) return false;
    if (n % 64 != 0 && deleted[n / 64] >> (n % 64) != 0) return false;
    store.born.resize(n);
    const std::size_t gone = store.deleted.count();
    store.live = n - gone;
    store.dead = gone;
    store.publish();
    if (!store.keys.restore(n, store.live) || store.marked > gone) return false;
    if (store.projection && !store.projection->restore(store.metric(), store.dims())) return false;
    if ((store.has_line_codes || store.has_graph) && !store.projection) return false;
    if (store.has_graph && !store.has_line_codes) return false;
    if (store.has_line_codes && !store.lines.restore(store.metric(), n)) return false;
    if (!(store.alpha >= 1.0f && store.alpha <= kMostAlpha)) return false;
    if (store.has_graph && (!store.links.is_valid(n) || store.entries.size() > kMostEntries ||
                            !are_below(store.entries.slots, n) || !are_below(store.waiting, n))) {
        return false;
    }
    if (!are_below(store.free_rows, n)) return false;
    for (const std::uint32_t row : store.free_rows) {
        if (!store.deleted.test(row)) return false;
    }
    if (!are_inverse(store.row_of_slots, store.slot_of_rows, n)) return false;
    return std::all_of(store.flat.begin(), store.flat.end(),
                       [n](const FlatCodes& codes) { return codes.is_valid(n); });
}

}  // namespace

void save_store(Store& store, const std::string& path, const std::string& about,
                std::size_t threads) {
    FileWriter writer;
    Form form{.metric = static_cast<std::uint32_t>(store.metric()),
              .key_type = static_cast<std::uint32_t>(store.keys.type()),
              .dims = store.dims(),
              .keeps_vectors = store.rows.keeps_vectors()};
    const std::vector<char> text(about.begin(), about.end());
    writer.list("about", text);
    form.visit(writer);
    visit(store, writer);
    writer.write(path, threads);
}

std::string about_file(const std::string& path) {
    FileReader reader(path, 1, FileReader::Checks::lists);
    std::vector<char> text;
    reader.list("about", text);
    return {text.begin(), text.end()};
}

Store open_store(const std::string& path, std::string& about, std::size_t threads) {
    FileReader reader(path, threads);
    std::vector<char> text;
    Form form;
    reader.list("about", text);
    form.visit(reader);
    if (!form.is_valid()) throw FileError("the file is of no index that could be");
    Store store(static_cast<Metric>(form.metric), form.dims, static_cast<KeyType>(form.key_type),
                form.keeps_vectors);
    visit(store, reader);
    if (!restore(store)) throw FileError("the file's parts do not fit one another");
    about.assign(text.begin(), text.end());
    return store;
}

}  // namespace mrl
