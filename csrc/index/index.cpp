#include "index.hpp"

#include <algorithm>
#include <new>
#include <shared_mutex>
#include <span>
#include <utility>

#include "../graph/detour.hpp"
#include "../graph/heal.hpp"
#include "../graph/link.hpp"
#include "../search/entries.hpp"
#include "../store/store_file.hpp"
#include "../system/thread_pool.hpp"

namespace mrl {
namespace {

constexpr std::size_t kPutTogether = 32;      // rows put while searches wait …
constexpr std::size_t kLinkedTogether = 512;  // … and slots whose links are changed

}  // namespace

// Searches go on between changes, so a change is small.
template <class Change>
void Index::write(Section& section, std::size_t size, Change&& change) {
    struct Writing {
        explicit Writing(Index& of) : index(of), hold(of.lock_) {}
        ~Writing() { index.live_.store(index.store_.live, std::memory_order_relaxed); }
        Index& index;
        const std::unique_lock<FairLock> hold;
    };
    const Writing writing(*this);
    const InSection counted(section, size);
    change();
}

std::uint64_t Index::next_number() {
    static std::atomic<std::uint64_t> number{0};
    return ++number;
}

// What threads of the parent had borrowed stays with them, unused.
void Index::renew_locks() {
    new (&lock_) FairLock(kPatience);
    new (&writer_) FairLock;
    new (&graph_) FairLock;
    new (&appends_) FairLock;
    new (&scratches_) ScratchPool;
}

// Loading

void Index::append(const KeySpan& keys, const float* vectors, std::size_t vector_stride,
                   std::size_t threads) {
    store_.append(keys, vectors, vector_stride, threads);
    live_ = store_.live;
}

std::vector<float> Index::sample(std::size_t n) const {
    const std::shared_lock reading(lock_);
    return store_.sample(n);
}

void Index::set_projection(const float* matrix, const float* mean) {
    store_.projection.emplace(metric(), dims(), matrix, mean);
}

void Index::add_flat_codes(Space space, std::size_t dims, Precision precision, const float* mean,
                           std::size_t threads) {
    store_.add_flat_codes(space, dims, precision, mean, threads);
}

void Index::build(const BuildOptions& options, const BuildProgress& progress) {
    build_graph(store_, options, progress);
}

// Reading

Selection Index::select(const KeySpan& passing) const {
    Selection selection = select_rows(store_, lock_, appends_, passing);
    selection.of_index = number_;
    return selection;
}

std::optional<Selection> Index::reselect(const Selection& before, const KeySpan& changed,
                                         const KeySpan& passing) const {
    auto selection = reselect_rows(store_, lock_, appends_, before, changed, passing);
    if (selection) selection->of_index = number_;
    return selection;
}

LiveRows Index::live(const Selection* selection,
                     const std::function<void(std::uint32_t row)>& visit) const {
    const std::shared_lock reading(lock_);
    LiveRows live{{}, store_.epoch, number_};
    const RowFilter filter = store_.filter(selection);
    for (std::uint32_t row = 0; row < store_.rows.size(); ++row) {
        if (!filter.allows_row(row)) continue;
        live.rows.push_back(row);
        visit(row);
    }
    return live;
}

bool Index::coordinates(const LiveRows& live, const std::uint32_t* positions, std::size_t n,
                        std::size_t begin, std::size_t end, float* out) const {
    const std::shared_lock reading(lock_);
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t row = live.rows[positions[i]];
        if (store_.born[row] > live.epoch) return false;
        std::copy_n(store_.rows.vector(row) + begin, end - begin, out + i * (end - begin));
    }
    return true;
}

void Index::search(const float* queries, std::size_t n_queries, const SearchRequest& request,
                   StageCounts& counts, const TakeHits& take) const {
    mrl::search(store_, queries, n_queries, request, lock_, scratches_, counts, take);
}

void Index::check(const Plan& plan) const {
    const std::shared_lock reading(lock_);
    CheckedPlan checked(store_, plan);
}

HiddenRows Index::hide(const KeySpan& keys, std::size_t threads) const {
    std::vector<SlotLinks> linked_from;
    HiddenRows hidden = [&] {
        const std::shared_lock reading(lock_), looking_up(appends_);
        return find_hidden(store_, keys, linked_from);
    }();
    std::vector<Detour> detours(linked_from.size());
    constexpr std::size_t kTask = 4;  // hidden rows; between tasks a writer may have its turn
    parallel_for(threads, (detours.size() + kTask - 1) / kTask, [&](std::size_t task, std::size_t) {
        const std::shared_lock reading(lock_);
        DetourFinder finder(store_);
        for (std::size_t i = task * kTask; i < std::min(detours.size(), (task + 1) * kTask); ++i) {
            detours[i] = finder.past(linked_from[i].first, linked_from[i].second);
        }
    });
    for (std::size_t i = 0; i < detours.size(); ++i) {
        hidden.detours.emplace(linked_from[i].first, std::move(detours[i]));
    }
    return hidden;
}

std::vector<std::size_t> Index::compare(const KeySpan& keys, const float* vectors,
                                        std::size_t vector_stride, Comparison& comparison) const {
    const std::shared_lock reading(lock_), looking_up(appends_);
    const Rows& rows = store_.rows;
    if (comparison.of_rows == 0) {
        comparison.of_rows = rows.size();
        comparison.met.resize(rows.size());
    }
    std::vector<std::size_t> differing;
    for (std::size_t i = 0; i < keys.n; ++i) {
        const std::uint32_t row = store_.keys.find(keys.at(i));
        if (row != Keys::kNone && row < comparison.of_rows) comparison.met.set(row);
        if (row == Keys::kNone || !rows.equals(row, vectors + i * vector_stride)) {
            differing.push_back(i);
        }
    }
    return differing;
}

std::size_t Index::waiting() const { return store_.moment().waiting; }

std::size_t Index::bytes() const {
    const std::shared_lock reading(lock_);
    return store_.bytes();
}

std::size_t Index::vector_bytes() const {
    const std::shared_lock reading(lock_);
    return store_.rows.vector_bytes();
}

std::vector<std::uint32_t> Index::links() const {
    const std::shared_lock reading(lock_);
    std::vector<std::uint32_t> all(store_.links.slots() * kDegree, kNoLink);
    for (std::uint32_t slot = 0; slot < store_.links.slots(); ++slot) {
        const std::uint32_t* from = store_.links.of(slot);
        std::uint32_t* to = all.data() + std::size_t{store_.row_of(slot)} * kDegree;
        for (std::size_t e = 0; e < kDegree && from[e] != kNoLink; ++e) {
            to[e] = store_.row_of(from[e]);
        }
    }
    return all;
}

Sections Index::sections() const {
    const std::shared_lock reading(lock_), counting(appends_);
    return sections_;
}

// Writing

void Index::upsert(const KeySpan& keys, const float* vectors, std::size_t vector_stride) {
    std::vector<std::size_t> fresh;
    const auto find_fresh = [&](std::size_t first) {
        fresh.clear();
        for (std::size_t i = first; i < std::min(keys.n, first + kPutTogether); ++i) {
            const std::uint32_t before = store_.keys.find(keys.at(i));
            if (before == Keys::kNone || !store_.rows.equals(before, vectors + i * vector_stride)) {
                fresh.push_back(i);
            }
        }
    };
    const auto put_fresh = [&](Growth growth) {
        if (!store_.prepare(fresh.size(), Growth::in_place) && growth == Growth::in_place) {
            return false;
        }
        std::size_t done = 0;
        while (growth == Growth::in_place && done < fresh.size() &&
               append(keys.at(fresh[done]), vectors + fresh[done] * vector_stride)) {
            ++done;
        }
        const std::span left = std::span(fresh).subspan(done);
        if (left.empty()) return true;
        Section& section = growth == Growth::in_place ? sections_.put : sections_.put_moving;
        write(section, left.size(), [&] {
            store_.prepare(left.size(), Growth::moves);
            for (const std::size_t i : left) store_.put(keys.at(i), vectors + i * vector_stride);
        });
        return true;
    };
    for (std::size_t first = 0; first < keys.n; first += kPutTogether) {
        bool done;
        {
            const std::lock_guard one(writer_);
            find_fresh(first);
            done = fresh.empty() || put_fresh(Growth::in_place);
        }
        if (!done) {  // arrays move: not while links are looked for in them
            const std::lock_guard alone(graph_);
            const std::lock_guard one(writer_);
            find_fresh(first);
            put_fresh(Growth::moves);
        }
        if (!fresh.empty()) clean();
    }
}

// Beside searches, which do not wait for it, nor it for them.
bool Index::append(std::string_view key, const float* vector) {
    const std::unique_lock beside(appends_);
    const InSection counted(sections_.appended, 1);
    if (!store_.append_beside(key, vector)) return false;
    live_.store(store_.live, std::memory_order_relaxed);
    return true;
}

// What rows that went left behind. Now, not after all of a call: what a third of the rows leaves
// behind mends worse than a tenth three times.
void Index::clean() {
    if (is_torn(kWornShare)) heal();
    const std::lock_guard one(writer_);
    if (!store_.keys.is_wasteful()) return;
    Keys::Texts texts = store_.keys.texts_in_use();
    write(sections_.texts, texts.begins.size(), [&] { store_.keys.swap_texts(texts); });
}

bool Index::is_torn(std::size_t share) const {
    const std::shared_lock reading(lock_);
    return mrl::is_torn(store_, share);
}

std::size_t Index::erase(const KeySpan& keys) {
    std::size_t erased = 0;
    for (std::size_t i = 0; i < keys.n; ++i) {
        {
            const std::lock_guard one(writer_);
            const std::uint32_t row = store_.keys.find(keys.at(i));
            if (row == Keys::kNone) continue;
            write(sections_.removed, 1, [&] { store_.remove(row); });
        }
        ++erased;
        clean();
    }
    return erased;
}

std::size_t Index::erase_unmet(const Comparison& comparison) {
    std::size_t erased = 0;
    for (std::uint32_t row = 0; row < store_.rows.size(); ++row) {
        {
            const std::lock_guard one(writer_);
            const bool met = row < comparison.of_rows && comparison.met.test(row);
            if (store_.deleted.test(row) || met) continue;
            write(sections_.removed, 1, [&] { store_.remove(row); });
        }
        ++erased;
        clean();
    }
    return erased;
}

// The graph

// Changes many slots, a piece at a time.
template <class Change>
void Index::write_pieces(Section& section, std::size_t n, Change&& change) {
    for (std::size_t first = 0; first < n; first += kLinkedTogether) {
        const std::size_t end = std::min(n, first + kLinkedTogether);
        const std::lock_guard one(writer_);
        write(section, end - first, [&] { change(first, end); });
    }
}

void Index::heal() {
    const std::lock_guard alone(graph_);
    Dying dying;
    {
        const std::lock_guard one(writer_);
        if (!store_.has_graph || store_.marked == 0) return;
        dying = find_dying(store_);
    }
    const auto take = [this](const std::vector<SlotLinks>& mended) {
        for (const auto& [slot, links] : mended) store_.links.own(slot);
        write_pieces(sections_.mended, mended.size(), [&](std::size_t from, std::size_t to) {
            for (std::size_t i = from; i < to; ++i) {
                const auto& [slot, links] = mended[i];
                store_.links.set(slot, links.data(), links.size());
            }
        });
    };
    for (std::size_t begin = 0; begin < dying.of_slots; begin += kHealPiece)
        take(mend(store_, dying, begin, available_threads()));
    Entries entries = entries_without(store_, dying);
    take(connect_without(store_, dying, entries, available_threads()));
    {
        const std::lock_guard one(writer_);
        write(sections_.entries, entries.size(), [&] { leave_out(store_, dying, entries); });
    }
    write_pieces(sections_.buried, dying.slots.size(), [&](std::size_t from, std::size_t to) {
        bury(store_, std::span(dying.slots).subspan(from, to - from));
    });
}

std::size_t Index::link_waiting(std::size_t most, std::size_t threads) {
    if (is_torn(kTornShare)) heal();
    std::size_t linked = 0;
    while (linked < most) {
        const std::lock_guard alone(graph_);
        const LinkBatch batch = [&] {
            const std::lock_guard one(writer_);
            return next_batch(store_, kTogether);
        }();
        if (batch.waited == 0) break;
        LinkChanges changes = find_links(store_, batch, scratches_, threads);
        for (const auto& [slot, links] : changes.others) store_.links.own(slot);
        const std::lock_guard one(writer_);
        write(sections_.linked, changes.fresh.size() + changes.others.size(),
              [&] { apply_links(store_, std::move(changes)); });
        linked += batch.waited;
    }
    return linked;
}

bool Index::is_behind() const { return waiting() != 0 || is_torn(kTornShare); }

void Index::save(const std::string& path, const std::string& about) {
    const std::lock_guard one(writer_);  // the only one who could change anything: searches go on
    save_store(store_, path, about, available_threads());
}

std::unique_ptr<Index> Index::open(const std::string& path, std::string& about) {
    Store store = open_store(path, about, available_threads());
    if (store.has_graph) store.entries = group_entries(store.lines, std::move(store.entries.slots));
    return std::unique_ptr<Index>(new Index(std::move(store)));
}

}  // namespace mrl
