// The module: the files of this folder are all that has heard of Python. They check shape, dtype
// and stride, say both sides, copy nothing in silence, release the GIL, and own what they return.
// mrl_db/kernels.py and mrl_db/engines are the doors with the friendly messages; these checks keep
// memory safe whoever calls.
#include "arrays.hpp"

PYBIND11_MODULE(_kernels, m, pybind11::mod_gil_not_used()) {
    m.doc() =
        "Kernels, exact scan and COPY codec of mrl_db; use mrl_db.kernels and mrl_db.Collection.";
    mrl::python::end_at_exit();
    mrl::python::define_kernels(m);
    mrl::python::define_wire(m);
    mrl::python::define_plan(m);
    mrl::python::define_index(m);
}
