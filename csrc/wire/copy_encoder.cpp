#include "copy_encoder.hpp"

#include <cmath>

namespace mrl::wire {
namespace {

unsigned char* put_bytes(const Field& field, unsigned char* out) {
    if (field.bytes == nullptr) {
        store_big_endian<std::int32_t>(-1, out);
        return out + 4;
    }
    store_big_endian(static_cast<std::int32_t>(field.count), out);
    if (field.count != 0) std::memcpy(out + 4, field.bytes, field.count);
    return out + 4 + field.count;
}

unsigned char* put_key(const RowsToEncode& rows, std::size_t row, unsigned char* out) {
    if (rows.key_type == KeyType::text) return put_bytes(rows.text_keys[row], out);
    const std::size_t bytes = key_bytes(rows.key_type);
    const unsigned char* key = rows.keys + row * bytes;
    store_big_endian(static_cast<std::int32_t>(bytes), out);
    out += 4;
    const bool turned = rows.key_type != KeyType::uuid && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    for (std::size_t i = 0; i < bytes; ++i) out[i] = turned ? key[bytes - 1 - i] : key[i];
    return out + bytes;
}

// Vectors are finite; so a NaN in front can say that there is none.
bool is_null(const RowsToEncode& rows, std::size_t row) {
    return rows.dims != 0 && std::isnan(rows.vectors[row * rows.row_stride]);
}

unsigned char* put_vector(const RowsToEncode& rows, std::size_t row, unsigned char* out) {
    const std::size_t element = rows.vector_type == VectorType::float32 ? 4 : 2;
    const float* vector = rows.vectors + row * rows.row_stride;
    if (is_null(rows, row)) {
        store_big_endian<std::int32_t>(-1, out);
        return out + 4;
    }
    store_big_endian(static_cast<std::int32_t>(4 + element * rows.dims), out);
    store_big_endian(static_cast<std::uint16_t>(rows.dims), out + 4);
    store_big_endian<std::uint16_t>(0, out + 6);
    out += 8;
    if (rows.vector_type == VectorType::float32) {
        floats_to_wire(vector, rows.dims, out);
    } else {
        for (std::size_t i = 0; i < rows.dims; ++i)
            store_big_endian(float_to_half(vector[i]), out + 2 * i);
    }
    return out + element * rows.dims;
}

}  // namespace

std::string copy_header() {
    std::string header(kSignature, kSignatureBytes);
    header.append(8, '\0');
    return header;
}

std::string copy_trailer() { return "\xff\xff"; }

std::size_t encoded_bytes(const RowsToEncode& rows) {
    const std::size_t element = rows.vector_type == VectorType::float32 ? 4 : 2;
    std::size_t bytes = rows.count * (2 + 4 + key_bytes(rows.key_type) + 8 + element * rows.dims +
                                      4 * rows.extra_per_row);
    for (std::size_t i = 0; i < rows.count; ++i) {
        if (rows.key_type == KeyType::text) bytes += rows.text_keys[i].count;
        if (is_null(rows, i)) bytes -= 4 + element * rows.dims;
    }
    for (std::size_t i = 0; i < rows.count * rows.extra_per_row; ++i) {
        if (rows.extra[i].bytes != nullptr) bytes += rows.extra[i].count;
    }
    return bytes;
}

void encode_rows(const RowsToEncode& rows, unsigned char* out) {
    for (std::size_t row = 0; row < rows.count; ++row) {
        store_big_endian(static_cast<std::int16_t>(2 + rows.extra_per_row), out);
        out = put_key(rows, row, out + 2);
        out = put_vector(rows, row, out);
        for (std::size_t i = 0; i < rows.extra_per_row; ++i)
            out = put_bytes(rows.extra[row * rows.extra_per_row + i], out);
    }
}

}  // namespace mrl::wire
