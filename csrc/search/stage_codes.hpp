// What a stage looks at: one small class for each kind of codes, and the lookup that finds the
// codes of a plan's stages. To add a precision is to add a class here and a case to make().
//
// Scores are those of rows.hpp; ids are numbers of rows, or slots where codes go by slot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "../kernels/kernels.hpp"
#include "../store/store.hpp"
#include "line_error.hpp"
#include "plan.hpp"

namespace mrl {

// A query as codes see it: as a row, projected where a stage wants that, and as the last flat codes
// for which it was prepared.
struct StageQuery {
    RowQuery row;
    float coordinates[kLineCoordinates];
    LineLengths lengths;  // where lines are compared
    LineQuery line;
    std::vector<std::int8_t> code;     // int8 codes
    std::vector<std::uint8_t> planes;  // bit codes: the query's bits, plane after plane
    float scale = 0;                   // int8: of the code. bit: one step of the query
    float lowest = 0;                  // bit: the value of step 0
    float sum = 0;                     // bit: of the quantised query
};

// Of n <= kScanBlock scores those below the threshold, first among them, and their positions.
// Without a threshold (+inf) all pass.
std::size_t select_scores(const Kernels& kernels, std::size_t n, float threshold, float* scores,
                          std::uint32_t* positions);

class StageCodes {
  public:
    virtual ~StageCodes() = default;
    virtual bool by_slot() const { return false; }
    // Whether these are the int8 codes of whole rows, of which it is known how far a score may be
    // off (Rows::most_off).
    virtual bool is_of_rows() const { return false; }
    // How many times as many rows as a stage keeps a scan passes on, to be scored again in full.
    virtual std::size_t widening() const { return 1; }
    // From the query's values or coordinates, once for each query.
    virtual void prepare(StageQuery&) const {}
    // Scores of any ids.
    virtual void score_at(const Kernels&, const StageQuery&, const std::uint32_t* ids,
                          std::size_t n, float* scores) const = 0;
    // The same for a scan: coarser where `widening` is more than 1.
    virtual void scan_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                         std::size_t n, float* scores) const {
        score_at(kernels, query, ids, n, scores);
    }
    // Of n ids from `first` on, n <= kScanBlock, scan_at()'s scores below the threshold and their
    // positions from `first`, rising. Returns how many.
    virtual std::size_t select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                               std::size_t n, float threshold, float* scores,
                               std::uint32_t* positions) const;
    // Asks for the memory that scan_at() will read.
    virtual void fetch(const std::uint32_t*, std::size_t) const {}

  protected:
    StageCodes() = default;
    StageCodes(const StageCodes&) = default;
    StageCodes& operator=(const StageCodes&) = default;
};

// int4: a scan reads the high bits of each line, and both planes of what passes; or both at once.
class LineStage final : public StageCodes {
  public:
    explicit LineStage(const LineCodes& lines, bool both_at_once = false)
        : lines_(&lines), both_at_once_(both_at_once) {}
    bool by_slot() const override { return true; }
    std::size_t widening() const override;
    void score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                  std::size_t n, float* scores) const override;
    void scan_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                 std::size_t n, float* scores) const override;
    std::size_t select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                       std::size_t n, float threshold, float* scores,
                       std::uint32_t* positions) const override;
    void fetch(const std::uint32_t* ids, std::size_t n) const override;

  private:
    const LineCodes* lines_;
    bool both_at_once_;
};

// int8 of all dims, which the rows have by themselves.
class RowStage final : public StageCodes {
  public:
    explicit RowStage(const Rows& rows) : rows_(&rows) {}
    bool is_of_rows() const override { return true; }
    void score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                  std::size_t n, float* scores) const override;

  private:
    const Rows* rows_;
};

// float32 of a prefix.
class FloatStage final : public StageCodes {
  public:
    FloatStage(const Rows& rows, std::size_t dims) : rows_(&rows), dims_(dims) {}
    void score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                  std::size_t n, float* scores) const override;

  private:
    const Rows* rows_;
    std::size_t dims_;
};

// int8 of a prefix or of the projection: a scan's products are compared where they are made.
class Int8Stage final : public StageCodes {
  public:
    explicit Int8Stage(const FlatCodes& codes) : codes_(&codes) {}
    void prepare(StageQuery& query) const override;
    void score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                  std::size_t n, float* scores) const override;
    std::size_t select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                       std::size_t n, float threshold, float* scores,
                       std::uint32_t* positions) const override;

  private:
    const FlatCodes* codes_;
};

// One bit a dim; the query has six bits a dim.
class BitStage final : public StageCodes {
  public:
    explicit BitStage(const FlatCodes& codes) : codes_(&codes) {}
    void prepare(StageQuery& query) const override;
    void score_at(const Kernels& kernels, const StageQuery& query, const std::uint32_t* ids,
                  std::size_t n, float* scores) const override;
    std::size_t select(const Kernels& kernels, const StageQuery& query, std::size_t first,
                       std::size_t n, float threshold, float* scores,
                       std::uint32_t* positions) const override;

  private:
    float score_of(const StageQuery& query, std::int32_t product, std::size_t row) const;

    const FlatCodes* codes_;
};

// A plan with the codes of its stages, on a store that does not change meanwhile.
class CheckedPlan {
  public:
    // Throws PlanMismatch when a stage's codes are missing, or stages do not make a plan.
    CheckedPlan(const Store& store, const Plan& plan);

    const StageCodes& codes(std::size_t stage) const { return *codes_[stage]; }
    const std::vector<Stage>& stages() const { return plan->stages; }
    std::size_t last() const { return plan->stages.size() - 1; }
    // Whether a stage looks at the int8 codes of whole rows: float32 rows come next.
    bool is_of_rows(std::size_t stage) const { return codes_[stage]->is_of_rows(); }
    // From the caller's vector: its row code, and what else the plan's stages are compared with.
    void prepare(const float* query, StageQuery& prepared) const;

    const Plan* plan;
    bool walks;              // the route is the graph
    const FlatCodes* tiled;  // the first stage's int8 codes, where a batch can be scanned in tiles

    CheckedPlan(const CheckedPlan&) = delete;
    CheckedPlan& operator=(const CheckedPlan&) = delete;

  private:
    using Made = std::variant<std::monostate, LineStage, RowStage, FloatStage, Int8Stage, BitStage>;
    Made make(const Stage& stage, bool is_last) const;

    const Store* store_;
    bool projects_, has_lines_;
    std::array<Made, kMostStages> made_;
    std::array<const StageCodes*, kMostStages> codes_;
};

}  // namespace mrl
