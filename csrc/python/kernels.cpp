// Kernels, top-k, reranking and the exact scan as Python sees them (mrl_db/kernels.py is the door
// with the friendly messages).
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <vector>

#include "../kernels/dispatch.hpp"
#include "../search/best.hpp"
#include "../search/exact_scan.hpp"
#include "../search/rerank.hpp"
#include "../store/metric.hpp"
#include "arrays.hpp"

namespace mrl::python {
namespace {

void check_width(std::size_t wanted, std::size_t width) {
    if (wanted > width)
        throw py::value_error("rows have " + std::to_string(width) + " dims, wanted a prefix of " +
                              std::to_string(wanted));
}

py::array_t<float> float_scores(FloatRows Kernels::* kernel, const Array<float>& query,
                                const Array<float>& rows, std::size_t dims) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    const float* q = line(query, dims, "query");
    py::array_t<float> out(static_cast<py::ssize_t>(m.rows));
    float* scores = out.mutable_data();
    {
        const WithoutGil released;
        (kernels().*kernel)(q, m.data, m.rows, m.row_stride, dims, scores);
    }
    return out;
}

py::array_t<std::int32_t> inner_product_int8(const Array<std::int8_t>& query,
                                             const Array<std::int8_t>& rows, std::size_t dims) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    if (dims > 65536)
        throw py::value_error(std::to_string(dims) +
                              " dims of int8 codes, at most 65536 fit an int32 sum");
    const std::int8_t* q = line(query, dims, "query");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        const WithoutGil released;
        kernels().inner_product_int8(q, m.data, m.rows, m.row_stride, dims, scores);
    }
    return out;
}

py::array_t<std::int32_t> hamming(const Array<std::uint8_t>& query, const Array<std::uint8_t>& rows,
                                  std::size_t bytes) {
    const auto m = matrix(rows, "rows");
    check_width(bytes, m.width);
    const std::uint8_t* q = line(query, bytes, "query");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        const WithoutGil released;
        kernels().hamming(q, m.data, m.rows, m.row_stride, bytes, scores);
    }
    return out;
}

py::array_t<std::int32_t> inner_product_bit(const Array<std::uint8_t>& planes,
                                            const Array<std::uint8_t>& rows) {
    const auto m = matrix(rows, "rows");
    const auto q = matrix(planes, "planes");
    if (q.rows < 1 || q.rows > 8)
        throw py::value_error(std::to_string(q.rows) + " bit planes, wanted 1 to 8");
    check_width(q.width, m.width);
    if (q.rows > 1 && q.row_stride != q.width) throw py::value_error("planes are not contiguous");
    py::array_t<std::int32_t> out(static_cast<py::ssize_t>(m.rows));
    std::int32_t* scores = out.mutable_data();
    {
        const WithoutGil released;
        kernels().inner_product_bit(q.data, q.rows, m.data, m.rows, m.row_stride, q.width, scores);
    }
    return out;
}

template <class Score>
py::tuple best_of(std::vector<Hit<Score>> hits) {
    py::array_t<Score> scores(static_cast<py::ssize_t>(hits.size()));
    py::array_t<std::int64_t> positions(static_cast<py::ssize_t>(hits.size()));
    for (std::size_t i = 0; i < hits.size(); ++i) {
        scores.mutable_data()[i] = hits[i].score;
        positions.mutable_data()[i] = hits[i].row;
    }
    return py::make_tuple(std::move(scores), std::move(positions));
}

// Scans block by block: `score` fills a block's scores, lower is better.
template <class Score, class ScoreBlock>
std::vector<Hit<Score>> scan_top_k(std::size_t n, std::size_t k, ScoreBlock&& score) {
    const Kernels& in_use = kernels();
    TopK<Score> top(std::min(k, n));
    Score scores[kScanBlock];
    for (std::size_t first = 0; first < n; first += kScanBlock) {
        const std::size_t count = std::min(kScanBlock, n - first);
        score(in_use, first, count, scores);
        top.offer(in_use, scores, count, static_cast<std::int64_t>(first));
    }
    return top.take();
}

template <class T>
void negate(T* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = -values[i];
}

py::tuple top_k(Metric metric, const Array<float>& query, const Array<float>& rows,
                std::size_t dims, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    const float* q = line(query, dims, "query");
    std::vector<Hit<float>> hits;
    {
        const WithoutGil released;
        hits = scan_top_k<float>(
            m.rows, k,
            [&](const Kernels& in_use, std::size_t first, std::size_t count, float* scores) {
                metric_scores(in_use, metric, q, m.data + first * m.row_stride, count, m.row_stride,
                              dims, scores);
            });
    }
    return best_of(std::move(hits));
}

py::tuple top_k_int8(const Array<std::int8_t>& query, const Array<std::int8_t>& rows,
                     std::size_t dims, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(dims, m.width);
    if (dims > 65536)
        throw py::value_error(std::to_string(dims) +
                              " dims of int8 codes, at most 65536 fit an int32 sum");
    const std::int8_t* q = line(query, dims, "query");
    std::vector<Hit<std::int32_t>> hits;
    {
        const WithoutGil released;
        hits = scan_top_k<std::int32_t>(m.rows, k,
                                        [&](const Kernels& kernels, std::size_t first,
                                            std::size_t count, std::int32_t* scores) {
                                            kernels.inner_product_int8(
                                                q, m.data + first * m.row_stride, count,
                                                m.row_stride, dims, scores);
                                            negate(scores, count);
                                        });
    }
    return best_of(std::move(hits));
}

py::tuple top_k_hamming(const Array<std::uint8_t>& query, const Array<std::uint8_t>& rows,
                        std::size_t bytes, std::size_t k) {
    const auto m = matrix(rows, "rows");
    check_width(bytes, m.width);
    const std::uint8_t* q = line(query, bytes, "query");
    std::vector<Hit<std::int32_t>> hits;
    {
        const WithoutGil released;
        hits = scan_top_k<std::int32_t>(m.rows, k,
                                        [&](const Kernels& kernels, std::size_t first,
                                            std::size_t count, std::int32_t* scores) {
                                            kernels.hamming(q, m.data + first * m.row_stride, count,
                                                            m.row_stride, bytes, scores);
                                        });
    }
    return best_of(std::move(hits));
}

py::tuple rerank(Metric metric, const Array<float>& queries, const Array<float>& rows,
                 const Array<std::int64_t>& candidates, std::size_t k, std::size_t threads) {
    const auto q = matrix(queries, "queries");
    const auto r = matrix(rows, "rows");
    const auto c = matrix(candidates, "candidates");
    if (q.width != r.width)
        throw py::value_error("queries have " + std::to_string(q.width) + " dims, rows " +
                              std::to_string(r.width));
    if (q.rows != c.rows)
        throw py::value_error(std::to_string(c.rows) + " lists of candidates for " +
                              std::to_string(q.rows) + " queries");
    if ((q.rows > 1 && q.row_stride != q.width) || (c.rows > 1 && c.row_stride != c.width)) {
        throw py::value_error("queries or candidates are not contiguous");
    }
    for (std::size_t i = 0; i < c.rows * c.width; ++i) {
        if (c.data[i] >= static_cast<std::int64_t>(r.rows)) {
            throw py::value_error("candidate " + std::to_string(c.data[i]) + " of " +
                                  std::to_string(r.rows) + " rows");
        }
    }
    const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(q.rows),
                                         static_cast<py::ssize_t>(k)};
    py::array_t<float> distances(shape);
    py::array_t<std::int64_t> positions(shape);
    float* distance_out = distances.mutable_data();
    std::int64_t* position_out = positions.mutable_data();
    {
        const WithoutGil released;
        rerank(metric, q.data, q.rows, r.data, r.row_stride, r.width, c.data, c.width, k, threads,
               distance_out, position_out);
    }
    return py::make_tuple(std::move(distances), std::move(positions));
}

py::tuple exact_hits(const ExactScan& scan, std::size_t query) {
    if (query >= scan.n_queries())
        throw py::index_error("query " + std::to_string(query) + " of " +
                              std::to_string(scan.n_queries()));
    std::vector<ExactHit> hits;
    {
        const WithoutGil released;
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

}  // namespace

void define_kernels(py::module_& m) {
    define_words(m, "Metric", kMetrics);

    m.def("simd", [] { return kernels().name; });
    m.def("available_simd", [] {
        std::vector<std::string> names;
        for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
        return names;
    });
    m.def("use_simd", &use_kernels, py::arg("name"));

    const auto def_float = [&m](const char* name, FloatRows Kernels::* kernel) {
        m.def(
            name,
            [kernel](const Array<float>& query, const Array<float>& rows, std::size_t dims) {
                return float_scores(kernel, query, rows, dims);
            },
            py::arg("query").noconvert(), py::arg("rows").noconvert(), py::arg("dims"));
    };
    def_float("inner_product", &Kernels::inner_product);
    def_float("squared_l2", &Kernels::squared_l2);
    def_float("cosine_distance", &Kernels::cosine_distance);
    m.def("inner_product_int8", &inner_product_int8, py::arg("query").noconvert(),
          py::arg("rows").noconvert(), py::arg("dims"));
    m.def("hamming", &hamming, py::arg("query").noconvert(), py::arg("rows").noconvert(),
          py::arg("bytes"));
    m.def("inner_product_bit", &inner_product_bit, py::arg("planes").noconvert(),
          py::arg("rows").noconvert());
    m.def("top_k", &top_k, py::arg("metric"), py::arg("query").noconvert(),
          py::arg("rows").noconvert(), py::arg("dims"), py::arg("k"));
    m.def("top_k_int8", &top_k_int8, py::arg("query").noconvert(), py::arg("rows").noconvert(),
          py::arg("dims"), py::arg("k"));
    m.def("top_k_hamming", &top_k_hamming, py::arg("query").noconvert(),
          py::arg("rows").noconvert(), py::arg("bytes"), py::arg("k"));

    m.def("rerank", &rerank, py::arg("metric"), py::arg("queries").noconvert(),
          py::arg("rows").noconvert(), py::arg("candidates").noconvert(), py::arg("k"),
          py::arg("threads"));

    py::class_<ExactScan>(m, "ExactScan")
        .def(py::init([](Metric metric, const Array<float>& queries, std::size_t k) {
                 const auto q = matrix(queries, "queries");
                 if (k < 1) throw py::value_error("k is 0, wanted at least 1");
                 if (q.rows > 1 && q.row_stride != q.width)
                     throw py::value_error("queries are not contiguous");
                 return std::make_unique<ExactScan>(metric, q.data, q.rows, q.width, k);
             }),
             py::arg("metric"), py::arg("queries").noconvert(), py::arg("k"))
        .def(
            "scan",
            [](ExactScan& scan, const Array<float>& rows) {
                const auto r = matrix(rows, "rows");
                if (r.width != scan.dims()) {
                    throw py::value_error("rows have " + std::to_string(r.width) +
                                          " dims, queries " + std::to_string(scan.dims()));
                }
                const WithoutGil released;
                scan.scan(r.data, r.rows, r.row_stride);
            },
            py::arg("rows").noconvert())
        .def("hits", &exact_hits, py::arg("query"))
        .def_property_readonly("rows_scanned", &ExactScan::rows_scanned);
}

}  // namespace mrl::python
