// The native engine's index as Python sees it (mrl_db/engines/native.py is the door with the
// friendly messages).
#include "../index/index.hpp"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <utility>

#include "../kernels/dispatch.hpp"
#include "../store/store_file.hpp"
#include "../system/thread_pool.hpp"
#include "arrays.hpp"

namespace mrl::python {
namespace {

// Keys off the wire as Python holds them: (n, bytes) uint8 for fixed widths, a list of str or bytes
// for text.
class KeyArgument {
  public:
    KeyArgument(KeyType type, const py::object& keys) {
        if (type == KeyType::text) {
            offsets_.push_back(0);
            for (const py::handle key : keys.cast<py::list>()) {
                const bool raw = PyBytes_Check(key.ptr());
                py::ssize_t length = raw ? PyBytes_GET_SIZE(key.ptr()) : 0;
                const char* text = raw ? PyBytes_AS_STRING(key.ptr())
                                       : PyUnicode_AsUTF8AndSize(key.ptr(), &length);
                if (text == nullptr) throw py::error_already_set();
                bytes_.insert(bytes_.end(), text, text + length);
                offsets_.push_back(static_cast<std::int64_t>(bytes_.size()));
            }
            span = {type, bytes_.data(), offsets_.data(), offsets_.size() - 1};
            return;
        }
        array_ = keys.cast<Array<std::uint8_t>>();
        const auto m = matrix(array_, "keys");
        if (m.width != key_bytes(type) || (m.rows > 1 && m.row_stride != m.width)) {
            throw py::value_error("keys have rows of " + std::to_string(m.width) +
                                  " bytes, wanted contiguous ones of " +
                                  std::to_string(key_bytes(type)));
        }
        span = {type, m.data, nullptr, m.rows};
    }
    KeySpan span{};

  private:
    std::vector<unsigned char> bytes_;
    std::vector<std::int64_t> offsets_;
    Array<std::uint8_t> array_;
};

Matrix<float> vectors_of(const Index& index, const Array<float>& vectors, std::size_t rows) {
    const auto m = matrix(vectors, "vectors");
    if (m.width != index.dims()) {
        throw py::value_error("vectors have " + std::to_string(m.width) + " dims, the index " +
                              std::to_string(index.dims()));
    }
    if (m.rows != rows)
        throw py::value_error(std::to_string(rows) + " keys for " + std::to_string(m.rows) +
                              " vectors");
    return m;
}

py::tuple stage_counts(const StageCounts& counts, std::size_t stages) {
    py::tuple all(stages);
    for (std::size_t i = 0; i < stages; ++i)
        all[i] = py::make_tuple(counts[i].rows_in, counts[i].rows_out, counts[i].nanoseconds);
    return all;
}

// The same as the bytes of three uint64 a stage: a tuple of tuples takes as long to make as a
// twentieth of a search, and is seldom looked at.
py::bytes packed_stage_counts(const StageCounts& counts, std::size_t stages) {
    static_assert(sizeof(StageCount) == 24);
    return py::bytes(reinterpret_cast<const char*>(counts.data()), stages * sizeof(StageCount));
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

// One query: (keys, distances, packed stage counts), or None when it is no contiguous, finite
// float32 vector of the right width, or is zero where that means nothing: the caller then says what
// is wrong. Integer and text keys only. This is the path that has to be short.
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
        py::gil_scoped_release release;
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
                          packed_stage_counts(counts, plan.stages.size()));
}

// Many queries: (keys, distances (n, k), stage counts); k is the least that any query found. Keys
// are int64 (n, k), or the key bytes as a list of n lists of bytes.
py::tuple search_many(const Index& index, const Array<float>& queries, const Plan& plan,
                      const Selection* selection, std::size_t threads, bool without_last_stage,
                      const HiddenRows* hidden) {
    const auto q = matrix(queries, "queries");
    if (q.width != index.dims()) {
        throw py::value_error("queries have " + std::to_string(q.width) + " dims, the index " +
                              std::to_string(index.dims()));
    }
    if (q.rows > 1 && q.row_stride != q.width) throw py::value_error("queries are not contiguous");
    if (hidden != nullptr && !index.is_mine(*hidden))
        throw py::value_error("the hidden rows are another index's");
    if (hidden != nullptr && hidden->rows.size() != q.rows) {
        throw py::value_error(std::to_string(hidden->rows.size()) + " hidden rows for " +
                              std::to_string(q.rows) + " queries");
    }
    if (without_last_stage && plan.stages.size() < 2)
        throw py::value_error("a plan of one stage has nothing before its last");
    const bool integers = index.keys().integers();
    std::size_t width = std::max<std::size_t>(index.live_rows(), 1);
    if (selection != nullptr) width = std::min(width, selection->list.size());
    width = std::min(width, plan.stages[plan.stages.size() - (without_last_stage ? 2 : 1)].keep);
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
        py::gil_scoped_release release;
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
                     {.plan = plan,
                      .selection = selection,
                      .threads = threads,
                      .without_last_stage = without_last_stage,
                      .hidden = hidden},
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
                          stage_counts(counts, plan.stages.size()));
}

// The rows that are there, of a selection or all, and their keys: int64 (n,), or the key bytes as a
// list.
py::tuple live(const Index& index, const Selection* selection) {
    const bool integers = index.keys().integers();
    std::vector<std::int64_t> numbers;
    std::vector<std::string> texts;
    LiveRows found;
    {
        py::gil_scoped_release release;
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

// Coordinates begin to before end of rows, by their places among the live ones, (n, end - begin);
// None when one of them is gone.
py::object coordinates(const Index& index, const LiveRows& live, const Array<std::uint32_t>& places,
                       std::size_t begin, std::size_t end) {
    if (!index.keeps_vectors()) throw py::value_error("the vectors are not in memory");
    if (begin >= end || end > index.dims()) {
        throw py::value_error("coordinates " + std::to_string(begin) + " to " +
                              std::to_string(end) + " of " + std::to_string(index.dims()));
    }
    if (places.ndim() != 1 || (places.size() > 1 && places.strides(0) != sizeof(std::uint32_t))) {
        throw py::value_error("places are not contiguous");
    }
    const auto n = static_cast<std::size_t>(places.size());
    const std::uint32_t* at = places.data();
    for (std::size_t i = 0; i < n; ++i) {
        if (at[i] >= live.rows.size())
            throw py::value_error("place " + std::to_string(at[i]) + " of " +
                                  std::to_string(live.rows.size()));
    }
    std::vector<float> out(n * (end - begin));
    {
        py::gil_scoped_release release;
        if (!index.coordinates(live, at, n, begin, end, out.data())) out.clear();
    }
    if (out.empty() && n > 0) return py::none();
    return owned_array(std::move(out),
                       {static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(end - begin)});
}

}  // namespace

void define_index(py::module_& m) {
    py::enum_<Route>(m, "Route").value("flat", Route::flat).value("graph", Route::graph);
    py::enum_<Space>(m, "Space")
        .value("prefix", Space::prefix)
        .value("projection", Space::projection);
    py::enum_<Precision>(m, "Precision")
        .value("bit", Precision::bit)
        .value("int4", Precision::int4)
        .value("int8", Precision::int8)
        .value("float32", Precision::float32);
    py::register_exception<FileError>(m, "FileError", PyExc_OSError);
    py::register_exception<PlanMismatch>(m, "PlanMismatchError", PyExc_ValueError);

    m.def("margin_of_effort", &margin_of_effort, py::arg("effort"));

    py::class_<Plan>(m, "NativePlan")
        .def(py::init([](Route route, std::size_t effort,
                         const std::vector<std::tuple<Space, std::size_t, Precision, std::size_t>>&
                             stages,
                         std::optional<float> margin) {
                 Plan plan{route, effort, {}, margin.value_or(kMarginOfEffort)};
                 if (stages.empty()) throw py::value_error("a plan without stages");
                 if (margin && !(*margin >= 0))
                     throw py::value_error("margin is " + std::to_string(*margin) +
                                           ", wanted at least 0");
                 for (const auto& [space, dims, precision, keep] : stages)
                     plan.stages.push_back({space, dims, precision, keep});
                 return plan;
             }),
             py::arg("route"), py::arg("effort"), py::arg("stages"),
             py::arg("margin") = py::none());

    py::class_<Selection>(m, "Selection").def("__len__", [](const Selection& self) {
        return self.list.size();
    });

    py::class_<LiveRows>(m, "LiveRows").def("__len__", [](const LiveRows& self) {
        return self.rows.size();
    });

    py::class_<Comparison>(m, "Comparison").def(py::init<>());
    py::class_<HiddenRows>(m, "HiddenRows");

    m.def(
        "about_file", [](const std::string& path) { return about_file(path, available_threads()); },
        py::arg("path"), py::call_guard<py::gil_scoped_release>());
    m.attr("PROJECTION_DIMS") = kLineCoordinates;
    m.def("available_threads", &available_threads);

    py::class_<Index>(m, "Index")
        .def(py::init<Metric, std::size_t, KeyType, bool>(), py::arg("metric"), py::arg("dims"),
             py::arg("key_type"), py::arg("keep_vectors"))
        .def("reserve", &Index::reserve, py::arg("rows"), py::call_guard<py::gil_scoped_release>())
        .def(
            "append",
            [](Index& self, const py::object& keys, const Array<float>& vectors,
               std::size_t threads) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                py::gil_scoped_release release;
                self.append(key.span, v.data, v.row_stride, threads);
            },
            py::arg("keys"), py::arg("vectors").noconvert(), py::arg("threads"))
        .def(
            "sample",
            [](const Index& self, std::size_t n) {
                std::vector<float> rows;
                {
                    py::gil_scoped_release release;
                    rows = self.sample(n);
                }
                const auto count = static_cast<py::ssize_t>(rows.size() / self.dims());
                return owned_array(std::move(rows), {count, static_cast<py::ssize_t>(self.dims())});
            },
            py::arg("n"))
        .def(
            "set_projection",
            [](Index& self, const Array<float>& projection, const Array<float>& mean) {
                const auto p = matrix(projection, "projection");
                if (p.rows != self.dims() || p.width != kLineCoordinates ||
                    (p.rows > 1 && p.row_stride != p.width)) {
                    throw py::value_error("projection has shape (" + std::to_string(p.rows) + ", " +
                                          std::to_string(p.width) + "), wanted (" +
                                          std::to_string(self.dims()) + ", " +
                                          std::to_string(kLineCoordinates) + ")");
                }
                self.set_projection(p.data, line(mean, self.dims(), "mean"));
            },
            py::arg("projection").noconvert(), py::arg("mean").noconvert())
        .def(
            "add_flat_codes",
            [](Index& self, Space space, std::size_t dims, Precision precision,
               const std::optional<Array<float>>& mean, std::size_t threads) {
                if (dims < 1 || dims > self.dims()) {
                    throw py::value_error("a prefix of " + std::to_string(dims) +
                                          " dims, the index has " + std::to_string(self.dims()));
                }
                if (precision != Precision::int8 && precision != Precision::bit)
                    throw py::value_error("flat codes are int8 or bit");
                if ((precision == Precision::bit && space == Space::prefix) != mean.has_value()) {
                    throw py::value_error("bit codes of a prefix take a mean, others none");
                }
                const float* m0 = mean ? line(*mean, dims, "mean") : nullptr;
                py::gil_scoped_release release;
                self.add_flat_codes(space, dims, precision, m0, threads);
            },
            py::arg("space"), py::arg("dims"), py::arg("precision"), py::arg("mean"),
            py::arg("threads"))
        .def("add_line_codes", &Index::add_line_codes, py::arg("threads"),
             py::call_guard<py::gil_scoped_release>())
        .def(
            "build",
            [](Index& self, std::size_t threads, std::size_t candidates, std::size_t compared_rows,
               std::size_t rounds, std::size_t walk_hops, std::size_t walk_pool, float alpha,
               const std::optional<std::function<void(double, double)>>& progress) {
                BuildOptions options;
                options.threads = threads;
                options.candidates = candidates;
                options.compared_rows = compared_rows;
                options.rounds = rounds;
                options.walk_hops = walk_hops;
                options.walk_pool = walk_pool;
                options.alpha = alpha;
                BuildProgress report;
                if (progress) {
                    report = [&progress](double done, double total) {
                        const py::gil_scoped_acquire acquire;
                        (*progress)(done, total);
                    };
                }
                py::gil_scoped_release release;
                self.build(options, report);
            },
            py::arg("threads"), py::arg("candidates"), py::arg("compared_rows"), py::arg("rounds"),
            py::arg("walk_hops"), py::arg("walk_pool"), py::arg("alpha"), py::arg("progress"))
        .def(
            "upsert",
            [](Index& self, const py::object& keys, const Array<float>& vectors) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                py::gil_scoped_release release;
                self.upsert(key.span, v.data, v.row_stride);
            },
            py::arg("keys"), py::arg("vectors").noconvert())
        .def("link_waiting", &Index::link_waiting, py::arg("most"), py::arg("threads"),
             py::call_guard<py::gil_scoped_release>())
        .def_property_readonly("waiting", &Index::waiting)
        .def(
            "erase",
            [](Index& self, const py::object& keys) {
                const KeyArgument key(self.keys().type(), keys);
                py::gil_scoped_release release;
                return self.erase(key.span);
            },
            py::arg("keys"))
        .def("save", &Index::save, py::arg("path"), py::arg("about"),
             py::call_guard<py::gil_scoped_release>())
        .def_static(
            "open",
            [](const std::string& path) {
                std::string about;
                std::unique_ptr<Index> index;
                {
                    py::gil_scoped_release release;
                    index = Index::open(path, about);
                }
                return py::make_tuple(std::move(index), about);
            },
            py::arg("path"))
        .def_property_readonly("dims", &Index::dims)
        .def("heal", &Index::heal, py::call_guard<py::gil_scoped_release>())
        .def(
            "select",
            [](const Index& self, const py::object& keys) {
                const KeyArgument key(self.keys().type(), keys);
                py::gil_scoped_release release;
                return self.select(key.span);
            },
            py::arg("keys"))
        .def("live", &live, py::arg("selection").none(true))
        .def("coordinates", &coordinates, py::arg("live"), py::arg("places").noconvert(),
             py::arg("begin"), py::arg("end"))
        .def(
            "compare",
            [](const Index& self, const py::object& keys, const Array<float>& vectors,
               Comparison& comparison) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                std::vector<std::size_t> found;
                {
                    py::gil_scoped_release release;
                    found = self.compare(key.span, v.data, v.row_stride, comparison);
                }
                const auto count = static_cast<py::ssize_t>(found.size());
                return owned_array(std::move(found), {count});
            },
            py::arg("keys"), py::arg("vectors").noconvert(), py::arg("comparison"))
        .def("erase_unmet", &Index::erase_unmet, py::arg("comparison"),
             py::call_guard<py::gil_scoped_release>())
        .def("search_one", &search_one, py::arg("query"), py::arg("plan"))
        .def("search_many", &search_many, py::arg("queries").noconvert(), py::arg("plan"),
             py::arg("selection").none(true), py::arg("threads"), py::arg("without_last_stage"),
             py::arg("hidden").none(true) = nullptr)
        .def(
            "hide",
            [](const Index& self, const py::object& keys, std::size_t threads) {
                const KeyArgument key(self.keys().type(), keys);
                const py::gil_scoped_release release;
                return std::make_unique<HiddenRows>(self.hide(key.span, threads));
            },
            py::arg("keys"), py::arg("threads"), py::keep_alive<0, 1>())
        .def("check", &Index::check, py::arg("plan"))
        .def("links",
             [](const Index& self) {
                 std::vector<std::uint32_t> all = self.links();
                 const auto rows = static_cast<py::ssize_t>(all.size() / kDegree);
                 return owned_array(std::move(all), {rows, static_cast<py::ssize_t>(kDegree)});
             })
        .def_property_readonly("rows", &Index::live_rows)
        .def_property_readonly("bytes", &Index::bytes)
        .def_property_readonly("vector_bytes", &Index::vector_bytes)
        .def_property_readonly("has_graph", &Index::has_graph);
}

}  // namespace mrl::python
