// With index_bindings.cpp, the only file that has heard of Python: checks shape, dtype and stride, says both sides, copies nothing in
// silence, releases the GIL, owns what it returns. mrl_db/kernels.py is the door with the friendly messages; these checks keep memory safe
// whoever calls.
#include "bindings.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "index/exact_scan.hpp"
#include "index/rerank.hpp"
#include "index/top_k.hpp"
#include "kernels/dispatch.hpp"
#include "wire/copy_decoder.hpp"
#include "wire/copy_encoder.hpp"
#include "wire/row_check.hpp"

namespace py = pybind11;
using mrl::python::Array;
using mrl::python::line;
using mrl::python::matrix;
using mrl::python::owned_array;

namespace {

void check_width(std::size_t wanted, std::size_t width) {
    if (wanted > width) throw py::value_error("rows have " + std::to_string(width) + " dims, wanted a prefix of " + std::to_string(wanted));
}

py::array_t<float> float_scores(mrl::FloatRows mrl::Kernels::* kernel, const Array<float>& query, const Array<float>& rows,
                                std::size_t dims) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    const float* q = line(query, dims, "query");
    py::array_t<float> out(static_cast<py::ssize_t>(m.rows));
    float* scores = out.mutable_data();
    {
        py::gil_scoped_release release;
        (mrl::kernels().*kernel)(q, m.data, m.rows, m.row_stride, dims, scores);
    }
    return out;
}

py::array_t<std::int32_t> inner_product_int8(const Array<std::int8_t>& query, const Array<std::int8_t>& rows, std::size_t dims) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    if (dims > 65536) throw py::value_error(std::to_string(dims) + " dims of int8 codes, at most 65536 fit an int32 sum");
    const std::int8_t* q = line(query, dims, "query");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        py::gil_scoped_release release;
        mrl::kernels().inner_product_int8(q, m.data, m.rows, m.row_stride, dims, scores);
    }
    return out;
}

py::array_t<std::int32_t> hamming(const Array<std::uint8_t>& query, const Array<std::uint8_t>& rows, std::size_t bytes) {
    const auto m = matrix(rows, "rows");
    check_width(bytes, m.width);
    const std::uint8_t* q = line(query, bytes, "query");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        py::gil_scoped_release release;
        mrl::kernels().hamming(q, m.data, m.rows, m.row_stride, bytes, scores);
    }
    return out;
}

py::array_t<std::int32_t> inner_product_bit(const Array<std::uint8_t>& planes, const Array<std::uint8_t>& rows) {
    const auto m = matrix(rows, "rows");
    const auto q = matrix(planes, "planes");
    if (q.rows < 1 || q.rows > 8) throw py::value_error(std::to_string(q.rows) + " bit planes, wanted 1 to 8");
    check_width(q.width, m.width);
    if (q.rows > 1 && q.row_stride != q.width) throw py::value_error("planes are not contiguous");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        py::gil_scoped_release release;
        mrl::kernels().inner_product_bit(q.data, q.rows, m.data, m.rows, m.row_stride, q.width, scores);
    }
    return out;
}

template <class Score>
py::tuple best_of(std::vector<mrl::Hit<Score>> hits) {
    py::array_t<Score> scores(static_cast<py::ssize_t>(hits.size()));
    py::array_t<std::int64_t> positions(static_cast<py::ssize_t>(hits.size()));
    for (std::size_t i = 0; i < hits.size(); ++i) {
        scores.mutable_data()[i] = hits[i].score;
        positions.mutable_data()[i] = hits[i].position;
    }
    return py::make_tuple(std::move(scores), std::move(positions));
}

// Scans block by block: `score` fills a block's scores, lower is better.
template <class Score, class ScoreBlock>
std::vector<mrl::Hit<Score>> scan_top_k(std::size_t n, std::size_t k, ScoreBlock&& score) {
    const mrl::Kernels& kernels = mrl::kernels();
    mrl::TopK<Score> top(std::min(k, n));
    Score scores[mrl::kScanBlock];
    for (std::size_t first = 0; first < n; first += mrl::kScanBlock) {
        const std::size_t count = std::min(mrl::kScanBlock, n - first);
        score(kernels, first, count, scores);
        top.offer(kernels, scores, count, static_cast<std::int64_t>(first));
    }
    return top.take();
}

template <class T>
void negate(T* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = -values[i];
}

py::tuple top_k(mrl::Metric metric, const Array<float>& query, const Array<float>& rows, std::size_t dims, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    const float* q = line(query, dims, "query");
    std::vector<mrl::Hit<float>> hits;
    {
        py::gil_scoped_release release;
        hits = scan_top_k<float>(m.rows, k, [&](const mrl::Kernels& kernels, std::size_t first, std::size_t count, float* scores) {
            const float* block = m.data + first * m.row_stride;
            switch (metric) {
                case mrl::Metric::cosine:
                    return kernels.cosine_distance(q, block, count, m.row_stride, dims, scores);
                case mrl::Metric::l2:
                    return kernels.squared_l2(q, block, count, m.row_stride, dims, scores);
                case mrl::Metric::inner_product:
                    kernels.inner_product(q, block, count, m.row_stride, dims, scores);
                    negate(scores, count);
            }
        });
    }
    return best_of(std::move(hits));
}

py::tuple top_k_int8(const Array<std::int8_t>& query, const Array<std::int8_t>& rows, std::size_t dims, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    if (dims > 65536) throw py::value_error(std::to_string(dims) + " dims of int8 codes, at most 65536 fit an int32 sum");
    const std::int8_t* q = line(query, dims, "query");
    std::vector<mrl::Hit<std::int32_t>> hits;
    {
        py::gil_scoped_release release;
        hits = scan_top_k<std::int32_t>(m.rows, k,
                                        [&](const mrl::Kernels& kernels, std::size_t first, std::size_t count, std::int32_t* scores) {
                                            kernels.inner_product_int8(q, m.data + first * m.row_stride, count, m.row_stride, dims, scores);
                                            negate(scores, count);
                                        });
    }
    return best_of(std::move(hits));
}

py::tuple top_k_hamming(const Array<std::uint8_t>& query, const Array<std::uint8_t>& rows, std::size_t bytes, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(bytes, m.width);
    const std::uint8_t* q = line(query, bytes, "query");
    std::vector<mrl::Hit<std::int32_t>> hits;
    {
        py::gil_scoped_release release;
        hits = scan_top_k<std::int32_t>(m.rows, k,
                                        [&](const mrl::Kernels& kernels, std::size_t first, std::size_t count, std::int32_t* scores) {
                                            kernels.hamming(q, m.data + first * m.row_stride, count, m.row_stride, bytes, scores);
                                        });
    }
    return best_of(std::move(hits));
}

py::tuple rerank(mrl::Metric metric, const Array<float>& queries, const Array<float>& rows, const Array<std::int64_t>& candidates,
                 std::size_t k, std::size_t threads) {
    const auto q = matrix(queries, "queries");
    const auto r = matrix(rows, "rows");
    const auto c = matrix(candidates, "candidates");
    if (q.width != r.width) throw py::value_error("queries have " + std::to_string(q.width) + " dims, rows " + std::to_string(r.width));
    if (q.rows != c.rows) throw py::value_error(std::to_string(c.rows) + " lists of candidates for " + std::to_string(q.rows) + " queries");
    if ((q.rows > 1 && q.row_stride != q.width) || (c.rows > 1 && c.row_stride != c.width)) {
        throw py::value_error("queries or candidates are not contiguous");
    }
    for (std::size_t i = 0; i < c.rows * c.width; ++i) {
        if (c.data[i] >= static_cast<std::int64_t>(r.rows)) {
            throw py::value_error("candidate " + std::to_string(c.data[i]) + " of " + std::to_string(r.rows) + " rows");
        }
    }
    const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(q.rows), static_cast<py::ssize_t>(k)};
    py::array_t<float> distances(shape);
    py::array_t<std::int64_t> positions(shape);
    float* distance_out = distances.mutable_data();
    std::int64_t* position_out = positions.mutable_data();
    {
        py::gil_scoped_release release;
        mrl::rerank(metric, q.data, q.rows, r.data, r.row_stride, r.width, c.data, c.width, k, threads, distance_out, position_out);
    }
    return py::make_tuple(std::move(distances), std::move(positions));
}

py::tuple exact_hits(const mrl::ExactScan& scan, std::size_t query) {
    if (query >= scan.n_queries()) throw py::index_error("query " + std::to_string(query) + " of " + std::to_string(scan.n_queries()));
    std::vector<mrl::ExactHit> hits;
    {
        py::gil_scoped_release release;
        hits = scan.hits(query);
    }
    py::array_t<double> distances(static_cast<py::ssize_t>(hits.size()));
    py::array_t<std::int64_t> positions(static_cast<py::ssize_t>(hits.size()));
    for (std::size_t i = 0; i < hits.size(); ++i) {
        distances.mutable_data()[i] = hits[i].distance;
        positions.mutable_data()[i] = hits[i].position;
    }
    return py::make_tuple(std::move(distances), std::move(positions));
}

py::tuple take_rows(mrl::wire::CopyDecoder& decoder, mrl::wire::KeyType key_type, std::size_t dims) {
    mrl::wire::Rows rows = decoder.take();
    const auto count = static_cast<py::ssize_t>(rows.count);
    py::object vectors = owned_array(std::move(rows.vectors), {count, static_cast<py::ssize_t>(dims)});
    if (key_type == mrl::wire::KeyType::text) {
        py::list keys(rows.count);
        for (std::size_t i = 0; i < rows.count; ++i) {
            const auto begin = static_cast<std::size_t>(rows.text_offsets[i]), end = static_cast<std::size_t>(rows.text_offsets[i + 1]);
            PyObject* key = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(rows.keys.data()) + begin,
                                                 static_cast<py::ssize_t>(end - begin), "strict");
            if (key == nullptr) throw py::error_already_set();
            keys[i] = py::reinterpret_steal<py::str>(key);
        }
        return py::make_tuple(std::move(keys), std::move(vectors));
    }
    const auto bytes = static_cast<py::ssize_t>(mrl::wire::key_bytes(key_type));
    return py::make_tuple(owned_array(std::move(rows.keys), {count, bytes}), std::move(vectors));
}

// A list of bytes or None as fields; the list keeps the bytes alive.
std::vector<mrl::wire::Field> fields(const py::list& values, const char* name) {
    std::vector<mrl::wire::Field> all;
    all.reserve(values.size());
    for (const py::handle value : values) {
        if (value.is_none()) {
            all.push_back({nullptr, 0});
        } else if (PyBytes_Check(value.ptr())) {
            const auto count = static_cast<std::size_t>(PyBytes_GET_SIZE(value.ptr()));
            if (count > 0x3fffffff) throw py::value_error(std::string(name) + " has a field over 1 GiB, the limit of PostgreSQL");
            all.push_back({PyBytes_AS_STRING(value.ptr()), count});
        } else {
            throw py::type_error(std::string(name) + " holds something that is neither bytes nor None");
        }
    }
    return all;
}

py::bytes encode_rows(mrl::wire::KeyType key_type, const py::object& keys, mrl::wire::VectorType vector_type, const Array<float>& vectors,
                      const py::list& extra, std::size_t extra_per_row) {
    const auto m = matrix(vectors, "vectors");
    if (m.width > 16000) throw py::value_error(std::to_string(m.width) + " dims, pgvector stores at most 16000");
    std::vector<mrl::wire::Field> text_keys;
    Array<std::uint8_t> key_array;
    const unsigned char* key_data = nullptr;
    if (key_type == mrl::wire::KeyType::text) {
        text_keys = fields(keys.cast<py::list>(), "keys");
        if (text_keys.size() != m.rows) throw py::value_error("keys and vectors differ in number");
    } else {
        key_array = keys.cast<Array<std::uint8_t>>();
        const auto k = matrix(key_array, "keys");
        if (k.rows != m.rows || k.width != mrl::wire::key_bytes(key_type) || (k.rows > 1 && k.row_stride != k.width)) {
            throw py::value_error("keys are not one contiguous row of bytes for each vector");
        }
        key_data = k.data;
    }
    const std::vector<mrl::wire::Field> extra_fields = fields(extra, "extra");
    if (extra_fields.size() != m.rows * extra_per_row) throw py::value_error("extra fields do not fill the rows");
    const mrl::wire::RowsToEncode rows{key_type,     key_data, text_keys.data(),    vector_type,   m.data,
                                       m.row_stride, m.width,  extra_fields.data(), extra_per_row, m.rows};
    const std::size_t size = mrl::wire::encoded_bytes(rows);
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size));
    if (bytes == nullptr) throw py::error_already_set();
    auto* out = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes));
    {
        py::gil_scoped_release release;
        mrl::wire::encode_rows(rows, out);
    }
    return py::reinterpret_steal<py::bytes>(bytes);
}

// The decoder with what its rows need to become arrays.
struct Decoder {
    mrl::wire::KeyType key_type;
    std::size_t dims;
    mrl::wire::CopyDecoder decoder;
};

}  // namespace

PYBIND11_MODULE(_kernels, m, py::mod_gil_not_used()) {
    m.doc() = "Kernels, exact scan and COPY codec of mrl_db; use mrl_db.kernels and mrl_db.Collection.";

    py::enum_<mrl::Metric>(m, "Metric")
        .value("cosine", mrl::Metric::cosine)
        .value("inner_product", mrl::Metric::inner_product)
        .value("l2", mrl::Metric::l2);
    py::enum_<mrl::wire::KeyType>(m, "KeyType")
        .value("int16", mrl::wire::KeyType::int16)
        .value("int32", mrl::wire::KeyType::int32)
        .value("int64", mrl::wire::KeyType::int64)
        .value("uuid", mrl::wire::KeyType::uuid)
        .value("text", mrl::wire::KeyType::text);
    py::enum_<mrl::wire::VectorType>(m, "VectorType")
        .value("float32", mrl::wire::VectorType::float32)
        .value("float16", mrl::wire::VectorType::float16);

    m.def("simd", [] { return mrl::kernels().name; });
    m.def("available_simd", [] {
        std::vector<std::string> names;
        for (const mrl::Kernels* kernels : mrl::available_kernels()) names.emplace_back(kernels->name);
        return names;
    });
    m.def("use_simd", &mrl::use_kernels, py::arg("name"));

    const auto def_float = [&m](const char* name, mrl::FloatRows mrl::Kernels::* kernel) {
        m.def(
            name,
            [kernel](const Array<float>& query, const Array<float>& rows, std::size_t dims) {
                return float_scores(kernel, query, rows, dims);
            },
            py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("dims"));
    };
    def_float("inner_product", &mrl::Kernels::inner_product);
    def_float("squared_l2", &mrl::Kernels::squared_l2);
    def_float("cosine_distance", &mrl::Kernels::cosine_distance);
    m.def("inner_product_int8", &inner_product_int8, py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("dims"));
    m.def("hamming", &hamming, py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("bytes"));
    m.def("inner_product_bit", &inner_product_bit, py::arg("planes").noconvert(), py::arg("rows").noconvert());
    m.def("top_k", &top_k, py::arg("metric"), py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("dims"), py::arg("k"));
    m.def("top_k_int8", &top_k_int8, py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("dims"), py::arg("k"));
    m.def("top_k_hamming", &top_k_hamming, py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("bytes"), py::arg("k"));

    m.def("rerank", &rerank, py::arg("metric"), py::arg("queries").noconvert(), py::arg("rows").noconvert(),
          py::arg("candidates").noconvert(), py::arg("k"), py::arg("threads"));

    py::class_<mrl::ExactScan>(m, "ExactScan")
        .def(py::init([](mrl::Metric metric, const Array<float>& queries, std::size_t k) {
                 const auto q = matrix(queries, "queries");
                 if (k < 1) throw py::value_error("k is 0, wanted at least 1");
                 if (q.rows > 1 && q.row_stride != q.width) throw py::value_error("queries are not contiguous");
                 return std::make_unique<mrl::ExactScan>(metric, q.data, q.rows, q.width, k);
             }),
             py::arg("metric"), py::arg("queries").noconvert(), py::arg("k"))
        .def(
            "scan",
            [](mrl::ExactScan& scan, const Array<float>& rows) {
                const auto r = matrix(rows, "rows");
                if (r.width != scan.dims()) {
                    throw py::value_error("rows have " + std::to_string(r.width) + " dims, queries " + std::to_string(scan.dims()));
                }
                py::gil_scoped_release release;
                scan.scan(r.data, r.rows, r.row_stride);
            },
            py::arg("rows").noconvert())
        .def("hits", &exact_hits, py::arg("query"))
        .def_property_readonly("rows_scanned", &mrl::ExactScan::rows_scanned);

    py::class_<Decoder>(m, "CopyDecoder")
        .def(py::init([](mrl::wire::KeyType key_type, mrl::wire::VectorType vector_type, std::size_t dims) {
                 if (dims < 1 || dims > 16000) throw py::value_error(std::to_string(dims) + " dims, pgvector stores 1 to 16000");
                 return std::make_unique<Decoder>(Decoder{key_type, dims, {key_type, vector_type, dims}});
             }),
             py::arg("key_type"), py::arg("vector_type"), py::arg("dims"))
        .def(
            "feed",
            [](Decoder& self, const py::buffer& piece) {
                const py::buffer_info info = piece.request();
                if (info.ndim != 1 || info.itemsize != 1 || (info.shape[0] > 1 && info.strides[0] != 1)) {
                    throw py::value_error("a piece of the stream must be contiguous bytes");
                }
                py::gil_scoped_release release;
                self.decoder.feed(static_cast<const unsigned char*>(info.ptr), static_cast<std::size_t>(info.shape[0]));
            },
            py::arg("piece"))
        .def("take", [](Decoder& self) { return take_rows(self.decoder, self.key_type, self.dims); })
        .def_property_readonly("rows_waiting", [](const Decoder& self) { return self.decoder.rows_waiting(); })
        .def_property_readonly("finished", [](const Decoder& self) { return self.decoder.finished(); });

    m.def(
        "first_bad_row",
        [](const Array<float>& rows, bool zero_forbidden, float largest) {
            const auto r = matrix(rows, "rows");
            mrl::wire::BadRow bad{0, mrl::wire::Fault::none};
            {
                py::gil_scoped_release release;
                bad = mrl::wire::first_bad_row(r.data, r.rows, r.row_stride, r.width, zero_forbidden, largest);
            }
            return std::make_pair(bad.row, static_cast<int>(bad.fault));
        },
        py::arg("rows").noconvert(), py::arg("zero_forbidden"), py::arg("largest"));
    m.def("copy_header", [] { return py::bytes(mrl::wire::copy_header()); });
    m.def("copy_trailer", [] { return py::bytes(mrl::wire::copy_trailer()); });
    m.def("encode_rows", &encode_rows, py::arg("key_type"), py::arg("keys"), py::arg("vector_type"), py::arg("vectors").noconvert(),
          py::arg("extra"), py::arg("extra_per_row"));
    mrl::python::define_index(m);
}
