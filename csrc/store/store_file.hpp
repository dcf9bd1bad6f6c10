// A store as sections of a file (file.hpp).
#pragma once

#include <string>

#include "file.hpp"
#include "store.hpp"

namespace mrl {

// Writes all of a store; `about`: the caller's, returned as it was given. Throws FileError.
void save_store(Store& store, const std::string& path, const std::string& about,
                std::size_t threads);

// Takes a store from a file, as mapped memory. Its entries are to be grouped
// (search/entries.hpp). Throws FileError.
Store open_store(const std::string& path, std::string& about, std::size_t threads);

// What the writer of a file said of it; nothing else of it is read. Throws FileError.
std::string about_file(const std::string& path);

}  // namespace mrl
