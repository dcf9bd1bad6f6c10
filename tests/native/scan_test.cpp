// Top-k and the exact scan against a full sort, with ties, NaNs and blocks of any size. Run under
// ASan and UBSan.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/dispatch.hpp"
#include "search/best.hpp"
#include "search/exact_scan.hpp"

namespace {

void check_top_k(const mrl::Kernels& kernels, std::size_t n, std::size_t k, std::mt19937& random) {
    std::vector<float> scores(n);
    for (float& score : scores)
        score = random() % 97 == 0 ? NAN : static_cast<float>(random() % 50);
    mrl::TopK<float> top(k);
    for (std::size_t first = 0; first < n; first += mrl::kScanBlock) {
        const std::size_t count = std::min(mrl::kScanBlock, n - first);
        std::vector<float> block(scores.begin() + static_cast<std::ptrdiff_t>(first),
                                 scores.begin() + static_cast<std::ptrdiff_t>(first + count));
        top.offer(kernels, block.data(), count, static_cast<std::int64_t>(first));
    }
    std::vector<std::int64_t> wanted(n);
    for (std::size_t i = 0; i < n; ++i) wanted[i] = static_cast<std::int64_t>(i);
    const auto key = [&](std::int64_t i) {
        return std::isnan(scores[static_cast<std::size_t>(i)])
                   ? INFINITY
                   : scores[static_cast<std::size_t>(i)];
    };
    std::stable_sort(wanted.begin(), wanted.end(),
                     [&](std::int64_t a, std::int64_t b) { return key(a) < key(b); });
    const auto hits = top.take();
    CHECK(hits.size() == std::min(n, k));
    for (std::size_t i = 0; i < hits.size(); ++i) CHECK(hits[i].row == wanted[i]);
}

// The best `keep`, and all that are less than `slack` behind the k-th best.
void check_keep_best(const mrl::Kernels& kernels, std::mt19937& random) {
    const std::size_t n = random() % (random() % 2 == 0 ? mrl::kRanked : 400),
                      k = 1 + random() % 20, keep = k + random() % 10;
    const float slack = static_cast<float>(random() % 4);
    std::vector<mrl::Candidate> all(n);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = {static_cast<float>(random() % 100), static_cast<std::uint32_t>(i)};
    std::shuffle(all.begin(), all.end(), random);
    std::vector<mrl::Candidate> sorted = all;
    std::sort(sorted.begin(), sorted.end());
    std::size_t wanted = std::min(n, keep);
    while (k <= n && wanted < n && sorted[wanted].score < sorted[k - 1].score + slack) ++wanted;

    mrl::keep_best(kernels, all, keep, k, [slack](float) { return slack; });

    std::sort(all.begin(), all.end());
    CHECK(all.size() == wanted);
    for (std::size_t i = 0; i < wanted; ++i) CHECK(all[i].row == sorted[i].row);
}

double distance(mrl::Metric metric, const float* q, const float* r, std::size_t dims) {
    double product = 0, square = 0, qq = 0, rr = 0;
    for (std::size_t i = 0; i < dims; ++i) {
        product += static_cast<double>(q[i]) * r[i];
        square += (static_cast<double>(q[i]) - r[i]) * (static_cast<double>(q[i]) - r[i]);
        qq += static_cast<double>(q[i]) * q[i];
        rr += static_cast<double>(r[i]) * r[i];
    }
    if (metric == mrl::Metric::inner_product) return -product;
    if (metric == mrl::Metric::l2) return std::sqrt(square);
    const double similarity = product / std::sqrt(qq * rr);
    return std::isnan(similarity) ? similarity : 1 - std::clamp(similarity, -1.0, 1.0);
}

void check_exact_scan(mrl::Metric metric, std::size_t n, std::size_t dims, std::size_t k,
                      std::mt19937& random) {
    std::normal_distribution<float> normal;
    const float scale = std::ldexp(1.0f, static_cast<int>(random() % 100) - 50);
    std::vector<float> rows(n * dims), query(dims);
    for (float& x : rows) x = normal(random) * scale;
    for (float& x : query) x = normal(random) * scale;
    for (int copies = 0; copies < 20; ++copies)
        std::copy_n(&rows[0], dims, &rows[random() % n * dims]);
    std::fill_n(&rows[random() % n * dims], dims, 0.0f);
    mrl::ExactScan scan(metric, query.data(), 1, dims, k);
    for (std::size_t first = 0; first < n;) {
        const std::size_t count = std::min<std::size_t>(1 + random() % 400, n - first);
        scan.scan(&rows[first * dims], count, dims);
        first += count;
    }
    std::vector<double> all(n);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = distance(metric, query.data(), &rows[i * dims], dims);
    std::vector<double> sorted = all;
    std::sort(sorted.begin(), sorted.end(),
              [](double a, double b) { return !std::isnan(a) && (std::isnan(b) || a < b); });
    const auto hits = scan.hits(0);
    CHECK(hits.size() >= std::min(n, k));
    for (std::size_t i = 0; i < std::min(n, k); ++i) {
        const double want = sorted[i], got = hits[i].distance;
        CHECK(std::isnan(want)
                  ? std::isnan(got)
                  : std::fabs(got - want) <=
                        1e-9 * std::max(std::fabs(want), 1e-6 * scale * scale + 1e-300));
    }
}

}  // namespace

int main() {
    std::mt19937 random(7);
    for (const mrl::Kernels* kernels : mrl::available_kernels()) {
        mrl::use_kernels(kernels->name);
        for (int round = 0; round < 200; ++round) {
            check_top_k(*kernels, random() % 3000, 1 + random() % 300, random);
            check_keep_best(*kernels, random);
            for (mrl::Metric metric :
                 {mrl::Metric::cosine, mrl::Metric::inner_product, mrl::Metric::l2}) {
                check_exact_scan(metric, 1 + random() % 900, 1 + random() % 60, 1 + random() % 40,
                                 random);
            }
        }
        std::printf("%s: top-k, what is kept and exact scan equal a full sort\n", kernels->name);
    }
}
