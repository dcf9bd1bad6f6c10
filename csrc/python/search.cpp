// Searches of the native engine's index, and rows read from it.
#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../kernels/dispatch.hpp"

namespace mrl::python {
namespace {

py::tuple stage_counts(const StageCounts& counts, std::size_t stages) {
    py::tuple all(stages);
    for (std::size_t i = 0; i < stages; ++i)
        all[i] = py::make_tuple(counts.stages[i].rows_in, counts.stages[i].rows_out,
                                counts.stages[i].nanoseconds);
    return all;
}

// The same as the bytes of three uint64 a stage: a tuple of tuples takes as long to make as a
// twentieth of a search, and is seldom looked at.
py::bytes packed_stage_counts(const StageCounts& counts, std::size_t stages) {
    static_assert(sizeof(StageCount) == 24);
    return py::bytes(reinterpret_cast<const char*>(counts.stages.data()),
                     stages * sizeof(StageCount));
}

// An object array of strings.
py::array text_array(const std::vector<std::string>& texts) {
    py::array array(py::dtype("O"),
                    std::vector<py::ssize_t>{static_cast<py::ssize_t>(texts.size())});
    auto** objects = static_cast<PyObject**>(array.mutable_data());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        PyObject* text = PyUnicode_DecodeUTF8(texts[i].data(),
                                              static_cast<py::ssize_t>(texts[i].size()), "strict");
        if (text == nullptr) throw py::error_already_set();
        PyObject* before = std::exchange(objects[i], text);
        Py_XDECREF(before);
    }
    return array;
}

// Queries that an index has answers to, beside rows of it.
Matrix<float> checked(const Index& index, const Array<float>& queries, const Selection* selection,
                      const HiddenRows* hidden) {
    const auto q = matrix(queries, "queries");
    if (q.width != index.dims()) {
        throw py::value_error("queries have " + std::to_string(q.width) + " dims, the index " +
                              std::to_string(index.dims()));
    }
    if (q.rows > 1 && q.row_stride != q.width) throw py::value_error("queries are not contiguous");
    check_mine(index, selection, "the selection is");
    check_mine(index, hidden, "the hidden rows are");
    if (hidden != nullptr && hidden->rows.size() != q.rows) {
        throw py::value_error(std::to_string(hidden->rows.size()) + " hidden rows for " +
                              std::to_string(q.rows) + " queries");
    }
    return q;
}

}  // namespace

py::object search_one(const Index& index, const py::object& query, const Plan& plan) {
    const bool integers = index.keys().integers();
    if (!py::isinstance<py::array>(query) || index.keys().type() == KeyType::uuid)
        return py::none();
    const auto array = py::reinterpret_borrow<py::array>(query);
    // NumPy has one dtype object for float32 in the machine's order: to compare pointers is enough,
    // and quick.
    if (!array.dtype().is(py::dtype::of<float>()) || array.ndim() != 1 ||
        static_cast<std::size_t>(array.shape(0)) != index.dims() ||
        array.strides(0) != sizeof(float))
        return py::none();
    float square;
    const auto* values = static_cast<const float*>(array.data());
    kernels().inner_product(values, values, 1, index.dims(), index.dims(), &square);
    if (!std::isfinite(square) || (index.metric() == Metric::cosine && square < 1e-30f))
        return py::none();
    const std::size_t k =
        std::min(plan.stages.back().keep, std::max<std::size_t>(index.live_rows(), 1));
    py::array_t<std::int64_t> numbers(static_cast<py::ssize_t>(integers ? k : 0));
    py::array_t<double> distances(static_cast<py::ssize_t>(k));
    std::int64_t* number_out = numbers.mutable_data();
    double* distance_out = distances.mutable_data();
    std::vector<std::string> texts;
    StageCounts counts{};
    std::size_t found = 0;
    {
        const WithoutGil released;
        const auto take = [&](std::size_t, const RowHit* hits, std::size_t count) {
            found = std::min(count, k);
            for (std::size_t i = 0; i < found; ++i) {
                if (integers) {
                    number_out[i] = index.keys().integer(hits[i].row);
                } else {
                    texts.emplace_back(index.keys().at(hits[i].row));
                }
                distance_out[i] = hits[i].distance;
            }
        };
        index.search(values, 1, {.plan = plan}, counts,
                     std::cref(take));  // by reference: a copy of it would be allocated
    }
    if (found < k) {
        if (integers) numbers.resize({static_cast<py::ssize_t>(found)});
        distances.resize({static_cast<py::ssize_t>(found)});
    }
    py::object keys = integers ? py::object(std::move(numbers)) : py::object(text_array(texts));
    return py::make_tuple(std::move(keys), std::move(distances),
                          packed_stage_counts(counts, plan.stages.size()), counts.proven == 1);
}

py::tuple search_many(const Index& index, const Array<float>& queries, const Plan& plan,
                      const Selection* selection, std::size_t threads, const HiddenRows* hidden) {
    const auto q = checked(index, queries, selection, hidden);
    const bool integers = index.keys().integers();
    std::size_t width = std::max<std::size_t>(index.live_rows(), 1);
    if (selection != nullptr) width = std::min(width, selection->count);
    width = std::min(width, plan.stages.back().keep);
    const auto shape = [](std::size_t rows, std::size_t columns) {
        return std::vector<py::ssize_t>{static_cast<py::ssize_t>(rows),
                                        static_cast<py::ssize_t>(columns)};
    };
    py::array_t<std::int64_t> numbers(shape(integers ? q.rows : 0, width));
    py::array_t<double> distances(shape(q.rows, width));
    std::int64_t* number_out = numbers.mutable_data();
    double* distance_out = distances.mutable_data();
    std::vector<std::vector<std::string>> texts(integers ? 0 : q.rows);
    std::vector<std::size_t> found(q.rows);
    StageCounts counts{};
    {
        const WithoutGil released;
        const auto take = [&](std::size_t query, const RowHit* hits, std::size_t count) {
            found[query] = std::min(count, width);
            for (std::size_t i = 0; i < found[query]; ++i) {
                if (integers) {
                    number_out[query * width + i] = index.keys().integer(hits[i].row);
                } else {
                    texts[query].emplace_back(index.keys().at(hits[i].row));
                }
                distance_out[query * width + i] = hits[i].distance;
            }
        };
        index.search(q.data, q.rows,
                     {.plan = plan, .selection = selection, .threads = threads, .hidden = hidden},
                     counts, std::cref(take));
    }
    const std::size_t k = q.rows == 0 ? 0 : *std::min_element(found.begin(), found.end());
    if (k < width) {  // rows were fewer, or some query found fewer
        py::array_t<std::int64_t> fewer_numbers(shape(integers ? q.rows : 0, k));
        py::array_t<double> fewer_distances(shape(q.rows, k));
        for (std::size_t query = 0; query < q.rows; ++query) {
            if (integers)
                std::copy_n(number_out + query * width, k,
                            fewer_numbers.mutable_data() + query * k);
            std::copy_n(distance_out + query * width, k,
                        fewer_distances.mutable_data() + query * k);
        }
        numbers = std::move(fewer_numbers);
        distances = std::move(fewer_distances);
    }
    py::object keys = std::move(numbers);
    if (!integers) {
        py::list all;
        for (const auto& each : texts) {
            py::list one;
            for (std::size_t i = 0; i < k; ++i) one.append(py::bytes(each[i]));
            all.append(std::move(one));
        }
        keys = std::move(all);
    }
    return py::make_tuple(std::move(keys), std::move(distances),
                          stage_counts(counts, plan.stages.size()), counts.proven == q.rows);
}

py::tuple candidates(const Index& index, const Array<float>& queries, const Plan& plan,
                     const Selection* selection, std::size_t threads, const HiddenRows* hidden) {
    const auto q = checked(index, queries, selection, hidden);
    if (plan.stages.size() < 2)
        throw py::value_error("a plan of one stage has nothing before its last");
    const bool integers = index.keys().integers();
    std::vector<std::vector<std::int64_t>> numbers(integers ? q.rows : 0);
    std::vector<std::vector<std::string>> texts(integers ? 0 : q.rows);
    std::vector<std::vector<double>> distances(q.rows);
    StageCounts counts{};
    {
        const WithoutGil released;
        const auto take = [&](std::size_t query, const RowHit* hits, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i) {
                if (integers) {
                    numbers[query].push_back(index.keys().integer(hits[i].row));
                } else {
                    texts[query].emplace_back(index.keys().at(hits[i].row));
                }
                distances[query].push_back(hits[i].distance);
            }
        };
        index.search(q.data, q.rows,
                     {.plan = plan,
                      .selection = selection,
                      .threads = threads,
                      .without_last_stage = true,
                      .hidden = hidden},
                     counts, std::cref(take));
    }
    py::list all_keys, all_distances;
    for (std::size_t query = 0; query < q.rows; ++query) {
        const auto n = static_cast<py::ssize_t>(distances[query].size());
        if (integers) {
            all_keys.append(owned_array(std::move(numbers[query]), {n}));
        } else {
            py::list keys;
            for (const std::string& each : texts[query]) keys.append(py::bytes(each));
            all_keys.append(std::move(keys));
        }
        all_distances.append(owned_array(std::move(distances[query]), {n}));
    }
    return py::make_tuple(std::move(all_keys), std::move(all_distances),
                          stage_counts(counts, plan.stages.size()));
}

py::tuple live_rows(const Index& index, const Selection* selection) {
    check_mine(index, selection, "the selection is");
    const bool integers = index.keys().integers();
    std::vector<std::int64_t> numbers;
    std::vector<std::string> texts;
    LiveRows found;
    {
        const WithoutGil released;
        found = index.live(selection, [&](std::uint32_t row) {
            if (integers) {
                numbers.push_back(index.keys().integer(row));
            } else {
                texts.emplace_back(index.keys().at(row));
            }
        });
    }
    const auto count = static_cast<py::ssize_t>(found.rows.size());
    if (integers) return py::make_tuple(std::move(found), owned_array(std::move(numbers), {count}));
    py::list keys;
    for (const std::string& each : texts) keys.append(py::bytes(each));
    return py::make_tuple(std::move(found), std::move(keys));
}

py::object coordinates(const Index& index, const LiveRows& live,
                       const Array<std::uint32_t>& positions, std::size_t begin, std::size_t end) {
    check_mine(index, &live, "the rows are");
    if (!index.keeps_vectors()) throw py::value_error("the vectors are not in memory");
    if (begin >= end || end > index.dims()) {
        throw py::value_error("coordinates " + std::to_string(begin) + " to " +
                              std::to_string(end) + " of " + std::to_string(index.dims()));
    }
    if (positions.ndim() != 1 ||
        (positions.size() > 1 && positions.strides(0) != sizeof(std::uint32_t))) {
        throw py::value_error("positions are not contiguous");
    }
    const auto n = static_cast<std::size_t>(positions.size());
    const std::uint32_t* at = positions.data();
    for (std::size_t i = 0; i < n; ++i) {
        if (at[i] >= live.rows.size())
            throw py::value_error("position " + std::to_string(at[i]) + " of " +
                                  std::to_string(live.rows.size()));
    }
    std::vector<float> out(n * (end - begin));
    {
        const WithoutGil released;
        if (!index.coordinates(live, at, n, begin, end, out.data())) out.clear();
    }
    if (out.empty() && n > 0) return py::none();
    return owned_array(std::move(out),
                       {static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(end - begin)});
}

}  // namespace mrl::python
