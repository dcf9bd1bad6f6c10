// Rows of (key, vector) out of a binary COPY stream that arrives in pieces of any size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "copy_format.hpp"

namespace mrl::wire {

// The decoded rows: keys as raw bytes in the machine's order, vectors as float32.
struct Rows {
    std::size_t count = 0;
    std::vector<unsigned char> keys;         // key_bytes each; text keys one after another
    std::vector<std::int64_t> text_offsets;  // text keys: count + 1 offsets into keys
    std::vector<float> vectors;              // count * dims
};

class CopyDecoder {
  public:
    CopyDecoder(KeyType key_type, VectorType vector_type, std::size_t dims);

    // Takes the next piece of the stream. Throws std::runtime_error naming the row when the bytes
    // are not such a stream; the decoder is of no use afterwards.
    void feed(const unsigned char* bytes, std::size_t count);

    // The rows decoded since the last take.
    Rows take();

    std::size_t rows_waiting() const { return rows_.count; }
    bool finished() const { return state_ == State::finished; }  // the closing -1 has been read

  private:
    enum class State { header, rows, finished };

    std::size_t decode_header(const unsigned char* p, std::size_t available);
    std::size_t decode_row(const unsigned char* p, std::size_t available);
    [[noreturn]] void fail(const std::string& what) const;

    KeyType key_type_;
    VectorType vector_type_;
    std::size_t dims_;
    State state_ = State::header;
    std::int64_t rows_seen_ = 0;
    std::vector<unsigned char> pending_;  // the beginning of a row whose end has not arrived
    Rows rows_;
};

}  // namespace mrl::wire
