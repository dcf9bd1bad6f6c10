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

using SlotAndRow = std::pair<std::uint32_t, std::uint32_t>;

void sort_once(std::vector<SlotAndRow>& rows) {
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

void add_to_lists(Selection& selection, const SlotAndRow& row) {
    selection.slots.push_back(row.first);
    selection.list.push_back(row.second);
}

// The bits of rows that are still there, and how many they are.
void copy_live(const Store& store, const Selection& before, Selection& after) {
    const auto& from = before.rows.words();
    const auto& deleted = store.deleted.words();
    auto& to = after.rows.words();
    for (std::size_t i = 0; i < from.size(); ++i) {
        to[i] = from[i] & ~deleted[i];
        after.count += static_cast<std::size_t>(std::popcount(to[i]));
    }
}

void put(Selection& selection, std::uint32_t row, bool selected) {
    const bool before = selection.rows.test(row);
    if (before == selected) return;
    if (selected) {
        selection.rows.set(row);
        ++selection.count;
    } else {
        selection.rows.clear(row);
        --selection.count;
    }
}

std::vector<SlotAndRow> rows_of(const Store& store, const Selection& selection) {
    std::vector<SlotAndRow> rows;
    rows.reserve(selection.count);
    const auto& words = selection.rows.words();
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
void merge_lists(const Selection& before, std::vector<SlotAndRow>& came, Selection& after) {
    sort_once(came);
    after.list.reserve(before.list.size() + came.size());
    after.slots.reserve(before.list.size() + came.size());
    auto next = came.begin();
    for (std::size_t i = 0; i < before.list.size(); ++i) {
        for (; next != came.end() && next->first < before.slots[i]; ++next) {
            add_to_lists(after, *next);
        }
        if (after.rows.test(before.list[i])) add_to_lists(after, {before.slots[i], before.list[i]});
    }
    for (; next != came.end(); ++next) add_to_lists(after, *next);
}

}  // namespace

Selection select_rows(const Store& store, FairLock& lock, FairLock& appends,
                      const KeySpan& passing) {
    Selection selection;
    std::vector<SlotAndRow> rows;
    {
        KeyTurn turn(lock, appends);
        selection.epoch = store.epoch;
        for (std::size_t i = 0; i < passing.n; ++i) {
            if (i % kLookedUp == 0) turn.give_way();
            const std::uint32_t row = store.keys.find(passing.at(i));
            if (row != Keys::kNone) rows.emplace_back(store.slot_of(row), row);
        }
        selection.of_rows = store.rows.size();
    }
    selection.rows.resize(selection.of_rows);
    for (const auto& [slot, row] : rows) put(selection, row, true);
    selection.listed = selection.count < selection.of_rows / kListShare;
    if (!selection.listed) return selection;
    sort_once(rows);
    for (const SlotAndRow& row : rows) add_to_lists(selection, row);
    return selection;
}

std::optional<Selection> reselect_rows(const Store& store, FairLock& lock, FairLock& appends,
                                       const Selection& before, const KeySpan& changed,
                                       const KeySpan& passing) {
    Selection after;
    std::vector<SlotAndRow> came, all;
    {
        KeyTurn turn(lock, appends);
        if (store.epoch - before.epoch > store.reborn.size()) return std::nullopt;
        after.epoch = store.epoch;
        after.of_rows = store.rows.size();
        after.rows.resize(after.of_rows);
        copy_live(store, before, after);
        for (std::uint64_t epoch = before.epoch + 1; epoch <= after.epoch; ++epoch) {
            put(after, store.reborn[epoch % store.reborn.size()], false);
        }
        const auto judge = [&](const KeySpan& keys, bool selected) {
            for (std::size_t i = 0; i < keys.n; ++i) {
                if (i % kLookedUp == 0) turn.give_way();
                const std::uint32_t row = store.keys.find(keys.at(i));
                // Rows that came since this began are not of this selection, as in any other.
                if (row == Keys::kNone || row >= after.of_rows) continue;
                put(after, row, selected);
                const bool was = row < before.of_rows && before.rows.test(row);
                if (selected && !was) came.emplace_back(store.slot_of(row), row);
            }
        };
        judge(changed, false);
        judge(passing, true);
        after.listed =
            after.count < after.of_rows / (before.listed ? kListShare / 2 : kListShare * 2);
        if (after.listed && !before.listed) all = rows_of(store, after);
    }
    if (!after.listed) return after;
    if (before.listed) {
        merge_lists(before, came, after);
    } else {
        sort_once(all);
        for (const SlotAndRow& row : all) add_to_lists(after, row);
    }
    return after;
}

}  // namespace mrl
