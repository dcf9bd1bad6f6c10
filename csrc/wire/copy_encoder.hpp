// Rows of (key, vector, further fields) into a binary COPY stream.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "copy_format.hpp"

namespace mrl::wire {

// One further field of one row, already in the type's binary send format; a null pointer is NULL.
struct Field {
    const char* bytes;
    std::size_t count;
};

// The rows to encode. Integer keys lie in the machine's order, uuid keys as their 16 bytes, text
// keys as fields.
struct RowsToEncode {
    KeyType key_type;
    const unsigned char* keys;  // key_bytes each; unused for text
    const Field* text_keys;     // for text
    VectorType vector_type;
    const float* vectors;  // count rows of dims, row_stride floats apart; NaN first: NULL
    std::size_t row_stride;
    std::size_t dims;
    const Field* extra;  // count * extra_per_row, row by row
    std::size_t extra_per_row;
    std::size_t count;
};

std::string copy_header();
std::string copy_trailer();

// Bytes that encode_rows() writes.
std::size_t encoded_bytes(const RowsToEncode& rows);

// Writes exactly encoded_bytes(rows) bytes.
void encode_rows(const RowsToEncode& rows, unsigned char* out);

}  // namespace mrl::wire
