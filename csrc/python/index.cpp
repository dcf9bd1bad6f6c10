// The native engine's index as Python sees it (mrl_db/engines/native is the door with the friendly
// messages).
#include "../index/index.hpp"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "../graph/default_effort.hpp"
#include "../store/store_file.hpp"
#include "../system/thread_pool.hpp"
#include "keys.hpp"
#include "search.hpp"

namespace mrl::python {
namespace {

constexpr std::size_t kMostDims = 16000;  // pgvector's most, of a vector

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

// A property that may have to wait for a lock, which nobody may do who holds Python's.
template <class Result>
py::cpp_function without_gil(Result (Index::*get)() const) {
    return py::cpp_function(get, py::call_guard<WithoutGil>());
}

// Of each kind of section: how often, the most that one changed, and milliseconds: the longest on
// the wall and of the CPU.
py::dict as_dict(const Sections& sections) {
    py::dict all;
    const auto add = [&](const char* name, const Section& section) {
        if (section.times == 0) return;
        py::dict one;
        one["times"] = section.times;
        one["most"] = section.most;
        one["longest_ms"] = static_cast<double>(section.held.longest) * 1e-6;
        one["longest_cpu_ms"] = static_cast<double>(section.computed.longest) * 1e-6;
        one["held"] = section.held.counts;
        all[name] = one;
    };
    add("put", sections.put);
    add("put_moving", sections.put_moving);
    add("appended", sections.appended);
    add("removed", sections.removed);
    add("linked", sections.linked);
    add("mended", sections.mended);
    add("buried", sections.buried);
    add("entries", sections.entries);
    add("texts", sections.texts);
    return all;
}

BuildOptions build_named(const std::string& name) {
    if (name == "default") return {};
    if (name == "fast") return kFastBuild;
    throw py::value_error("there is no build \"" + name + "\"");
}

}  // namespace

void define_index(py::module_& m) {
    py::register_exception<FileError>(m, "FileError", PyExc_OSError);

    py::class_<Selection>(m, "Selection")
        .def("__len__", [](const Selection& self) { return self.count; })
        .def_property_readonly("bytes", &Selection::bytes);

    py::class_<LiveRows>(m, "LiveRows").def("__len__", [](const LiveRows& self) {
        return self.rows.size();
    });

    py::class_<Comparison>(m, "Comparison").def(py::init<>());
    py::class_<HiddenRows>(m, "HiddenRows");

    m.def("about_file", &about_file, py::arg("path"), py::call_guard<WithoutGil>());
    m.attr("PROJECTION_DIMS") = kLineCoordinates;
    m.attr("BUILD_ROW_BYTES") = kBuildRowBytes;
    m.attr("SCAN_EFFORT") = kScanEffort;
    m.attr("ENOUGH_RECALL") = kEnoughRecall;
    m.def("default_effort_queries", &default_effort_queries, py::arg("n"), py::arg("dims"));
    m.def("default_efforts", &default_efforts, py::arg("first"), py::arg("n"));
    m.def("available_threads", &available_threads);
    m.def("measure_waits", [](bool measured) { measuring_waits = measured; }, py::arg("measured"));
    m.def("waited", [] { return py::make_tuple(waited.for_locks, waited.for_python); });

    py::class_<Index>(m, "Index")
        .def(py::init([](Metric metric, std::size_t dims, KeyType key_type, bool keep_vectors) {
                 if (dims < 1 || dims > kMostDims)
                     throw py::value_error("dims is " + std::to_string(dims) + ", wanted 1 to " +
                                           std::to_string(kMostDims));
                 return std::make_unique<Index>(metric, dims, key_type, keep_vectors);
             }),
             py::arg("metric"), py::arg("dims"), py::arg("key_type"), py::arg("keep_vectors"))
        .def("reserve", &Index::reserve, py::arg("rows"), py::call_guard<WithoutGil>())
        .def(
            "append",
            [](Index& self, const py::object& keys, const Array<float>& vectors,
               std::size_t threads) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                const WithoutGil released;
                self.append(key.span, v.data, v.row_stride, threads);
            },
            py::arg("keys"), py::arg("vectors").noconvert(), py::arg("threads"))
        .def(
            "sample",
            [](const Index& self, std::size_t n) {
                std::vector<float> rows;
                {
                    const WithoutGil released;
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
                if (!FlatCodes::keeps(precision))
                    throw py::value_error(std::string("there are no flat codes of ") +
                                          name_of(kPrecisions, precision));
                if ((precision == Precision::bit && space == Space::prefix) != mean.has_value()) {
                    throw py::value_error("bit codes of a prefix take a mean, others none");
                }
                const float* m0 = mean ? line(*mean, dims, "mean") : nullptr;
                const WithoutGil released;
                self.add_flat_codes(space, dims, precision, m0, threads);
            },
            py::arg("space"), py::arg("dims"), py::arg("precision"), py::arg("mean"),
            py::arg("threads"))
        .def("add_line_codes", &Index::add_line_codes, py::arg("threads"),
             py::call_guard<WithoutGil>())
        .def(
            "build",
            [](Index& self, const std::string& name, std::size_t threads,
               const std::optional<std::function<void(double, double)>>& progress) {
                BuildOptions options = build_named(name);
                options.threads = threads;
                BuildProgress report;
                if (progress) {
                    report = [&progress](double done, double total) {
                        const WithGil acquired;
                        (*progress)(done, total);
                    };
                }
                const WithoutGil released;
                self.build(options, report);
            },
            py::arg("name"), py::arg("threads"), py::arg("progress"))
        .def(
            "upsert",
            [](Index& self, const py::object& keys, const Array<float>& vectors) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                const WithoutGil released;
                self.upsert(key.span, v.data, v.row_stride);
            },
            py::arg("keys"), py::arg("vectors").noconvert())
        .def("link_waiting", &Index::link_waiting, py::arg("most"), py::arg("threads"),
             py::call_guard<WithoutGil>())
        .def_property_readonly("waiting", &Index::waiting)
        .def_property_readonly("is_behind", without_gil(&Index::is_behind))
        .def(
            "erase",
            [](Index& self, const py::object& keys) {
                const KeyArgument key(self.keys().type(), keys);
                const WithoutGil released;
                return self.erase(key.span);
            },
            py::arg("keys"))
        .def("save", &Index::save, py::arg("path"), py::arg("about"), py::call_guard<WithoutGil>())
        .def_static(
            "open",
            [](const std::string& path) {
                std::string about;
                std::unique_ptr<Index> index;
                {
                    const WithoutGil released;
                    index = Index::open(path, about);
                }
                return py::make_tuple(std::move(index), about);
            },
            py::arg("path"))
        .def_property_readonly("dims", &Index::dims)
        .def("heal", &Index::heal, py::call_guard<WithoutGil>())
        .def(
            "select",
            [](const Index& self, const py::object& keys) {
                const KeyArgument key(self.keys().type(), keys);
                const WithoutGil released;
                return self.select(key.span);
            },
            py::arg("keys"))
        .def(
            "reselect",
            [](const Index& self, const Selection& before, const py::object& changed,
               const py::object& passing) {
                check_mine(self, &before, "the selection is");
                const KeyArgument written(self.keys().type(), changed);
                const KeyArgument key(self.keys().type(), passing);
                const WithoutGil released;
                return self.reselect(before, written.span, key.span);
            },
            py::arg("before"), py::arg("changed"), py::arg("passing"))
        .def("live", &live_rows, py::arg("selection").none(true))
        .def("coordinates", &coordinates, py::arg("live"), py::arg("positions").noconvert(),
             py::arg("begin"), py::arg("end"))
        .def(
            "compare",
            [](const Index& self, const py::object& keys, const Array<float>& vectors,
               Comparison& comparison) {
                const KeyArgument key(self.keys().type(), keys);
                const auto v = vectors_of(self, vectors, key.span.n);
                std::vector<std::size_t> found;
                {
                    const WithoutGil released;
                    found = self.compare(key.span, v.data, v.row_stride, comparison);
                }
                const auto count = static_cast<py::ssize_t>(found.size());
                return owned_array(std::move(found), {count});
            },
            py::arg("keys"), py::arg("vectors").noconvert(), py::arg("comparison"))
        .def("erase_unmet", &Index::erase_unmet, py::arg("comparison"),
             py::call_guard<WithoutGil>())
        .def("search_one", &search_one, py::arg("query"), py::arg("plan"))
        .def("search_many", &search_many, py::arg("queries").noconvert(), py::arg("plan"),
             py::arg("selection").none(true), py::arg("threads"),
             py::arg("hidden").none(true) = nullptr)
        .def("candidates", &candidates, py::arg("queries").noconvert(), py::arg("plan"),
             py::arg("selection").none(true), py::arg("threads"),
             py::arg("hidden").none(true) = nullptr)
        .def(
            "hide",
            [](const Index& self, const py::object& keys, std::size_t threads) {
                const KeyArgument key(self.keys().type(), keys);
                const WithoutGil released;
                return std::make_unique<HiddenRows>(self.hide(key.span, threads));
            },
            py::arg("keys"), py::arg("threads"), py::keep_alive<0, 1>())
        .def("check", &Index::check, py::arg("plan"), py::call_guard<WithoutGil>())
        .def("links",
             [](const Index& self) {
                 std::vector<std::uint32_t> all;
                 {
                     const WithoutGil released;
                     all = self.links();
                 }
                 const auto rows = static_cast<py::ssize_t>(all.size() / kDegree);
                 return owned_array(std::move(all), {rows, static_cast<py::ssize_t>(kDegree)});
             })
        .def_property_readonly("rows", &Index::live_rows)
        .def_property_readonly("bytes", without_gil(&Index::bytes))
        .def_property_readonly("keeps_vectors", &Index::keeps_vectors)
        .def_property_readonly("vector_bytes", without_gil(&Index::vector_bytes))
        .def_property_readonly("sections",
                               [](const Index& self) {
                                   Sections sections;
                                   {
                                       const WithoutGil released;
                                       sections = self.sections();
                                   }
                                   return as_dict(sections);
                               })
        .def_property_readonly("has_graph", &Index::has_graph)
        .def_property("effort", &Index::effort, &Index::set_effort);
}

}  // namespace mrl::python
