// Every instruction set against plain loops, at every length, with rows that end at an unreadable
// page. Run under ASan and UBSan.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/dispatch.hpp"

namespace {

constexpr std::size_t kRows = 9;

void check_floats(const mrl::Kernels& kernels, std::size_t dims, std::size_t pad,
                  std::mt19937& random) {
    std::normal_distribution<float> normal;
    const std::size_t stride = dims + pad, count = (kRows - 1) * stride + dims;
    Guarded query_memory(dims * sizeof(float)), rows_memory(count * sizeof(float));
    auto* query = query_memory.as<float>();
    auto* rows = rows_memory.as<float>();
    for (std::size_t i = 0; i < dims; ++i) query[i] = normal(random);
    for (std::size_t i = 0; i < count; ++i) rows[i] = normal(random);
    std::vector<float> dot(kRows), l2(kRows), cosine(kRows);
    kernels.inner_product(query, rows, kRows, stride, dims, dot.data());
    kernels.squared_l2(query, rows, kRows, stride, dims, l2.data());
    kernels.cosine_distance(query, rows, kRows, stride, dims, cosine.data());
    const double gamma = (static_cast<double>(dims) + 4) * std::ldexp(1.0, -24);
    for (std::size_t row = 0; row < kRows; ++row) {
        double product = 0, magnitude = 0, square = 0, qq = 0, rr = 0;
        for (std::size_t i = 0; i < dims; ++i) {
            const double q = query[i], r = rows[row * stride + i];
            product += q * r;
            magnitude += std::fabs(q * r);
            square += (q - r) * (q - r);
            qq += q * q;
            rr += r * r;
        }
        CHECK(std::fabs(dot[row] - product) <= gamma * magnitude);
        CHECK(std::fabs(l2[row] - square) <= gamma * square);
        if (dims == 0) {
            CHECK(std::isnan(cosine[row]));
        } else {
            CHECK(std::fabs(cosine[row] - (1 - product / std::sqrt(qq * rr))) <= 4 * gamma);
        }
    }
}

void check_codes(const mrl::Kernels& kernels, std::size_t bytes, std::size_t pad,
                 std::mt19937& random) {
    const std::size_t stride = bytes + pad, count = (kRows - 1) * stride + bytes;
    Guarded query_memory(4 * bytes), rows_memory(count);
    auto* query = query_memory.as<std::uint8_t>();
    auto* rows = rows_memory.as<std::uint8_t>();
    for (std::size_t i = 0; i < 4 * bytes; ++i) query[i] = static_cast<std::uint8_t>(random());
    for (std::size_t i = 0; i < count; ++i) rows[i] = static_cast<std::uint8_t>(random());
    std::vector<std::int32_t> product(kRows), distance(kRows), bits(kRows);
    kernels.inner_product_int8(reinterpret_cast<std::int8_t*>(query),
                               reinterpret_cast<std::int8_t*>(rows), kRows, stride, bytes,
                               product.data());
    kernels.hamming(query, rows, kRows, stride, bytes, distance.data());
    for (std::size_t planes : {std::size_t{1}, std::size_t{4}}) {
        kernels.inner_product_bit(query, planes, rows, kRows, stride, bytes, bits.data());
        for (std::size_t row = 0; row < kRows; ++row) {
            std::int32_t sum = 0, differing = 0, weighted = 0;
            for (std::size_t i = 0; i < bytes; ++i) {
                const std::uint8_t r = rows[row * stride + i];
                sum += static_cast<std::int8_t>(query[i]) * static_cast<std::int8_t>(r);
                differing += __builtin_popcount(query[i] ^ r);
                for (std::size_t p = 0; p < planes; ++p)
                    weighted += __builtin_popcount(query[p * bytes + i] & r) << p;
            }
            CHECK(product[row] == sum);
            CHECK(distance[row] == differing);
            CHECK(bits[row] == weighted);
        }
    }
}

void check_selection(const mrl::Kernels& kernels, std::size_t n, std::mt19937& random) {
    Guarded float_memory(n * sizeof(float)), int_memory(n * sizeof(std::int32_t)),
        index_memory(n * sizeof(std::uint32_t));
    auto* floats = float_memory.as<float>();
    auto* ints = int_memory.as<std::int32_t>();
    auto* indices = index_memory.as<std::uint32_t>();
    for (std::size_t i = 0; i < n; ++i) {
        ints[i] = static_cast<std::int32_t>(random() % 7) - 3;
        floats[i] = random() % 11 == 0 ? NAN : static_cast<float>(ints[i]);
    }
    for (std::int32_t threshold = -4; threshold <= 4; ++threshold) {
        std::size_t count = kernels.select_below(floats, n, static_cast<float>(threshold), indices),
                    wanted = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (floats[i] < static_cast<float>(threshold))
                CHECK(wanted < count && indices[wanted++] == i);
        }
        CHECK(wanted == count);
        count = kernels.select_below_int32(ints, n, threshold, indices), wanted = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (ints[i] < threshold) CHECK(wanted < count && indices[wanted++] == i);
        }
        CHECK(wanted == count);
    }
}

// What neither a set nor its base gives would be called at a null pointer.
void check_that_none_lacks(const mrl::Kernels& kernels) {
    const void* pointers[sizeof(mrl::Kernels) / sizeof(void*)];
    std::memcpy(pointers, &kernels, sizeof pointers);
    for (const void* each : pointers) CHECK(each != nullptr);
}

}  // namespace

int main() {
    std::mt19937 random(20261121);
    for (const mrl::Kernels* kernels : mrl::available_kernels()) {
        check_that_none_lacks(*kernels);
        for (std::size_t length = 0; length <= 300; ++length) {
            for (std::size_t pad : {0, 1, 5}) {
                check_floats(*kernels, length, pad, random);
                check_codes(*kernels, length, pad, random);
            }
            check_selection(*kernels, length, random);
        }
        std::printf("%s: lengths 0 to 300 agree with plain loops\n", kernels->name);
    }
}
