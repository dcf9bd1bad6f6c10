#include "copy_decoder.hpp"

#include <stdexcept>
#include <utility>

namespace mrl::wire {
namespace {

constexpr std::size_t kIncomplete = 0;  // a step that needs more bytes consumes none

Rows empty_rows(KeyType key_type) {
    Rows rows;
    if (key_type == KeyType::text) rows.text_offsets.push_back(0);
    return rows;
}

}  // namespace

CopyDecoder::CopyDecoder(KeyType key_type, VectorType vector_type, std::size_t dims)
    : key_type_(key_type), vector_type_(vector_type), dims_(dims), rows_(empty_rows(key_type)) {}

void CopyDecoder::fail(const std::string& what) const {
    throw std::runtime_error("COPY stream, row " + std::to_string(rows_seen_ + 1) + ": " + what);
}

void CopyDecoder::feed(const unsigned char* bytes, std::size_t count) {
    const bool carried = !pending_.empty();
    if (carried) {
        pending_.insert(pending_.end(), bytes, bytes + count);
        bytes = pending_.data();
        count = pending_.size();
    }
    std::size_t used = 0;
    while (used < count) {
        if (state_ == State::finished) fail("there are bytes after the end of the stream");
        const std::size_t step = state_ == State::header ? decode_header(bytes + used, count - used)
                                                         : decode_row(bytes + used, count - used);
        if (step == kIncomplete) break;
        used += step;
    }
    if (carried) {
        pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(used));
    } else {
        pending_.assign(bytes + used, bytes + count);
    }
}

std::size_t CopyDecoder::decode_header(const unsigned char* p, std::size_t available) {
    if (available < kHeaderBytes) return kIncomplete;
    if (std::memcmp(p, kSignature, kSignatureBytes) != 0)
        fail("not a binary COPY stream: its signature is missing");
    const auto flags = load_big_endian<std::uint32_t>(p + kSignatureBytes);
    if ((flags & 0xffff0000u) != 0)
        fail("the header sets critical flags that this version does not know");
    const auto extension = load_big_endian<std::int32_t>(p + kSignatureBytes + 4);
    if (extension != 0)
        fail("the header has an extension of " + std::to_string(extension) +
             " bytes; none is defined");
    state_ = State::rows;
    return kHeaderBytes;
}

std::size_t CopyDecoder::decode_row(const unsigned char* p, std::size_t available) {
    if (available < 2) return kIncomplete;
    const auto fields = load_big_endian<std::int16_t>(p);
    if (fields == -1) {
        state_ = State::finished;
        return 2;
    }
    if (fields != 2) fail(std::to_string(fields) + " fields, wanted a key and a vector");

    // Lengths are judged before the bytes are waited for: a wrong length must not make the decoder
    // collect gigabytes.
    std::size_t used = 2;
    if (available < used + 4) return kIncomplete;
    const auto key_length = load_big_endian<std::int32_t>(p + used);
    const std::size_t key_wanted = key_bytes(key_type_);
    if (key_length < 0) fail("the key is NULL");
    if (key_wanted != 0 && static_cast<std::size_t>(key_length) != key_wanted) {
        fail("a key of " + std::to_string(key_length) + " bytes, wanted " +
             std::to_string(key_wanted));
    }
    used += 4;
    const unsigned char* key = p + used;
    used += static_cast<std::size_t>(key_length);

    if (available < used + 4) return kIncomplete;
    const auto vector_length = load_big_endian<std::int32_t>(p + used);
    const std::size_t element = vector_type_ == VectorType::float32 ? 4 : 2;
    if (vector_length < 0) fail("the vector is NULL");
    if (static_cast<std::size_t>(vector_length) != 4 + element * dims_) {
        fail("a vector field of " + std::to_string(vector_length) + " bytes, wanted " +
             std::to_string(4 + element * dims_) + " for " + std::to_string(dims_) + " dims");
    }
    used += 4;
    if (available < used + static_cast<std::size_t>(vector_length)) return kIncomplete;
    const unsigned char* vector = p + used;
    const auto dims = load_big_endian<std::uint16_t>(vector);
    const auto unused = load_big_endian<std::uint16_t>(vector + 2);
    if (dims != dims_ || unused != 0)
        fail("a vector of " + std::to_string(dims) + " dims, wanted " + std::to_string(dims_));
    used += static_cast<std::size_t>(vector_length);

    if (key_type_ == KeyType::uuid || key_type_ == KeyType::text ||
        __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) {
        rows_.keys.insert(rows_.keys.end(), key, key + key_length);
    } else {
        for (std::int32_t i = key_length; i-- > 0;) rows_.keys.push_back(key[i]);
    }
    if (key_type_ == KeyType::text)
        rows_.text_offsets.push_back(static_cast<std::int64_t>(rows_.keys.size()));
    const std::size_t at = rows_.vectors.size();
    rows_.vectors.resize(at + dims_);
    if (vector_type_ == VectorType::float32) {
        floats_from_wire(vector + 4, dims_, rows_.vectors.data() + at);
    } else {
        for (std::size_t i = 0; i < dims_; ++i) {
            rows_.vectors[at + i] =
                half_to_float(load_big_endian<std::uint16_t>(vector + 4 + 2 * i));
        }
    }
    ++rows_.count;
    ++rows_seen_;
    return used;
}

Rows CopyDecoder::take() { return std::exchange(rows_, empty_rows(key_type_)); }

}  // namespace mrl::wire
