// The end of a funnel: true distances, in order, of as many rows as there are.
#include <algorithm>
#include <cmath>

#include "crowd.hpp"
#include "funnel_run.hpp"

namespace mrl {
namespace {

constexpr std::size_t kMeasured = 1024;  // rows measured before a writer may have its turn
// More than a stage keeps, where all rows are looked at because a stage's shortlist came out short.
constexpr std::size_t kSpare = 50;

}  // namespace

void FunnelRun::finish_query(std::size_t number, const TakeHits& take) {
    const std::size_t last = plan_.last();
    for (std::size_t stage = 1; stage < last; ++stage) later_stage(stage);
    std::size_t keep = stages()[last].keep;
    if (request_.without_last_stage) keep = std::max(keep, stages()[last - 1].keep);
    if (candidates_.size() < std::min(keep, allowed_)) {
        // Fewer came out than there are (links torn by deletions, a filter that no walk got
        // through): all rows are looked at.
        const std::size_t widened = keep + keep / 4 + kSpare;
        candidates_.clear();
        const RowStage codes(store_.rows);
        const Look then = look();
        scan(kernels_, codes, query_, {nullptr, then.rows}, widened, &filter_, candidates_, &turn_);
        if (turn_.given() != then.given) catch_up(codes, then);
        cut(widened);
        left_out_ = kInfinity;
        if (candidates_.size() >= widened) leave_out(codes);
    }
    // Whoever has the last stage is told of all that the others cannot tell from an answer.
    finish(request_.without_last_stage ? crowd::kWidest * keep : keep);
    counts.proven += is_proven() ? 1 : 0;
    take(number, scratch_.hits.data(), scratch_.hits.size());
}

bool FunnelRun::is_proven() const {
    if (request_.without_last_stage || left_out_ == -kInfinity) return false;
    if (left_out_ == kInfinity || scratch_.hits.empty()) return true;
    const Rows& rows = store_.rows;
    const double score = rows.score_of_distance(query_.row, scratch_.hits.back().distance);
    return score + rows.most_off(query_.row) < left_out_;  // not so of NaN
}

void FunnelRun::finish(std::size_t keep) {
    const std::size_t n = candidates_.size();
    std::vector<RowHit>& hits = scratch_.hits;
    hits.clear();
    const Look then = looked();
    std::vector<std::uint32_t>& ids = scratch_.ids;
    for (std::size_t first = 0; first < n; first += kMeasured) {
        if (first != 0) turn_.give_way();
        ids.clear();
        for (std::size_t i = first; i < std::min(n, first + kMeasured); ++i)
            ids.push_back(candidates_[i].row);
        measure(ids);
    }
    if (turn_.given() != then.given) {
        look();
        std::erase_if(hits, [&](const RowHit& hit) { return is_gone(hit.row, then); });
        if (request_.selection == nullptr) {
            rows_since(then, false);  // in `ids`
            std::erase_if(ids, [&](std::uint32_t row) { return !filter_.allows_row(row); });
            measure(ids);
        }
    }
    const auto nearer = [this](const RowHit& a, const RowHit& b) {
        if (a.distance < b.distance) return true;
        if (a.distance > b.distance) return false;
        const bool a_nan = std::isnan(a.distance), b_nan = std::isnan(b.distance);
        return a_nan == b_nan ? store_.keys.less(a.row, b.row) : b_nan;
    };
    const std::size_t kept = std::min(keep, hits.size());
    if (hits.size() <= kept + kept / 2) {
        std::sort(hits.begin(), hits.end(), nearer);
    } else {
        std::partial_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(kept),
                          hits.end(), nearer);
    }
    hits.resize(kept);
    count(plan_.last(), n, std::min(kept, stages().back().keep));
}

void FunnelRun::measure(const std::vector<std::uint32_t>& rows) {
    const std::size_t n = rows.size();
    for (const std::uint32_t row : rows) store_.keys.fetch(row);
    if (store_.rows.keeps_vectors()) {
        scratch_.distances.resize(n);
        store_.rows.distances(kernels_, query_.row, rows.data(), n, scratch_.distances.data());
        for (std::size_t i = 0; i < n; ++i)
            scratch_.hits.push_back({rows[i], scratch_.distances[i]});
        return;
    }
    scratch_.scores.resize(n);
    store_.rows.score(kernels_, query_.row, rows.data(), n, scratch_.scores.data());
    for (std::size_t i = 0; i < n; ++i) {
        scratch_.hits.push_back(
            {rows[i], store_.rows.distance_of_score(query_.row, scratch_.scores[i])});
    }
}
}  // namespace mrl
