// Runs a plan: route, stages, exact distances. Everything of one query happens in one thread; a
// batch is shared out by queries.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "../kernels/dispatch.hpp"
#include "../search/flat_batch.hpp"
#include "../search/top_k.hpp"
#include "../store/line_codes.hpp"
#include "../system/thread_pool.hpp"
#include "index.hpp"
#include "scratch.hpp"

namespace mrl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kTileQueries =
    1024;  // of a batch that are scanned for together: their codes stay in the second-level cache
constexpr std::size_t kTileWorth = 8;  // queries; fewer are scanned one by one
constexpr std::size_t kHighKeep =
    3;  // for each row that both planes of a line shall keep, how many the high one passes on
constexpr std::size_t kMostPool = 8192;
constexpr std::size_t kWatched =
    10;  // the margin is measured from this answer, or from the last one where fewer are wanted

std::uint64_t now() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now().time_since_epoch())
                                          .count());
}

}  // namespace

float margin_of_effort(std::size_t effort) {
    return 0.015f * std::pow(static_cast<float>(effort), 0.32f);
}

// One thread's run over some queries.
struct Searcher {
    const Index& index;
    const Index::Search& search;
    StageCounts& counts;
    Scratch& scratch;
    const Kernels& kernels;
    SlotFilter filter;
    bool filtered;        // by a selection, by deletions or by a hidden row
    std::size_t allowed;  // rows, about, that may be in an answer
    std::uint64_t began = 0;

    const std::vector<Stage>& stages() const { return search.plan.stages; }
    std::size_t last() const { return stages().size() - 1; }
    std::size_t slots() const { return index.rows_.size(); }

    void count(std::size_t stage, std::size_t rows_in, std::size_t rows_out) {
        const std::uint64_t time = now();
        counts[stage].rows_in += rows_in;
        counts[stage].rows_out += rows_out;
        counts[stage].nanoseconds += time - began;
        began = time;
    }

    void prepare(const float* query) {
        index.rows_.prepare(query, scratch.row_query);
        bool lines = search.plan.route == Route::graph;
        bool projects = lines;
        for (const Stage& stage : stages()) {
            lines |= stage.precision == Precision::int4;
            projects |= stage.space == Space::projection;
        }
        if (!projects) return;
        float* const coordinates = scratch.coordinates;
        index.projection_->project(scratch.row_query, coordinates);
        if (!lines) return;
        index.lines_.prepare(coordinates, scratch.line_query);
        if (index.metric() == Metric::cosine) return;
        float square = 0;
        for (std::size_t c = 0; c < kLineCoordinates; ++c)
            square += coordinates[c] * coordinates[c];
        query_length = std::sqrt(square);
    }
    float query_length = 1.0f;

    // Keeps the best `keep` candidates, in no order.
    void cut(std::size_t keep) {
        std::vector<Candidate>& all = scratch.candidates;
        if (all.size() <= keep) return;
        if (all.size() > kRanked) {
            std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(keep),
                             all.end());
            all.resize(keep);
            return;
        }
        // A short list is ranked by counting: who has fewer than `keep` better ones stays. No
        // branch depends on the scores, whose order no processor can guess.
        const std::size_t n = all.size();
        rank_all();
        std::size_t kept = 0, surplus = 0;
        for (std::size_t i = 0; i < n; ++i) surplus += scratch.ranks[i] < keep ? 1 : 0;
        if (surplus > keep) {  // equal scores at the edge: the smaller rows stay
            std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(keep),
                             all.end());
            all.resize(keep);
            return;
        }
        for (std::size_t i = 0; i < n; ++i) {
            all[kept] = all[i];
            kept += scratch.ranks[i] < keep ? 1 : 0;
        }
        all.resize(kept);
    }

    // How many candidates are better than each, for a list of at most kRanked.
    void rank_all() {
        const std::vector<Candidate>& all = scratch.candidates;
        float scores[kRanked];
        for (std::size_t i = 0; i < all.size(); ++i) scores[i] = all[i].score;
        kernels.rank(scores, all.size(), scratch.ranks);
    }

    // First stages

    void first_stage() {
        const Stage& stage = stages()[0];
        scratch.candidates.clear();
        const std::size_t keep = stage.keep;
        const bool walks = search.plan.route == Route::graph && keep < allowed && !few_allowed();
        std::size_t looked_at;
        if (walks) {
            looked_at = walk(keep);
        } else if (search.selection != nullptr && search.selection->list.size() < slots() / 4) {
            looked_at = scan_selection(keep);
        } else if (stage.precision == Precision::int4) {
            looked_at = scan_lines(keep);
        } else {
            looked_at = scan_flat(stage, keep);
        }
        if (last() != 0) count(0, looked_at, scratch.candidates.size());
    }

    // A walk reads some twenty new lines a hop, and needs as many times more hops as fewer rows are
    // allowed; a list is read at thrice the speed, as its next lines are known.
    bool few_allowed() const {
        const double walked = 20.0 * static_cast<double>(search.plan.effort) *
                              static_cast<double>(slots()) / static_cast<double>(allowed + 1);
        return search.selection != nullptr && static_cast<double>(allowed) < 3.0 * walked;
    }

    std::size_t walk(std::size_t keep) {
        const double share = static_cast<double>(allowed) / static_cast<double>(slots());
        const auto stretched = [share](std::size_t wanted) {
            return static_cast<std::size_t>(static_cast<double>(wanted) / share);
        };
        const std::size_t effort = search.plan.effort;
        const std::size_t wanted = stages().back().keep;
        const std::size_t pool =
            std::min(kMostPool, stretched(std::max({effort, std::size_t{32}, keep + keep / 2})));
        const float margin = search.plan.margin < 0 ? margin_of_effort(effort) : search.plan.margin;
        const float unit =
            index.metric() == Metric::cosine ? 1.0f : query_length / index.lines_.unit();
        WalkOptions options{stretched(effort), pool, std::max(kWatched, wanted), margin * unit,
                            refine()};
        if (filter.hidden != Keys::kNone) {
            options.hidden = index.slot_of(filter.hidden);
            const auto detour = search.hidden->detours.find(options.hidden);
            if (detour != search.hidden->detours.end()) options.detour = &detour->second;
        }
        index.graph_.walk(kernels, index.lines_, scratch.line_query, options, scratch.walk,
                          filtered ? &filter : nullptr);
        Pool& found = scratch.walk.pool;
        if (!filtered && !options.refine) kernels.pool_cut(&found, kHighKeep * keep);
        for (std::size_t i = 0; i < found.size; ++i) {
            if (!filtered || filter.allows(found.id[i]))
                scratch.candidates.push_back({found.key[i], found.id[i]});
        }
        if (!index.waiting_.empty())
            scan_waiting(options.refine, options.refine ? keep : kHighKeep * keep);
        if (!options.refine) {
            if (scratch.candidates.size() > kHighKeep * keep + kHighKeep * keep / 4)
                cut(kHighKeep * keep);
            score_slots(false);
        }
        cut(keep);
        for (Candidate& candidate : scratch.candidates) candidate.row = index.row_of(candidate.row);
        return scratch.walk.scored;
    }

    // The slots that no link leads to yet, beside what a walk found.
    void scan_waiting(bool both, std::size_t keep) {
        constexpr std::size_t kAtOnce = 256;
        std::vector<Candidate>& all = scratch.candidates;
        float threshold = kInfinity, scores[kAtOnce];
        std::uint32_t passing[kAtOnce];
        for (std::size_t first = 0; first < index.waiting_.size(); first += kAtOnce) {
            if (all.size() >= 2 * keep) {
                cut(keep);
                threshold = std::max_element(all.begin(), all.end())->score;
            }
            const std::uint32_t* slots = index.waiting_.data() + first;
            const std::size_t n = std::min(kAtOnce, index.waiting_.size() - first);
            if (both) {
                kernels.score_both(&scratch.line_query, index.lines_.high(), index.lines_.low(),
                                   slots, n, scores);
            } else {
                kernels.score_high(&scratch.line_query, index.lines_.high(), slots, n, scores);
            }
            const std::size_t found = kernels.select_below(scores, n, threshold, passing);
            for (std::size_t i = 0; i < found; ++i) {
                const std::uint32_t slot = slots[passing[i]];
                if (!filtered || filter.allows(slot)) all.push_back({scores[passing[i]], slot});
            }
        }
    }

    // Lines hold little of long vectors, and two bits of it lead astray: there survivors are scored
    // by both planes before they enter the pool.
    bool refine() const { return index.dims() >= 640; }

    // Candidates are slots here: scores them by both planes, or by the high one.
    void score_slots(bool high_only) {
        std::vector<Candidate>& all = scratch.candidates;
        scratch.ids.resize(all.size());
        scratch.scores.resize(all.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            scratch.ids[i] = all[i].row;
            if (!high_only)
                __builtin_prefetch(index.lines_.low() + std::size_t{all[i].row} * kLineBytes);
        }
        if (high_only) {
            kernels.score_high(&scratch.line_query, index.lines_.high(), scratch.ids.data(),
                               all.size(), scratch.scores.data());
        } else {
            kernels.score_both(&scratch.line_query, index.lines_.high(), index.lines_.low(),
                               scratch.ids.data(), all.size(), scratch.scores.data());
        }
        for (std::size_t i = 0; i < all.size(); ++i) all[i].score = scratch.scores[i];
    }

    // The rows of a selection, whatever the route.
    std::size_t scan_selection(std::size_t keep) {
        std::vector<Candidate>& all = scratch.candidates;
        const Stage& stage = stages()[0];
        const bool lines = search.plan.route == Route::graph || stage.precision == Precision::int4;
        constexpr std::size_t kAtOnce = 256;
        const std::vector<std::uint32_t>& list = search.selection->list;
        std::size_t room = lines ? std::max(keep, kHighKeep * keep) : keep;
        if (room < keep) room = keep;
        float threshold = kInfinity, scores[kAtOnce];
        std::uint32_t ids[kAtOnce], passing[kAtOnce];
        const std::vector<std::uint32_t>& places = lines ? search.selection->slots : list;
        // Where nothing was deleted and no place changed hands since, all of the list is still what
        // was selected.
        const bool untouched = index.epoch_ == search.selection->epoch &&
                               index.live_rows() == slots() && filter.hidden == Keys::kNone;
        constexpr std::size_t kAhead = 32;
        for (std::size_t first = 0; first < list.size(); first += kAtOnce) {
            const std::size_t here = std::min(kAtOnce, list.size() - first);
            std::size_t n = here;
            std::copy_n(places.begin() + static_cast<std::ptrdiff_t>(first), here, ids);
            if (!untouched) {
                n = 0;
                for (std::size_t i = 0; i < here; ++i) {
                    ids[n] = places[first + i];
                    n += filter.allows_row(list[first + i]) ? 1 : 0;
                }
            }
            for (std::size_t i = 0; lines && i < here; ++i) {
                const std::size_t next = std::min(first + kAhead + i, list.size() - 1);
                __builtin_prefetch(index.lines_.high() + std::size_t{places[next]} * kLineBytes);
            }
            if (lines) {
                kernels.score_high(&scratch.line_query, index.lines_.high(), ids, n, scores);
            } else {
                score_rows(stage, ids, n, scores);
            }
            const std::size_t found =
                threshold < kInfinity ? kernels.select_below(scores, n, threshold, passing) : n;
            for (std::size_t i = 0; i < found; ++i) {
                const std::size_t place = threshold < kInfinity ? passing[i] : i;
                all.push_back({scores[place], ids[place]});
            }
            if (all.size() >= 2 * room + kAtOnce) {
                cut(room);
                threshold = std::max_element(all.begin(), all.end())->score;
            }
        }
        if (lines) {
            cut(room);
            score_slots(false);
        }
        cut(keep);
        for (Candidate& candidate : all)
            candidate.row = lines ? index.row_of(candidate.row) : candidate.row;
        return list.size();
    }

    template <class ScoreBlock>
    void scan_blocks(std::size_t n, std::size_t keep, ScoreBlock&& score) {
        TopK<float> top(std::min(keep, n));
        float scores[kScanBlock];
        for (std::size_t first = 0; first < n; first += kScanBlock) {
            const std::size_t here = std::min(kScanBlock, n - first);
            score(first, here, scores);
            if (filtered) {
                for (std::size_t i = 0; i < here; ++i) {
                    if (!filter.allows_row(row_at(first + i))) scores[i] = kInfinity;
                }
            }
            top.offer(kernels, scores, here, static_cast<std::int64_t>(first));
        }
        for (const Hit<float>& hit : top.take()) {
            if (filtered && !filter.allows_row(row_at(static_cast<std::size_t>(hit.position))))
                continue;
            scratch.candidates.push_back({hit.score, static_cast<std::uint32_t>(hit.position)});
        }
    }
    bool by_slot = false;  // what scan_blocks counts
    std::uint32_t row_at(std::size_t place) const {
        return by_slot ? index.row_of(static_cast<std::uint32_t>(place))
                       : static_cast<std::uint32_t>(place);
    }

    std::size_t scan_lines(std::size_t keep) {
        by_slot = true;
        std::uint32_t ids[kScanBlock];
        scan_blocks(slots(), keep >= slots() ? keep : kHighKeep * keep,
                    [&](std::size_t first, std::size_t n, float* scores) {
                        for (std::size_t i = 0; i < n; ++i) {
                            ids[i] = static_cast<std::uint32_t>(first + i);
                            __builtin_prefetch(index.lines_.high() + (first + i + 64) * kLineBytes);
                        }
                        kernels.score_high(&scratch.line_query, index.lines_.high(), ids, n,
                                           scores);
                    });
        by_slot = false;
        score_slots(false);
        cut(keep);
        for (Candidate& candidate : scratch.candidates) candidate.row = index.row_of(candidate.row);
        return slots();
    }

    // int8 of all dims, which the rows have by themselves.
    bool of_whole_rows(const Stage& stage) const {
        return stage.precision == Precision::int8 && stage.space == Space::prefix &&
               stage.dims == index.dims();
    }

    const FlatCodes& prepared_flat(const Stage& stage) {
        const FlatCodes& codes = *index.flat(stage);
        codes.prepare(
            stage.space == Space::projection ? scratch.coordinates : scratch.row_query.values,
            scratch.flat_query);
        return codes;
    }

    std::size_t scan_flat(const Stage& stage, std::size_t keep) {
        if (stage.precision == Precision::float32 || of_whole_rows(stage)) {
            std::uint32_t ids[kScanBlock];
            if (&stage == &stages().back()) {  // the only stage: it ends the search by itself, with
                                               // true distances
                for (std::size_t row = 0; row < slots(); ++row) {
                    if (!filtered || filter.allows_row(static_cast<std::uint32_t>(row))) {
                        scratch.candidates.push_back({0.0f, static_cast<std::uint32_t>(row)});
                    }
                }
                return slots();
            }
            scan_blocks(slots(), keep, [&](std::size_t first, std::size_t n, float* scores) {
                for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::uint32_t>(first + i);
                score_rows(stage, ids, n, scores);
            });
            return slots();
        }
        const FlatCodes& codes = prepared_flat(stage);
        if (stage.precision == Precision::int8) return select_flat(codes, keep);
        scan_blocks(slots(), keep, [&](std::size_t first, std::size_t n, float* scores) {
            codes.score(kernels, scratch.flat_query, first, n, scores);
        });
        return slots();
    }

    // int8 codes: products, scores and the comparison in one pass over a block, as nearly nothing
    // passes.
    std::size_t select_flat(const FlatCodes& codes, std::size_t keep) {
        std::vector<Candidate>& all = scratch.candidates;
        float threshold = kInfinity, scores[kScanBlock];
        std::uint32_t places[kScanBlock];
        const std::size_t rows = slots(), room = 2 * std::min(keep, rows) + kScanBlock;
        for (std::size_t first = 0; first < rows; first += kScanBlock) {
            const std::size_t n = std::min(kScanBlock, rows - first);
            const std::size_t passed =
                codes.select(kernels, scratch.flat_query, first, n, threshold, scores, places);
            for (std::size_t i = 0; i < passed; ++i) {
                const auto row = static_cast<std::uint32_t>(first + places[i]);
                if (!filtered || filter.allows_row(row)) all.push_back({scores[i], row});
            }
            if (all.size() >= room && all.size() > keep) {
                std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(keep - 1),
                                 all.end());
                all.resize(keep);
                threshold =
                    all.back()
                        .score;  // rows come in rising order: a later one with the same score loses
            }
        }
        cut(keep);
        return rows;
    }

    // Later stages

    // Scores rows by a stage's codes, but for line codes, which go by slot.
    void score_rows(const Stage& stage, const std::uint32_t* rows, std::size_t n, float* scores) {
        if (stage.precision == Precision::float32) {
            score_prefixes(stage.dims, rows, n, scores);
        } else if (of_whole_rows(stage)) {
            index.rows_.score(kernels, scratch.row_query, rows, n, scores);
        } else {
            const FlatCodes& codes = prepared_flat(stage);
            codes.score_at(kernels, scratch.flat_query, rows, n, scores);
        }
    }

    void score_prefixes(std::size_t dims, const std::uint32_t* rows, std::size_t n, float* scores) {
        const float* query = scratch.row_query.values;
        for (std::size_t i = 0; i < n; ++i) {
            const float* vector = index.rows_.vector(rows[i]);
            switch (index.metric()) {
                case Metric::cosine:
                    kernels.cosine_distance(query, vector, 1, dims, dims, scores + i);
                    if (std::isnan(scores[i])) scores[i] = 1.0f;  // a zero prefix says nothing
                    break;
                case Metric::inner_product:
                    kernels.inner_product(query, vector, 1, dims, dims, scores + i);
                    scores[i] = -scores[i];
                    break;
                case Metric::l2:
                    kernels.squared_l2(query, vector, 1, dims, dims, scores + i);
                    break;
            }
        }
    }

    void later_stage(std::size_t number) {
        const Stage& stage = stages()[number];
        std::vector<Candidate>& all = scratch.candidates;
        const std::size_t rows_in = all.size();
        if (stage.precision == Precision::int4) {
            for (Candidate& candidate : all) candidate.row = index.slot_of(candidate.row);
            score_slots(false);
            for (Candidate& candidate : all) candidate.row = index.row_of(candidate.row);
        } else {
            scratch.ids.resize(all.size());
            scratch.scores.resize(all.size());
            for (std::size_t i = 0; i < all.size(); ++i) scratch.ids[i] = all[i].row;
            if (of_whole_rows(stage)) fetch_ahead(stage.keep);
            score_rows(stage, scratch.ids.data(), all.size(), scratch.scores.data());
            for (std::size_t i = 0; i < all.size(); ++i) all[i].score = scratch.scores[i];
        }
        cut(stage.keep);
        count(number, rows_in, all.size());
    }

    // A stage and the one after it wait for memory and for little else: the vectors of those that
    // will likely be left are on their way while codes are compared.
    void fetch_ahead(std::size_t keep) {
        constexpr std::size_t kFetched =
            32 << 10;  // bytes: the first-level cache holds half as much again
        const std::vector<Candidate>& all = scratch.candidates;
        if (all.size() > kRanked || !index.keeps_vectors()) return;
        for (const Candidate& candidate : all) index.rows_.fetch_code(candidate.row);
        rank_all();
        const std::size_t likely =
            std::min(keep * 3 / 4, kFetched / (index.dims() * sizeof(float)));
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (scratch.ranks[i] < likely) index.rows_.fetch_vector(all[i].row);
        }
    }

    // The true distances of what is left, best first, ties by key; NaN last, as PostgreSQL sorts
    // it.
    void finish(std::size_t keep, std::size_t number) {
        const std::vector<Candidate>& all = scratch.candidates;
        const std::size_t n = all.size();
        scratch.hits.resize(n);
        scratch.ids.resize(n);
        for (std::size_t i = 0; i < n; ++i) {
            scratch.ids[i] = all[i].row;
            index.keys_.fetch(all[i].row);
        }
        if (index.keeps_vectors()) {
            scratch.distances.resize(n);
            index.rows_.distances(kernels, scratch.row_query, scratch.ids.data(), n,
                                  scratch.distances.data());
            for (std::size_t i = 0; i < n; ++i)
                scratch.hits[i] = {scratch.ids[i], scratch.distances[i]};
        } else {
            scratch.scores.resize(n);
            index.rows_.score(kernels, scratch.row_query, scratch.ids.data(), n,
                              scratch.scores.data());
            for (std::size_t i = 0; i < n; ++i) {
                scratch.hits[i] = {scratch.ids[i], index.rows_.distance_of_score(
                                                       scratch.row_query, scratch.scores[i])};
            }
        }
        const std::size_t kept = std::min(keep, n);
        const auto nearer = [this](const RowHit& a, const RowHit& b) {
            if (a.distance < b.distance) return true;
            if (a.distance > b.distance) return false;
            const bool a_nan = std::isnan(a.distance), b_nan = std::isnan(b.distance);
            return a_nan == b_nan ? index.keys_.less(a.row, b.row) : b_nan;
        };
        if (n <= kept + kept / 2) {
            std::sort(scratch.hits.begin(), scratch.hits.end(), nearer);
        } else {
            std::partial_sort(scratch.hits.begin(),
                              scratch.hits.begin() + static_cast<std::ptrdiff_t>(kept),
                              scratch.hits.end(), nearer);
        }
        scratch.hits.resize(kept);
        count(number, n, kept);
    }

    // Fewer rows came out than are allowed and wanted (links torn by deletions, a filter that no
    // walk got through): all are looked at.
    void scan_all_allowed(std::size_t keep) {
        scratch.candidates.clear();
        std::vector<Candidate>& all = scratch.candidates;
        for (std::uint32_t row = 0; row < slots(); ++row) {
            if (!filter.allows_row(row)) continue;
            float score;
            index.rows_.score(kernels, scratch.row_query, &row, 1, &score);
            all.push_back({score, row});
        }
        cut(keep + keep / 4 + 50);
    }

    void run(std::size_t query, const float* values, const Index::Found& found) {
        began = now();
        if (search.hidden != nullptr) filter.hidden = search.hidden->rows[query];
        prepare(values);
        first_stage();
        end_query(query, found);
    }

    void end_query(std::size_t query, const Index::Found& found) {
        const std::size_t end =
            search.without_last_stage ? last() - 1 : last();  // the stage that finish() does
        for (std::size_t number = 1; number < end; ++number) later_stage(number);
        const std::size_t wanted = stages()[end].keep;
        if (scratch.candidates.size() < std::min(wanted, allowed)) scan_all_allowed(wanted);
        finish(wanted, end);
        found(query, scratch.hits.data(), scratch.hits.size());
    }
};

void Index::check(const Plan& plan) const {
    const auto name = [](const Stage& stage) {
        static const char* const precisions[] = {"bit", "int4", "int8", "float32"};
        return std::string(stage.space == Space::prefix ? "prefix " : "projection ") +
               std::to_string(stage.dims) + " " +
               precisions[static_cast<std::size_t>(stage.precision)];
    };
    if (plan.stages.empty() || plan.stages.size() > kMostStages) {
        throw PlanMismatch(std::to_string(plan.stages.size()) + " stages, wanted 1 to " +
                           std::to_string(kMostStages));
    }
    const Stage& last = plan.stages.back();
    if (last.precision != Precision::float32 || last.dims != dims()) {
        throw PlanMismatch("the last stage is " + name(last) + ", wanted all " +
                           std::to_string(dims()) + " dims in float32");
    }
    if (plan.route == Route::graph) {
        if (!has_graph_) throw PlanMismatch("the plan walks a graph, and none was loaded");
        if (plan.stages.size() < 2 || plan.stages.front().precision != Precision::int4) {
            throw PlanMismatch(
                "the graph is walked by int4 codes of the projection, the first stage is " +
                name(plan.stages.front()));
        }
    }
    for (const Stage& stage : plan.stages) {
        const bool whole = stage.dims == dims() && stage.space == Space::prefix;
        bool there = false;
        switch (stage.precision) {
            case Precision::int4:
                there = has_line_codes() && stage.space == Space::projection &&
                        stage.dims == std::min(dims(), kLineCoordinates);
                break;
            case Precision::int8:
                there = whole || flat(stage) != nullptr;
                break;
            case Precision::bit:
                there = flat(stage) != nullptr;
                break;
            case Precision::float32:
                there = stage.space == Space::prefix && stage.dims <= dims() &&
                        (whole || keeps_vectors());
                break;
        }
        if (!there) throw PlanMismatch("stage " + name(stage) + " was not loaded");
    }
}

void Index::search(const float* queries, std::size_t n_queries, const Search& search,
                   StageCounts& counts, const Found& found) const {
    const Reading reading(*this);
    check(search.plan);
    const bool filtered =
        search.selection != nullptr || search.hidden != nullptr || live_rows() < rows_.size();
    const std::size_t allowed = search.selection == nullptr
                                    ? live_rows()
                                    : std::min(live_rows(), search.selection->list.size());
    const Stage& first = search.plan.stages.front();
    const std::size_t threads = std::max<std::size_t>(1, search.threads);
    std::mutex counting;
    const auto with_searcher = [&](auto&& use) {
        std::unique_ptr<Scratch> scratch = borrow();
        StageCounts own{};
        Searcher searcher{*this,    search, own, *scratch, kernels(), filter(search.selection),
                          filtered, allowed};
        use(searcher);
        const std::lock_guard lock(counting);
        for (std::size_t i = 0; i < kMostStages; ++i) {
            counts[i].rows_in += own[i].rows_in;
            counts[i].rows_out += own[i].rows_out;
            counts[i].nanoseconds += own[i].nanoseconds;
        }
        give_back(std::move(scratch));
    };

    const bool tiled = n_queries >= kTileWorth && search.plan.route == Route::flat &&
                       first.precision == Precision::int8 &&
                       (first.dims < dims() || first.space == Space::projection) &&
                       search.selection == nullptr && search.hidden == nullptr;
    if (!tiled) {
        // A few queries a task: enough to keep a thread in its own caches, few enough to share out
        // evenly.
        const std::size_t task = std::clamp<std::size_t>(n_queries / (8 * threads), 1, 16);
        const auto answer = [&](std::size_t number, std::size_t) {
            with_searcher([&](Searcher& searcher) {
                for (std::size_t q = number * task; q < std::min(n_queries, (number + 1) * task);
                     ++q) {
                    searcher.run(q, queries + q * dims(), found);
                }
            });
        };
        parallel_for(threads, (n_queries + task - 1) / task,
                     std::cref(answer));  // by reference: a copy of it would be allocated
        return;
    }

    const FlatCodes& codes = *flat(first);
    const std::size_t group = std::min(kTileQueries, (n_queries + threads - 1) / threads);
    parallel_for(threads, (n_queries + group - 1) / group, [&](std::size_t number, std::size_t) {
        const std::size_t first_query = number * group,
                          here = std::min(group, n_queries - first_query);
        with_searcher([&](Searcher& searcher) {
            searcher.began = now();
            std::vector<FlatQuery> prepared(here);
            for (std::size_t q = 0; q < here; ++q) {
                searcher.prepare(queries + (first_query + q) * dims());
                searcher.prepared_flat(first);
                prepared[q] = searcher.scratch.flat_query;
            }
            auto kept = scan_tiles(searcher.kernels, codes, prepared, first.keep,
                                   filtered ? &searcher.filter : nullptr);
            for (std::size_t q = 0; q < here; ++q) {
                searcher.scratch.candidates = std::move(kept[q]);
                searcher.prepare(queries + (first_query + q) * dims());
                searcher.count(0, rows_.size(), searcher.scratch.candidates.size());
                searcher.end_query(first_query + q, found);
            }
        });
    });
}

}  // namespace mrl
