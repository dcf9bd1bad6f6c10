// The COPY codec: what is encoded is decoded bit for bit, in pieces of any size, and no mutated
// stream does harm. Run under ASan and UBSan.
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "wire/copy_decoder.hpp"
#include "wire/copy_encoder.hpp"
#include "wire/row_check.hpp"

using namespace mrl::wire;
using mrl::float_to_half, mrl::half_to_float, mrl::key_bytes, mrl::KeyType;

namespace {

struct Case {
    KeyType key_type;
    VectorType vector_type;
    std::size_t dims;
    std::vector<unsigned char> keys;
    std::vector<std::string> texts;
    std::vector<float> vectors;
    std::size_t count;
};

Case random_case(std::mt19937& random) {
    Case c{static_cast<KeyType>(random() % 5),
           static_cast<VectorType>(random() % 2),
           1 + random() % 40,
           {},
           {},
           {},
           random() % 30};
    c.keys.resize(c.count * key_bytes(c.key_type));
    for (unsigned char& byte : c.keys) byte = static_cast<unsigned char>(random());
    for (std::size_t i = 0; i < c.count; ++i)
        c.texts.emplace_back(random() % 50, static_cast<char>('a' + random() % 26));
    for (std::size_t i = 0; i < c.count * c.dims; ++i)
        c.vectors.push_back(
            half_to_float(float_to_half(static_cast<float>(random() % 2001) / 100 - 10)));
    return c;
}

std::string encode(const Case& c) {
    std::vector<Field> texts;
    for (const std::string& text : c.texts) texts.push_back({text.data(), text.size()});
    const RowsToEncode rows{c.key_type,    c.keys.data(),    texts.data(),
                            c.vector_type, c.vectors.data(), c.dims,
                            c.dims,        nullptr,          0,
                            c.count};
    std::string body(encoded_bytes(rows), '\0');
    encode_rows(rows, reinterpret_cast<unsigned char*>(body.data()));
    return copy_header() + body + copy_trailer();
}

Rows decode(const Case& c, const std::string& stream, std::mt19937& random, bool* finished) {
    CopyDecoder decoder(c.key_type, c.vector_type, c.dims);
    for (std::size_t at = 0; at < stream.size();) {
        const std::size_t piece = std::min<std::size_t>(1 + random() % 100, stream.size() - at);
        // A copy of its own for each piece: a read beyond it is a read that the sanitizer sees.
        const std::vector<unsigned char> bytes(
            stream.begin() + static_cast<std::ptrdiff_t>(at),
            stream.begin() + static_cast<std::ptrdiff_t>(at + piece));
        decoder.feed(bytes.data(), bytes.size());
        at += piece;
    }
    *finished = decoder.finished();
    return decoder.take();
}

void check_round_trip(std::mt19937& random) {
    const Case c = random_case(random);
    bool finished = false;
    const Rows rows = decode(c, encode(c), random, &finished);
    CHECK(finished);
    CHECK(rows.count == c.count);
    CHECK(rows.vectors == c.vectors);
    if (c.key_type == KeyType::text) {
        for (std::size_t i = 0; i < c.count; ++i) {
            const auto begin = static_cast<std::size_t>(rows.text_offsets[i]),
                       end = static_cast<std::size_t>(rows.text_offsets[i + 1]);
            CHECK(std::string(rows.keys.begin() + static_cast<std::ptrdiff_t>(begin),
                              rows.keys.begin() + static_cast<std::ptrdiff_t>(end)) == c.texts[i]);
        }
    } else {
        CHECK(rows.keys == c.keys);
    }
}

// A row whose vector is NULL has a size of -1 in its place; the others are as without it.
void check_nulls(std::mt19937& random) {
    Case c = random_case(random);
    c.count = 3;
    c.key_type = KeyType::int64;
    c.keys.assign(24, 7);
    c.vectors.assign(3 * c.dims, 1.0f);
    const std::string full = encode(c);
    c.vectors[c.dims] = NAN;

    const std::string with_null = encode(c);

    const std::size_t vector_bytes = 4 + (c.vector_type == VectorType::float32 ? 4 : 2) * c.dims;
    const std::size_t row_bytes = 2 + 12 + 4 + vector_bytes, head = copy_header().size();
    CHECK(with_null.size() == full.size() - vector_bytes);
    CHECK(with_null.substr(head + row_bytes + 14, 4) == "\xff\xff\xff\xff");
    CHECK(with_null.substr(head, row_bytes) == full.substr(head, row_bytes));
    CHECK(with_null.substr(head + row_bytes + 18) == full.substr(head + 2 * row_bytes));
}

// A mutated stream is decoded or refused; what comes out has the promised sizes.
bool check_mutation(std::mt19937& random) {
    const Case c = random_case(random);
    std::string stream = encode(c);
    for (std::size_t change = 0; change < 1 + random() % 4; ++change) {
        if (stream.empty()) break;
        const std::size_t at = random() % stream.size();
        switch (random() % 4) {
            case 0:
                stream[at] = static_cast<char>(random());
                break;
            case 1:
                stream.erase(at, random() % 9);
                break;
            case 2:
                stream.insert(at, 1 + random() % 5, static_cast<char>(random()));
                break;
            default:
                stream.resize(at);
        }
    }
    try {
        bool finished = false;
        const Rows rows = decode(c, stream, random, &finished);
        CHECK(rows.vectors.size() == rows.count * c.dims);
        if (c.key_type != KeyType::text)
            CHECK(rows.keys.size() == rows.count * key_bytes(c.key_type));
        return true;
    } catch (const std::runtime_error&) {
        return false;
    }
}

void check_halves() {
    for (std::uint32_t half = 0; half < 65536; ++half) {
        const float value = half_to_float(static_cast<std::uint16_t>(half));
        if (std::isnan(value)) {
            CHECK((half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0);
            continue;
        }
        CHECK(float_to_half(value) == half);
        if ((half & 0x7c00u) != 0x7c00u) {
            const double want =
                std::ldexp((half & 0x7c00u) ? 1024 + (half & 0x3ffu) : half & 0x3ffu,
                           static_cast<int>((half & 0x7c00u) ? half >> 10 & 31 : 1) - 25);
            CHECK(std::fabs(static_cast<double>(value)) == want);
        }
    }
    CHECK(float_to_half(65519.0f) == 0x7bff && float_to_half(65520.0f) == 0x7c00 &&
          float_to_half(1e30f) == 0x7c00);
    CHECK(float_to_half(std::ldexp(1.0f, -25)) == 0 && float_to_half(std::ldexp(1.5f, -25)) == 1);
    CHECK(float_to_half(1.0f + std::ldexp(1.0f, -11)) == 0x3c00 &&
          float_to_half(1.0f + 3 * std::ldexp(1.0f, -11)) == 0x3c02);
}

void check_row_faults() {
    const float infinity = INFINITY, limit = 65504.0f;
    const float good[] = {1, 2, 1e-30f, 0}, zero[] = {1, 1, 0, -0.0f}, nan[] = {1, 1, NAN, 1},
                large[] = {1, 2, 65505, 1}, huge[] = {1, 2, 1e30f, 1};
    CHECK(first_bad_row(good, 2, 2, 2, true, infinity).fault == Fault::none);
    CHECK(first_bad_row(zero, 2, 2, 2, true, infinity).fault == Fault::zero);
    CHECK(first_bad_row(zero, 2, 2, 2, false, infinity).fault == Fault::none);
    const BadRow bad = first_bad_row(nan, 2, 2, 2, true, limit);
    CHECK(bad.row == 1 && bad.fault == Fault::not_finite);
    CHECK(first_bad_row(large, 2, 2, 2, true, limit).fault == Fault::too_large);
    CHECK(first_bad_row(huge, 2, 2, 2, true, infinity).fault == Fault::none);
    const BadRow tiny = first_bad_row(good, 2, 2, 2, true, infinity, {1e-30f, 1e37f});
    CHECK(tiny.row == 1 && tiny.fault == Fault::length);
    CHECK(first_bad_row(huge, 2, 2, 2, true, infinity, {1e-30f, 1e37f}).fault == Fault::length);
    CHECK(first_bad_row(zero, 2, 2, 2, true, infinity, {1e-30f, 1e37f}).fault == Fault::zero);
}

}  // namespace

int main(int argc, char** argv) {
    const long mutations = argc > 1 ? std::atol(argv[1]) : 200000;
    std::mt19937 random(3);
    check_halves();
    check_row_faults();
    for (int round = 0; round < 3000; ++round) check_round_trip(random);
    for (int round = 0; round < 100; ++round) check_nulls(random);
    long decoded = 0;
    for (long round = 0; round < mutations; ++round) decoded += check_mutation(random);
    std::printf("3000 round trips; %ld mutated streams, %ld decoded, %ld refused\n", mutations,
                decoded, mutations - decoded);
}
