#include "select.hpp"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

namespace mrl {
namespace {

constexpr std::size_t kLookedUp = 1024;  // keys, before a writer may have its turn
// Of so small a share of the rows lists are made, as well as of a small one; a share that changes
// keeps its lists up to twice as much, and gets them at half.
constexpr std::size_t kListShare = 4;
// Rows that are turned before bits and lists are made anew, at most, and of how many rows one is.
// All these changes together cost less than the bits once.
constexpr std::size_t kMostTurned = 512, kFewestTurned = 8, kRowsATurn = 64;

using SlotAndRow = std::pair<std::uint32_t, std::uint32_t>;

void sort_once(std::vector<SlotAndRow>& rows) {
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

void add_to_lists(SelectedRows& selected, const SlotAndRow& row) {
    selected.slots.push_back(row.first);
    selected.list.push_back(row.second);
}

// Whether there are to be lists of so many rows.
bool lists(const Selection& selection, bool before) {
    return selection.count < selection.of_rows / (before ? kListShare / 2 : kListShare * 2);
}

std::vector<SlotAndRow> rows_of(const Store& store, const SelectedRows& selected) {
    std::vector<SlotAndRow> rows;
    const auto& words = selected.bits.words();
    for (std::size_t i = 0; i < words.size(); ++i) {
        for (std::uint64_t word = words[i]; word != 0; word &= word - 1) {
            const auto row = static_cast<std::uint32_t>(
                64 * i + static_cast<std::size_t>(std::countr_zero(word)));
            rows.emplace_back(store.slot_of(row), row);
        }
    }
    return rows;
}

// The lists of before without rows that went, and with those that came.
void merge_lists(const SelectedRows& before, std::vector<SlotAndRow>& came, SelectedRows& after) {
    sort_once(came);
    after.list.reserve(before.list.size() + came.size());
    after.slots.reserve(before.list.size() + came.size());
    auto next = came.begin();
    for (std::size_t i = 0; i < before.list.size(); ++i) {
        for (; next != came.end() && next->first < before.slots[i]; ++next) {
            add_to_lists(after, *next);
        }
        if (after.bits.test(before.list[i])) {
            add_to_lists(after, {before.slots[i], before.list[i]});
        }
    }
    for (; next != came.end(); ++next) add_to_lists(after, *next);
}

// Rows of which it is to be said anew whether they are selected; the last word counts.
class Changes {
  public:
    // What came into a dead row's place is not selected until somebody says so.
    Changes(const Store& store, const Selection& before) {
        for (std::uint64_t epoch = before.epoch + 1; epoch <= store.epoch; ++epoch) {
            add(store.reborn[epoch % store.reborn.size()], false);
        }
    }
    void add(std::uint32_t row, bool selected) { rows_.push_back({row, selected}); }
    std::size_t size() const { return rows_.size(); }
    template <class Put>
    void each(Put&& put) const {
        for (const auto& [row, selected] : rows_) put(row, selected);
    }

  private:
    std::vector<std::pair<std::uint32_t, bool>> rows_;
};

// What changed is noted beside what was looked at before. False where that is too much.
bool turn_few(const Store& store, const Selection& before, const Changes& changes,
              Selection& after) {
    const std::size_t most = std::clamp(after.of_rows / kRowsATurn, kFewestTurned, kMostTurned);
    const std::uint64_t died = after.deaths - before.deaths;
    if (before.turned.size() + changes.size() + died > most) return false;
    after.then = before.then;
    after.turned = before.turned;
    after.count = before.count;
    const auto put = [&](std::uint32_t row, bool selected) {
        if (after.selects(row) == selected) return;
        after.turned.turn(row);
        after.count = selected ? after.count + 1 : after.count - 1;
    };
    for (std::uint64_t death = before.deaths + 1; death <= after.deaths; ++death) {
        put(store.died[death % store.died.size()], false);
    }
    changes.each(put);
    return lists(after, before.is_listed()) == before.is_listed();
}

// The bits of all rows; those that a list of before lacks are added to `came`.
std::shared_ptr<SelectedRows> select_anew(const Store& store, const Selection& before,
                                          const Changes& changes, Selection& after,
                                          std::vector<SlotAndRow>& came) {
    auto made = std::make_shared<SelectedRows>();
    made->of_rows = after.of_rows;
    made->bits.resize(after.of_rows);
    const SelectedRows& then = *before.then;
    const auto& from = then.bits.words();
    auto& to = made->bits.words();
    std::copy(from.data(), from.data() + from.size(), to.data());
    const auto put = [&](std::uint32_t row, bool selected) {
        if (selected) {
            made->bits.set(row);
            if (!then.test(row)) came.emplace_back(store.slot_of(row), row);
        } else {
            made->bits.clear(row);
        }
    };
    for (const std::uint32_t row : before.turned.rows()) put(row, !then.test(row));
    changes.each(put);
    const auto& deleted = store.deleted.words();
    after.count = 0;
    for (std::size_t i = 0; i < to.size(); ++i) {
        to[i] &= ~deleted[i];
        after.count += static_cast<std::size_t>(std::popcount(to[i]));
    }
    std::erase_if(came, [&](const SlotAndRow& row) { return !made->bits.test(row.second); });
    return made;
}

}  // namespace

Selection select_rows(const Store& store, FairLock& lock, FairLock& appends,
                      const KeySpan& passing) {
    Selection selection;
    auto selected = std::make_shared<SelectedRows>();
    std::vector<SlotAndRow> rows;
    {
        KeyTurn turn(lock, appends);
        selection.epoch = store.epoch;
        selection.deaths = store.deaths;
        for (std::size_t i = 0; i < passing.n; ++i) {
            if (i % kLookedUp == 0) turn.give_way();
            const std::uint32_t row = store.keys.find(passing.at(i));
            if (row != Keys::kNone) rows.emplace_back(store.slot_of(row), row);
        }
        selection.of_rows = selected->of_rows = store.rows.size();
    }
    selected->bits.resize(selection.of_rows);
    for (const SlotAndRow& row : rows) selected->bits.set(row.second);
    selection.count = selected->bits.count();
    selected->listed = selection.count < selection.of_rows / kListShare;
    if (selected->listed) {
        sort_once(rows);
        for (const SlotAndRow& row : rows) add_to_lists(*selected, row);
    }
    selection.then = std::move(selected);
    return selection;
}

std::optional<Selection> reselect_rows(const Store& store, FairLock& lock, FairLock& appends,
                                       const Selection& before, const KeySpan& changed,
                                       const KeySpan& passing) {
    Selection after;
    std::shared_ptr<SelectedRows> made;
    std::vector<SlotAndRow> came;
    {
        KeyTurn turn(lock, appends);
        if (store.epoch - before.epoch > store.reborn.size()) return std::nullopt;
        after.epoch = store.epoch;
        after.deaths = store.deaths;
        after.of_rows = store.rows.size();
        Changes changes(store, before);
        const auto judge = [&](const KeySpan& keys, bool selected) {
            for (std::size_t i = 0; i < keys.n; ++i) {
                if (i % kLookedUp == 0) turn.give_way();
                const std::uint32_t row = store.keys.find(keys.at(i));
                // Rows that came since this began are not of this selection, as in any other.
                if (row != Keys::kNone && row < after.of_rows) changes.add(row, selected);
            }
        };
        judge(changed, false);
        judge(passing, true);
        if (turn_few(store, before, changes, after)) return after;
        made = select_anew(store, before, changes, after, came);
        made->listed = lists(after, before.is_listed());
        if (made->listed && !before.is_listed()) came = rows_of(store, *made);
    }
    after.turned = {};
    if (made->listed) merge_lists(*before.then, came, *made);
    after.then = std::move(made);
    return after;
}

}  // namespace mrl
