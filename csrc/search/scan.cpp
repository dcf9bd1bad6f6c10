#include "scan.hpp"

#include <algorithm>

namespace mrl {

void scan(const Kernels& kernels, const StageCodes& codes, const StageQuery& query, Scanned scanned,
          std::size_t keep, const RowFilter* filter, std::vector<Candidate>& best, Turn* turn) {
    float threshold = kInfinity, scores[kScanBlock];
    std::uint32_t positions[kScanBlock];
    const auto block_of = [&](std::size_t first) {
        return std::min(kScanBlock, scanned.n - first);
    };
    if (scanned.list != nullptr && scanned.n != 0) codes.fetch(scanned.list, block_of(0));
    for (std::size_t first = 0; first < scanned.n; first += kScanBlock) {
        if (turn != nullptr) turn->give_way();
        if (best.size() >= 2 * keep) threshold = keep_best(kernels, best, keep);
        const std::size_t n = block_of(first), next = first + n;
        const std::uint32_t* list = scanned.list == nullptr ? nullptr : scanned.list + first;
        std::size_t passed;
        if (list == nullptr) {
            passed = codes.select(kernels, query, first, n, threshold, scores, positions);
        } else {
            if (next < scanned.n) codes.fetch(scanned.list + next, block_of(next));
            codes.scan_at(kernels, query, list, n, scores);
            passed = select_scores(kernels, n, threshold, scores, positions);
        }
        for (std::size_t i = 0; i < passed; ++i) {
            const std::uint32_t id = list == nullptr
                                         ? static_cast<std::uint32_t>(first) + positions[i]
                                         : list[positions[i]];
            const bool allowed = filter == nullptr || (codes.by_slot() ? filter->allows_slot(id)
                                                                       : filter->allows_row(id));
            if (allowed) best.push_back({scores[i], id});
        }
    }
}

}  // namespace mrl
