// From exceptions to statuses.
#pragma once

#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

#include "../store/words.hpp"
#include "engine.h"

namespace mrl {

// The caller's `stop` said so.
struct Cancelled {};

// What mrl_engine_message() gives.
inline char engine_message[256] = "";

// Runs `work` and turns what it throws into a status.
template <class Work>
MrlStatus guarded(Work&& work) noexcept {
    try {
        work();
        return MRL_DONE;
    } catch (const Cancelled&) {
        return MRL_CANCELLED;
    } catch (const std::bad_alloc&) {
        return MRL_NO_MEMORY;
    } catch (const std::exception& error) {
        std::snprintf(engine_message, sizeof engine_message, "%s", error.what());
        return MRL_FAILED;
    } catch (...) {
        std::snprintf(engine_message, sizeof engine_message, "unknown exception");
        return MRL_FAILED;
    }
}

// A metric has one number in both languages.
static_assert(MRL_COSINE == static_cast<int>(Metric::cosine) &&
              MRL_INNER_PRODUCT == static_cast<int>(Metric::inner_product) &&
              MRL_L2 == static_cast<int>(Metric::l2));

inline Metric metric_of(std::uint32_t number) {
    if (number > MRL_L2) throw std::runtime_error("unknown metric in the index");
    return static_cast<Metric>(number);
}

}  // namespace mrl
