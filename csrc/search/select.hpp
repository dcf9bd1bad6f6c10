// Which rows a filter selects, by the keys that pass it: of all rows, or of those written to since.
#pragma once

#include <optional>

#include "../store/store.hpp"
#include "turn.hpp"

namespace mrl {

// Selects the rows with these keys. appends: who holds it may look keys up.
Selection select_rows(const Store& store, FairLock& lock, FairLock& appends,
                      const KeySpan& passing);

// What a selection is once the keys that were written to are judged again: those of `changed` that
// pass are in `passing`, and no others. It costs what changed; bits and lists are made anew once
// some hundreds of rows have.
//
// The keys must be those of all rows that came since; a row that took a dead one's place and whose
// key is not among them is not selected. Empty where so many did that nobody knows which.
std::optional<Selection> reselect_rows(const Store& store, FairLock& lock, FairLock& appends,
                                       const Selection& before, const KeySpan& changed,
                                       const KeySpan& passing);

}  // namespace mrl
