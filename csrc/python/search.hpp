// Searches of the native engine's index, and rows read from it, as Python gets them.
#pragma once

#include <cstddef>
#include <string>

#include "../index/index.hpp"
#include "arrays.hpp"

namespace mrl::python {

// What another index gave would be read beyond its end here.
template <class Rows>
void check_mine(const Index& index, const Rows* rows, const char* subject) {
    if (rows != nullptr && !index.is_mine(*rows))
        throw py::value_error(std::string(subject) + " another index's");
}

// One query: (keys, distances, packed stage counts, whether it is proven), or None when it is no
// contiguous, finite float32 vector of the right width, or is zero where that means nothing: the
// caller then says what is wrong. Integer and text keys only. This is the path that has to be
// short.
py::object search_one(const Index& index, const py::object& query, const Plan& plan);

// Many queries: (keys, distances (n, k), stage counts, whether all are proven); k is the least that
// any query got. Keys are int64 (n, k), or the key bytes as a list of n lists of bytes.
py::tuple search_many(const Index& index, const Array<float>& queries, const Plan& plan,
                      const Selection* selection, std::size_t threads, const HiddenRows* hidden);

// What many queries leave for the last stage, which is not run: (keys, distances, stage counts),
// an array (m,) of each query's int64 keys, or a list of their bytes, and one of what their int8
// codes are away, nearest first.
py::tuple candidates(const Index& index, const Array<float>& queries, const Plan& plan,
                     const Selection* selection, std::size_t threads, const HiddenRows* hidden);

// The rows that are there, of a selection or all, and their keys: int64 (n,), or the key bytes as a
// list.
py::tuple live_rows(const Index& index, const Selection* selection);

// Coordinates begin to before end of rows, by their positions among the live ones, (n, end -
// begin); None when one of them is gone.
py::object coordinates(const Index& index, const LiveRows& live,
                       const Array<std::uint32_t>& positions, std::size_t begin, std::size_t end);

}  // namespace mrl::python
