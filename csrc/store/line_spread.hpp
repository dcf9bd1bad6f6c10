// What the rows of an index are like, for whoever asks how far a line's score may be off.
#pragma once

#include "line_codes.hpp"
#include "projection.hpp"
#include "rows.hpp"

namespace mrl {

// Of some thousand rows what the projection cuts off; of all their lengths, under inner product.
LineSpread measure_spread(const Rows& rows, const Projection& projection);

}  // namespace mrl
