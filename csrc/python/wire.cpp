// PostgreSQL's COPY codec as Python sees it.
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../wire/copy_decoder.hpp"
#include "../wire/copy_encoder.hpp"
#include "../wire/row_check.hpp"
#include "arrays.hpp"

namespace mrl::python {
namespace {

py::tuple take_rows(wire::CopyDecoder& decoder, KeyType key_type, std::size_t dims) {
    wire::Rows rows = decoder.take();
    const auto count = static_cast<py::ssize_t>(rows.count);
    py::object vectors =
        owned_array(std::move(rows.vectors), {count, static_cast<py::ssize_t>(dims)});
    if (key_type == KeyType::text) {
        py::list keys(rows.count);
        for (std::size_t i = 0; i < rows.count; ++i) {
            const auto begin = static_cast<std::size_t>(rows.text_offsets[i]),
                       end = static_cast<std::size_t>(rows.text_offsets[i + 1]);
            PyObject* key =
                PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(rows.keys.data()) + begin,
                                     static_cast<py::ssize_t>(end - begin), "strict");
            if (key == nullptr) throw py::error_already_set();
            keys[i] = py::reinterpret_steal<py::str>(key);
        }
        return py::make_tuple(std::move(keys), std::move(vectors));
    }
    const auto bytes = static_cast<py::ssize_t>(key_bytes(key_type));
    return py::make_tuple(owned_array(std::move(rows.keys), {count, bytes}), std::move(vectors));
}

// A list of bytes or None as fields; the list keeps the bytes alive.
std::vector<wire::Field> fields(const py::list& values, const char* name) {
    std::vector<wire::Field> all;
    all.reserve(values.size());
    for (const py::handle value : values) {
        if (value.is_none()) {
            all.push_back({nullptr, 0});
        } else if (PyBytes_Check(value.ptr())) {
            const auto count = static_cast<std::size_t>(PyBytes_GET_SIZE(value.ptr()));
            if (count > 0x3fffffff)
                throw py::value_error(std::string(name) +
                                      " has a field over 1 GiB, the limit of PostgreSQL");
            all.push_back({PyBytes_AS_STRING(value.ptr()), count});
        } else {
            throw py::type_error(std::string(name) +
                                 " holds something that is neither bytes nor None");
        }
    }
    return all;
}

py::bytes encode_rows(KeyType key_type, const py::object& keys, wire::VectorType vector_type,
                      const Array<float>& vectors, const py::list& extra,
                      std::size_t extra_per_row) {
    const auto m = matrix(vectors, "vectors");
    if (m.width > 16000)
        throw py::value_error(std::to_string(m.width) + " dims, pgvector stores at most 16000");
    std::vector<wire::Field> text_keys;
    Array<std::uint8_t> key_array;
    const unsigned char* key_data = nullptr;
    if (key_type == KeyType::text) {
        text_keys = fields(keys.cast<py::list>(), "keys");
        if (text_keys.size() != m.rows) throw py::value_error("keys and vectors differ in number");
    } else {
        key_array = keys.cast<Array<std::uint8_t>>();
        const auto k = matrix(key_array, "keys");
        if (k.rows != m.rows || k.width != key_bytes(key_type) ||
            (k.rows > 1 && k.row_stride != k.width)) {
            throw py::value_error("keys are not one contiguous row of bytes for each vector");
        }
        key_data = k.data;
    }
    const std::vector<wire::Field> extra_fields = fields(extra, "extra");
    if (extra_fields.size() != m.rows * extra_per_row)
        throw py::value_error("extra fields do not fill the rows");
    const wire::RowsToEncode rows{
        key_type,     key_data, text_keys.data(),    vector_type,   m.data,
        m.row_stride, m.width,  extra_fields.data(), extra_per_row, m.rows};
    const std::size_t size = wire::encoded_bytes(rows);
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size));
    if (bytes == nullptr) throw py::error_already_set();
    auto* out = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes));
    {
        const WithoutGil released;
        wire::encode_rows(rows, out);
    }
    return py::reinterpret_steal<py::bytes>(bytes);
}

// The decoder with what its rows need to become arrays.
struct Decoder {
    KeyType key_type;
    std::size_t dims;
    wire::CopyDecoder decoder;
};

}  // namespace

void define_wire(py::module_& m) {
    define_words(m, "KeyType", kKeyTypes);
    py::enum_<wire::VectorType>(m, "VectorType")
        .value("float32", wire::VectorType::float32)
        .value("float16", wire::VectorType::float16);

    py::class_<Decoder>(m, "CopyDecoder")
        .def(py::init([](KeyType key_type, wire::VectorType vector_type, std::size_t dims) {
                 if (dims < 1 || dims > 16000)
                     throw py::value_error(std::to_string(dims) +
                                           " dims, pgvector stores 1 to 16000");
                 return std::make_unique<Decoder>(
                     Decoder{key_type, dims, {key_type, vector_type, dims}});
             }),
             py::arg("key_type"), py::arg("vector_type"), py::arg("dims"))
        .def(
            "feed",
            [](Decoder& self, const py::buffer& piece) {
                const py::buffer_info info = piece.request();
                if (info.ndim != 1 || info.itemsize != 1 ||
                    (info.shape[0] > 1 && info.strides[0] != 1)) {
                    throw py::value_error("a piece of the stream must be contiguous bytes");
                }
                const WithoutGil released;
                self.decoder.feed(static_cast<const unsigned char*>(info.ptr),
                                  static_cast<std::size_t>(info.shape[0]));
            },
            py::arg("piece"))
        .def("take",
             [](Decoder& self) { return take_rows(self.decoder, self.key_type, self.dims); })
        .def_property_readonly("rows_waiting",
                               [](const Decoder& self) { return self.decoder.rows_waiting(); })
        .def_property_readonly("finished",
                               [](const Decoder& self) { return self.decoder.finished(); });

    m.def(
        "first_bad_row",
        [](const Array<float>& rows, bool zero_forbidden, float largest, float least_square,
           float most_square) {
            const auto r = matrix(rows, "rows");
            wire::BadRow bad{0, wire::Fault::none};
            {
                const WithoutGil released;
                bad = wire::first_bad_row(r.data, r.rows, r.row_stride, r.width, zero_forbidden,
                                          largest, {least_square, most_square});
            }
            return std::make_pair(bad.row, static_cast<int>(bad.fault));
        },
        py::arg("rows").noconvert(), py::arg("zero_forbidden"), py::arg("largest"),
        py::arg("least_square") = wire::Squares{}.least,
        py::arg("most_square") = wire::Squares{}.most);
    m.def("copy_header", [] { return py::bytes(wire::copy_header()); });
    m.def("copy_trailer", [] { return py::bytes(wire::copy_trailer()); });
    m.def("encode_rows", &encode_rows, py::arg("key_type"), py::arg("keys"), py::arg("vector_type"),
          py::arg("vectors").noconvert(), py::arg("extra"), py::arg("extra_per_row"));
}

}  // namespace mrl::python
