// What the binding files share: NumPy arrays seen as plain memory, with both sides in every error.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "../store/words.hpp"
#include "gil.hpp"

namespace mrl::python {

namespace py = pybind11;

void define_kernels(py::module_& m);
void define_wire(py::module_& m);
void define_plan(py::module_& m);
void define_index(py::module_& m);

// Words as an enumeration of Python.
template <class Word, std::size_t count>
void define_words(py::module_& m, const char* name, const Named<Word> (&words)[count]) {
    py::enum_<Word> enumeration(m, name);
    for (const Named<Word>& each : words) enumeration.value(each.name, each.word);
}

template <class T>
using Array = py::array_t<T, 0>;  // with .noconvert(): exactly this dtype, any layout

// A matrix whose rows are contiguous; row_stride counts elements.
template <class T>
struct Matrix {
    const T* data;
    std::size_t rows;
    std::size_t width;
    std::size_t row_stride;
};

template <class T>
Matrix<T> matrix(const Array<T>& array, const char* name) {
    if (array.ndim() != 2)
        throw py::value_error(std::string(name) + " has " + std::to_string(array.ndim()) +
                              " axes, wanted 2");
    const auto element = static_cast<py::ssize_t>(sizeof(T));
    const py::ssize_t rows = array.shape(0), width = array.shape(1);
    if (rows > 0 && width > 1 && array.strides(1) != element)
        throw py::value_error(std::string(name) + " has rows that are not contiguous");
    py::ssize_t stride = width;
    if (rows > 1 && width > 0) {
        if (array.strides(0) < width * element || array.strides(0) % element != 0) {
            throw py::value_error(std::string(name) + " has a row stride of " +
                                  std::to_string(array.strides(0)) + " bytes for rows of " +
                                  std::to_string(width * element));
        }
        stride = array.strides(0) / element;
    }
    return {array.data(), static_cast<std::size_t>(rows), static_cast<std::size_t>(width),
            static_cast<std::size_t>(stride)};
}

template <class T>
const T* line(const Array<T>& array, std::size_t width, const char* name) {
    if (array.ndim() != 1)
        throw py::value_error(std::string(name) + " has " + std::to_string(array.ndim()) +
                              " axes, wanted 1");
    if (static_cast<std::size_t>(array.shape(0)) < width) {
        throw py::value_error(std::string(name) + " has " + std::to_string(array.shape(0)) +
                              " values, wanted " + std::to_string(width));
    }
    if (array.shape(0) > 1 && array.strides(0) != static_cast<py::ssize_t>(sizeof(T))) {
        throw py::value_error(std::string(name) + " is not contiguous");
    }
    return array.data();
}

// Hands a vector's memory to NumPy without a copy.
template <class T>
py::array owned_array(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    T* data = owner->data();
    const py::capsule release(owner.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
    owner.release();
    return py::array_t<T>(std::move(shape), data, release);
}

}  // namespace mrl::python
