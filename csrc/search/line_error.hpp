// How far the scores of lines (store/line_codes.hpp) are off for a query.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "../store/line_codes.hpp"

namespace mrl {

// What of a query decides it.
struct LineLengths {
    float length = 1.0f;  // of the coordinates; 1 under cosine
    float tail = 0.0f;    // of what the projection cuts off
    float square = 1.0f;  // of the whole, squared; centred under l2
};

// Of a query's coordinates, and the square that Projection::project gave with them.
inline LineLengths lengths_of(const float* z, float square, std::size_t dims, Metric metric) {
    LineLengths lengths;
    lengths.square = square;
    const bool is_cut = dims > kLineCoordinates;
    if (!is_cut && metric == Metric::cosine) return lengths;
    float kept = 0;
    for (std::size_t c = 0; c < kLineCoordinates; ++c) kept += z[c] * z[c];
    if (is_cut) lengths.tail = std::sqrt(std::max(0.0f, square - kept));
    if (metric != Metric::cosine) lengths.length = std::sqrt(kept);
    return lengths;
}

// The length of a query in those of the lines' unit; 1 under cosine.
inline float query_unit(const LineLengths& query, const LineCodes& lines) {
    return lines.metric() == Metric::cosine ? 1.0f : query.length / lines.unit();
}

// The step of a line's code, a quarter of the row's rms, as even noise of a share of its length.
constexpr float kCodeError = 0.072f;

// What of a query may meet a code's error. A code's factor is right along the row, so that only
// what lies across it does (RaBitQ, arXiv:2405.12497, theorem 3.2): under l2 no more than the
// distance, which a row's score tells.
inline float length_across(const LineLengths& query, float score, const LineCodes& lines) {
    if (lines.metric() != Metric::l2) return query.length;
    const float squared = 2.0f * score * lines.unit() * lines.unit() + query.square;
    return std::min(query.length, std::sqrt(std::max(0.0f, squared)));
}

// What a line's score near this one is off by, about. Beside the code's error there is what the
// projection cuts off of the query and of the rows: two vectors of some length in random directions
// of the other dims.
inline float line_error(const LineLengths& query, float score, std::size_t dims,
                        const LineCodes& lines) {
    const float of_code = kCodeError * length_across(query, score, lines) * lines.spread().typical /
                          (lines.unit() * std::sqrt(static_cast<float>(kLineCoordinates)));
    if (dims <= kLineCoordinates) return of_code;
    const float of_tail = query.tail * lines.spread().tail /
                          (lines.unit() * std::sqrt(static_cast<float>(dims - kLineCoordinates)));
    return std::sqrt(of_code * of_code + of_tail * of_tail);
}

}  // namespace mrl
