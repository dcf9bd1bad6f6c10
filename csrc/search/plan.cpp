#include "plan.hpp"

#include <cmath>

namespace mrl {

float margin_of_effort(std::size_t effort) {
    return 0.015f * std::pow(static_cast<float>(effort), 0.32f);
}

std::string name_of(const Stage& stage) {
    const char* precision = "";
    switch (stage.precision) {
        case Precision::bit:
            precision = " bit";
            break;
        case Precision::int4:
            precision = " int4";
            break;
        case Precision::int8:
            precision = " int8";
            break;
        case Precision::float32:
            precision = " float32";
            break;
    }
    return (stage.space == Space::prefix ? "prefix " : "projection ") + std::to_string(stage.dims) +
           precision;
}

}  // namespace mrl
