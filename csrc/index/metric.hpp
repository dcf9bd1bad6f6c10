// How vectors are compared.
#pragma once

namespace mrl {

enum class Metric { cosine, inner_product, l2 };

}  // namespace mrl
