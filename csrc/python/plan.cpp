// Plans of the native engine as Python makes them.
#include "../search/plan.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"

namespace mrl::python {

void define_plan(py::module_& m) {
    py::enum_<Route>(m, "Route").value("flat", Route::flat).value("graph", Route::graph);
    define_words(m, "Space", kSpaces);
    define_words(m, "Precision", kPrecisions);
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
}

}  // namespace mrl::python
