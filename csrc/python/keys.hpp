// Keys off the wire as Python holds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../store/keys.hpp"
#include "arrays.hpp"

namespace mrl::python {

// (n, bytes) uint8 for fixed widths, a list of str or bytes for text.
class KeyArgument {
  public:
    KeyArgument(KeyType type, const py::object& keys) {
        if (type == KeyType::text) {
            offsets_.push_back(0);
            for (const py::handle key : keys.cast<py::list>()) {
                const bool raw = PyBytes_Check(key.ptr());
                py::ssize_t length = raw ? PyBytes_GET_SIZE(key.ptr()) : 0;
                const char* text = raw ? PyBytes_AS_STRING(key.ptr())
                                       : PyUnicode_AsUTF8AndSize(key.ptr(), &length);
                if (text == nullptr) throw py::error_already_set();
                bytes_.insert(bytes_.end(), text, text + length);
                offsets_.push_back(static_cast<std::int64_t>(bytes_.size()));
            }
            span = {type, bytes_.data(), offsets_.data(), offsets_.size() - 1};
            return;
        }
        array_ = keys.cast<Array<std::uint8_t>>();
        const auto m = matrix(array_, "keys");
        if (m.width != key_bytes(type) || (m.rows > 1 && m.row_stride != m.width)) {
            throw py::value_error("keys have rows of " + std::to_string(m.width) +
                                  " bytes, wanted contiguous ones of " +
                                  std::to_string(key_bytes(type)));
        }
        span = {type, m.data, nullptr, m.rows};
    }
    KeySpan span{};

  private:
    std::vector<unsigned char> bytes_;
    std::vector<std::int64_t> offsets_;
    Array<std::uint8_t> array_;
};

}  // namespace mrl::python
