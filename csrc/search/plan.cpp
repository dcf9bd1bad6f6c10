#include "plan.hpp"

#include <cmath>

namespace mrl {

float margin_of_effort(std::size_t effort) {
    return 0.015f * std::pow(static_cast<float>(effort), 0.32f);
}

std::string name_of(const Stage& stage) {
    return std::string(name_of(kSpaces, stage.space)) + " " + std::to_string(stage.dims) + " " +
           name_of(kPrecisions, stage.precision);
}

}  // namespace mrl
