"""Whether the C++ tests notice a fault of one line: `make mutants`.

Each mutant changes one line of csrc; the tests named with it are built and must fail. A mutant that
survives is printed, and makes the exit status 1. MRL_DB_MUTANTS=N takes N of them, evenly spread.
The build folder (the first argument) is used again, so only what a mutant touches is built;
CMAKE_CXX_COMPILER_LAUNCHER=ccache helps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120  # a test that goes on for longer is taken to hang, and so to notice
BENCHMARKS = tuple(  # CMakeLists.txt names them
    str(path.relative_to(ROOT)) for path in ROOT.glob("benchmarks/*.c*")
)
ARGUMENTS = {"file_test": ["300"]}


@dataclass(frozen=True)
class Mutant:
    """A line of a file, in part, and what it becomes."""

    file: str
    before: str
    after: str
    tests: str


def mutants(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    """Returns the mutants of one file."""
    return [Mutant(f"csrc/{file}", before, after, tests) for before, after in changes]


MUTANTS = [
    *mutants(
        "search/select.cpp",
        "index_test",
        ("put(store.died[death % store.died.size()], false);", "(void)death;"),
        ("after.count = selected ? after.count + 1 : after.count - 1;", "(void)selected;"),
        ("put(row, !then.test(row));", "put(row, then.test(row));"),
        ("add(store.reborn[epoch % store.reborn.size()], false);", "(void)epoch;"),
        ("return lists(after, before.is_listed()) == before.is_listed();", "return true;"),
    ),
    *mutants(
        "store/marks.hpp",
        "index_test",
        ("then->test(row) != turned.has(row)", "then->test(row) || turned.has(row)"),
        ("rows_.erase(at);\n            return;", "return;"),
    ),
    *mutants(
        "search/paged_search.cpp",
        "paged_test",
        ("wider_ *= crowd::kWider;", "wider_ *= 2;"),
        ("keep_ = wider_ * options_.keep;", "keep_ = options_.keep;"),
        ("effort_ = wider_ * options_.effort;", "effort_ = options_.effort;"),
        (
            "case crowd::Next::scan:\n            begin_crowd();",
            "case crowd::Next::scan:\n            next_rows();",
        ),
    ),
    *mutants(
        "search/paged_scan.cpp",
        "paged_test",
        ("wider_ = crowd::kWidest;", "wider_ = 1;"),
        (
            "full_ = std::max(full_, 2 * candidates_.size());",
            "full_ = 1;\n        candidates_.resize(1);",
        ),
    ),
    *mutants(
        "kernels/code_loops.hpp",
        "kernels_test walk_test",
        ("i < width; i += 2", "i + 2 < width; i += 2"),
        ("if (i + 1 < width)", "if (i + 2 < width)"),
        ("row < n; row += 4) {", "row + 4 <= n; row += 4) {"),
    ),
    *mutants(
        "store/keys.cpp",
        "store_test",
        ("if (((next - home) & mask) >= ((next - hole) & mask)) {", "if (true) {"),
        ("table_[hole] = 0;\n    --used_;", "table_[hole] = 0;"),
        ("table_[i] == 0) continue;", "i == 0) continue;"),
        ("hole = next;", "hole = hole;"),
        ("while (larger[position] != 0)", "if (larger[position] != 0)"),
        ("std::exchange(lengths_[row], 0)", "0"),
        ("texts.begins[row] = texts.text.size();", "texts.begins[row] = begins_[row];"),
        ("next_table_ = larger_table(more);", "next_table_ = Array<std::uint32_t>(64);"),
    ),
    *mutants(
        "system/memory.hpp",
        "store_test",
        ("if (range_.begin() != nullptr && range_.holds(bytes)) {", "if (false) {"),
        ("if (growth == Growth::in_place) return false;", ""),
        ("std::memcpy(larger.data_, data_, size_ * sizeof(T))", "(void)0"),
        ("if (range_.is_of_file(first * sizeof(T)))", "if (false)"),
    ),
    *mutants(
        "system/reserved.cpp",
        "store_test",
        ("std::max(kLeastRoom, room * least);", "least;"),
        ("if (range != nullptr) break;", ""),
        ("ready_ = end;", "ready_ = bytes;"),
        ("begin_ + ready_, end - ready_, PROT_READ", "begin_, end - ready_, PROT_READ"),
    ),
    *mutants(
        "system/fair_lock.hpp",
        "beside_test",
        ("return !writing_ && writers_ == 0;", "return !writing_;"),
        ("reading_ = readers_;", "reading_ = 1;"),
        ("if (readers_ > 0) {", "if (readers_ > 0 && writers_ == 0) {"),
        ("wanted_.store(true, std::memory_order_relaxed);", ""),
        ("if (--reading_ == 0 && writers_ > 0)", "if (--reading_ == 1 && writers_ > 0)"),
        ("wanted_.store(writers_ > 0, std::memory_order_relaxed);", ""),
    ),
    *mutants(
        "search/turn.hpp",
        "beside_test",
        ("++given_;", ""),
        ("if (!lock_.is_wanted()) return;", "return;"),
    ),
    *mutants(
        "search/funnel.cpp",
        "answers_test beside_test index_test wide_test",
        ("store_.born[row] > then.epoch || !filter_", "!filter_"),
        ("|| !filter_.allows_row(row);", ";"),
        (
            "std::size_t row = then.rows; row < rows_",
            "std::size_t row = then.rows + 1; row < rows_",
        ),
        ("if (turn_.given() != scanned.given) {", "if (false) {"),
        ("if (request_.hidden != nullptr) filter_.hidden", "if (false) filter_.hidden"),
    ),
    *mutants(
        "search/funnel_stages.cpp",
        "answers_test beside_test index_test wide_test",
        ("if (turn_.given() != then.given) catch_up(codes, then);", ""),
        ("if (waiting_ != 0) scan_waiting", "if (false) scan_waiting"),
        ("[&](float kth) { return resolution(number, kth); });", "[](float) { return 0.0f; });"),
    ),
    *mutants(
        "search/funnel_hits.cpp",
        "answers_test beside_test index_test wide_test",
        ("if (turn_.given() != then.given) {", "if (false) {"),
        ("if (turn_.given() != then.given) catch_up(codes, then);", ""),
        ("return a_nan == b_nan ? store_.keys.less(a.row, b.row) : b_nan;", "return b_nan;"),
        ("std::sort(hits.begin(), hits.end(), nearer);", ""),
        ("if (candidates_.size() < std::min(keep, allowed_)) {", "if (false) {"),
    ),
    *mutants(
        "search/scan.cpp",
        "scan_test index_test wide_test",
        ("keep_best(kernels, best, keep);", "keep_best(kernels, best, keep / 2);"),
        ("if (allowed) best.push_back", "best.push_back"),
        ("std::min(kScanBlock, scanned.n - first);", "kScanBlock - 1;"),
    ),
    *mutants(
        "search/tiles.cpp",
        "wide_test index_test",
        ("return edge - 1e-5f * std::abs(edge) - 1e-30f;", "return edge + 0.5f * std::abs(edge);"),
        ("if (filter == nullptr || filter->allows_row(row))", ""),
        ("(written[q] >> group & 1) == 0 ||", "(written[q] >> group & 1) != 0 ||"),
        ("offsets[q] = -128 *", "offsets[q] = -127 *"),
    ),
    *mutants(
        "search/entries.cpp",
        "wide_test",
        ("ordered[next[group_of[i]]++] = slots[i];", "ordered[i] = slots[i];"),
        ("if (scores[i] + half < nearest[i]) {", "if (scores[i] + half > nearest[i]) {"),
        ("++entries.begins[g + 1];", "++entries.begins[g];"),
        ("count = entries.begins[nearest[i] + 1] - begin;", "count = 1;"),
        (
            "codes.high() + entries.slots[i] * kLineBytes, kLineBytes);",
            "codes.high() + i * kLineBytes, kLineBytes);",
        ),
    ),
    *mutants(
        "search/walk.cpp",
        "index_test wide_test",
        ("count += walk.first_visit(other) ? 1 : 0;", "count += 1;"),
        ("pool.open[best[i]] = kInfinity;", ""),
        ("kernels.score_both(&query, high, graph.lines.low(), met, count, scores);", ""),
    ),
    *mutants(
        "store/store.cpp",
        "index_test beside_test store_test",
        ("born[row] = ++epoch;", ""),
        ("deleted.clear(row);", ""),
        ("if (has_graph) waiting.append(&slot, 1);", ""),
        ("if (has_line_codes) lines.encode(slot_of(row), coordinates, square);", ""),
        ("if (before != Keys::kNone) remove(before);", ""),
        ("slot_of_rows.data()[row] = row;", "slot_of_rows.data()[row] = 0;"),
    ),
    *mutants(
        "graph/heal.cpp",
        "heal_test",
        ("if (dying.has(slot)) continue;", ""),
        ("waiting.resize(static_cast<std::size_t>(end - waiting.begin()));", ""),
        ("store.marked -= dead.size();", ""),
        ("store.free_rows.push_back(store.row_of(slot));", ""),
        ("entries.push_back(*live);", "entries.push_back(entry);"),
        ("(dying.has(links[e]) ? next : live)", "live"),
        ("dying.is_linked.clear(slot);", ""),
        ("changed_[slot][position] = to;", ""),
    ),
    *mutants(
        "graph/connect.cpp",
        "heal_test",
        ("connector.reach_all_from(entries);", ""),
        ("if (links_of(slot).empty()) lead(slot, 0, host);", ""),
        ("reached_[slot] || !graph_.has(slot)", "reached_[slot]"),
    ),
    *mutants(
        "graph/link.cpp",
        "row_linker_test index_test",
        ("links.data(), links.size());", "links.data(), links.size() / 2);"),
        ("takes.push_back(lost);", ""),
        ("waiting.resize(waiting.size() - changes.waited);", ""),
    ),
    *mutants(
        "graph/lead.cpp",
        "row_linker_test",
        ("if (!reached_[i] && is_led_to(i))", "if (!reached_[i])"),
        ("if (links->size() < kDegree) return links;", "return links;"),
        ("own.push_back(given);", ""),
        ("reached_[mate] || !has(hosts_[mate], from)", "reached_[mate]"),
        ("has(*theirs, batch_[mate]) && has(hosts_[mate], other)", "has(*theirs, batch_[mate])"),
    ),
    *mutants(
        "graph/row_linker.cpp",
        "row_linker_test index_test",
        ("if (numbers_.find_or_add(slot, next) == next) slots_", "slots_"),
        ("takers_.back().second.push_back(slots_[0]);", ""),
        ("if (known_.back() != 0) return;", ""),
        ("<= link.distance) return true;", ">= link.distance) return true;"),
        ("codes_.copy(0, mates_.codes, mate);", ""),
        ("slots_.push_back(row);\n    }\n    make_room", "(void)row;\n    }\n    make_room"),
    ),
    *mutants(
        "store/file.cpp",
        "file_test",
        ("section.checksum) {", "section.checksum + 1) {"),
        ("if (load<std::uint64_t>(all_ + 16) != bytes_)", "if (false)"),
        ("(found.st_mode & 022) != 0", "false"),
    ),
    *mutants(
        "store/store_file.cpp",
        "file_test",
        ("FileReader::Checks::lists", "FileReader::Checks::all"),
        ("store.marked > gone) return false;", "false) return false;"),
    ),
]


def survives(mutant: Mutant, source: Path, build: Path) -> bool:
    """Returns whether the tests pass with the mutant; what does not compile is an error."""
    path = source / mutant.file
    text = path.read_text()
    if text.count(mutant.before) < 1:
        raise SystemExit(f"{mutant.file} has no line {mutant.before!r}")
    path.write_text(text.replace(mutant.before, mutant.after, 1))
    try:
        tests = mutant.tests.split()
        made = subprocess.run(
            ["cmake", "--build", str(build), "-j2", "--target", *tests],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise SystemExit(
                f"{mutant} does not compile:\n{made.stdout[-2000:]}{made.stderr[-500:]}"
            )
        for test in tests:
            try:
                done = subprocess.run(
                    [str(build / test), *ARGUMENTS.get(test, [])],
                    cwd=build,
                    capture_output=True,
                    timeout=SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return False
            if done.returncode != 0:
                return False
        return True
    finally:
        path.write_text(text)


def main() -> None:
    """Builds a copy of the sources with one mutant after another."""
    build = Path(sys.argv[1]).resolve()
    count = int(os.environ.get("MRL_DB_MUTANTS", str(len(MUTANTS))))
    chosen = [MUTANTS[i * len(MUTANTS) // count] for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        source = build / "source"
        shutil.rmtree(source, ignore_errors=True)
        for part in ("csrc", "tests/native"):
            shutil.copytree(ROOT / part, source / part)
        (source / "benchmarks").mkdir()
        for file in ("CMakeLists.txt", *BENCHMARKS):
            shutil.copy2(ROOT / file, source / file)
        options = ["-DMRL_DB_PYTHON=OFF", "-DMRL_DB_NATIVE_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release"]
        subprocess.run(
            ["cmake", "-S", str(source), "-B", str(build), *options],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        alive = []
        for number, mutant in enumerate(chosen, 1):
            lives = survives(mutant, source, build)
            alive += [mutant] if lives else []
            print(number, "SURVIVES" if lives else "killed", mutant.file, mutant.before, flush=True)
    killed = len(chosen) - len(alive)
    print(f"{killed} of {len(chosen)} mutants killed")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
