"""The native engine against the libraries that its users would pick instead, at equal recall, in one run.

pip install '.[embedded,peers]' && python benchmarks/bench_peers.py --data SHARED --set debian --name peers_debian

SHARED is the folder with debian-minilm and openai3s-almedalen. Sets: debian (real, 62,666 x 384), 200k (generated, 200,000 x 768), 1m (generated,
1,000,000 x 1024); how the last two are made stands in generated.py. 1,000 queries are held out of each.

Every system is built over the same rows (2 threads), and its recall at every point of its sweep is counted against exact float32 search, ties
counted. Then, round after round, every point of every system answers a block of queries, in an order drawn anew: one query at a time on one
thread, and in batches of all queries on one and two threads. Queries/s at a recall are interpolated on a system's upper envelope within a
round, ratios are taken there, and their median and quartiles over the rounds are what is reported. Everything is called from Python, each library
through its own binding; BLAS keeps to one thread.

On a machine that others use, --busy measures one query at a time only, by the CPU time of the process.

A rival that is slow to build is left out of the larger sets with --leave-out; the record says which.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # before NumPy: a rival's projection of one query is no work for two threads
)

import ctypes
import gc
import time
from pathlib import Path

import machine
import numpy as np
from curves import at_recall
from generated import generate
from peers import System, systems

import mrl_db

HELD_OUT = 1000
TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
MODES = {
    "single": (1, 1),
    "batch, 1 thread": (0, 1),
    "batch, 2 threads": (0, 2),
}  # queries a call (0: all), threads
PACKAGES = (
    "faiss-cpu",
    "hnswlib",
    "kannolo",
    "psycopg",
    "pyglass-portable",
    "pyvsag",
    "rabitqlib",
    "scalable-vs",
    "scann",
    "usearch",
)


def load(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows, queries) of unit length."""
    if name == "debian":
        vectors = np.load(data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
        vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
    else:
        rows, dims = {"200k": (200_000, 768), "1m": (1_000_000, 1024)}[name]
        vectors = generate(data / "openai3s-almedalen", rows + HELD_OUT, dims, seed=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors[:-HELD_OUT]), np.ascontiguousarray(vectors[-HELD_OUT:])


def least_similarity(rows: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the k-th largest inner product of each query: whatever reaches it belongs to the answer."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for begin in range(0, len(rows), 50_000):
        here = queries @ rows[begin : begin + 50_000].T
        best = np.partition(np.concatenate([best, here], axis=1), -k, axis=1)[:, -k:]
    return best.min(axis=1)


def recall(rows: np.ndarray, queries: np.ndarray, found: np.ndarray, least: np.ndarray) -> float:
    """Returns the mean share of answers that are as near as the k-th nearest row."""
    hits = 0
    for query, ids, limit in zip(queries, found, least, strict=True):
        ids = np.unique(ids[ids >= 0].astype(np.int64))
        hits += int((rows[ids] @ query >= limit - 1e-6).sum())
    return hits / found.size


def resident() -> tuple[int, int]:
    """Returns (bytes held, most bytes held since the last call)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return now, peak


clock = time.perf_counter  # or, with --busy, process_time


def answer(system: System, queries: np.ndarray, at_once: int) -> float:
    """Returns queries/s."""
    began = clock()
    if at_once == 1:
        for query in queries:
            system.one(query)
    else:
        system.many(queries)
    return len(queries) / (clock() - began)


def measure(
    found: list[System], queries: np.ndarray, k: int, threads: int, at_once: int, rounds: int
) -> dict[str, np.ndarray]:
    """Returns queries/s of every point in every round (rounds, points)."""
    rng = np.random.default_rng(0)
    speeds = {system.name: np.zeros((rounds, len(system.points))) for system in found}
    work = [(system, place) for system in found for place in range(len(system.points))]
    blocks: dict[tuple[str, int], int] = {}
    for number in range(rounds):
        for index in rng.permutation(len(work)):
            system, place = work[index]
            system.set(system.points[place], k, threads)
            # A slow system answers fewer queries a round, else it would have the run to itself: a tenth of a second is enough.
            size = min(len(queries), blocks.get((system.name, place), 20))
            chosen = (
                queries[rng.choice(len(queries), size, replace=False)]
                if at_once == 1 or size < 200
                else queries
            )
            answer(system, chosen[:3], at_once)
            speed = answer(system, chosen, at_once)
            blocks[system.name, place] = int(
                np.clip(speed / 10, 10, 250 if at_once == 1 else len(queries))
            )
            speeds[system.name][number, place] = speed
    return {name: values[1:] for name, values in speeds.items()}  # the first round sized the blocks


def compare(
    found: list[System], recalls: dict[str, list[float]], speeds: dict[str, np.ndarray]
) -> list[dict[str, object]]:
    """Returns, for each recall, queries/s of each system, and ours over the best rival of each group, with quartiles."""
    table = []
    for target in TARGETS:
        rounds = len(next(iter(speeds.values())))
        each = {
            name: np.array([at_recall(recalls[name], values[i], target) for i in range(rounds)])
            for name, values in speeds.items()
        }
        row: dict[str, object] = {"recall": target}
        row["queries_per_s"] = {
            name: None if np.isnan(rate).any() else round(float(np.median(rate)))
            for name, rate in each.items()
        }
        for group in ("full", "projected"):
            rivals = [
                each[system.name]
                for system in found
                if system.group == group and not np.isnan(each[system.name]).any()
            ]
            for ours in (system.name for system in found if system.group == "ours"):
                ratio = each[ours] / np.max(rivals, axis=0) if rivals else np.array([np.nan])
                row[f"{ours} over the best of {group}"] = (
                    None
                    if np.isnan(ratio).any()
                    else [round(float(q), 2) for q in np.percentile(ratio, (25, 50, 75))]
                )
        table.append(row)
    return table


def markdown(facts: dict[str, dict[str, float]], table: list[dict[str, object]]) -> str:
    """Returns the table of one mode as the README shows it."""
    targets = [f"{row['recall']:g}" for row in table]
    lines = [
        f"| system | build, s | bytes a row | {' | '.join(f'q/s at {t}' for t in targets)} |",
        "|---" * (3 + len(targets)) + "|",
    ]
    for name, fact in facts.items():
        cells = [row["queries_per_s"][name] for row in table]  # type: ignore[index]
        shown = " | ".join("–" if cell is None else f"{cell:,}" for cell in cells)
        lines.append(
            f"| {name} | {fact['build_seconds']:.1f} | {fact['bytes_a_row']:,.0f} | {shown} |"
        )
    return "\n".join(lines)


def plot(
    path: Path,
    title: str,
    found: list[System],
    recalls: dict[str, list[float]],
    speeds: dict[str, np.ndarray],
) -> None:
    """Draws queries/s against recall."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for number, system in enumerate(found):
        order = np.argsort(recalls[system.name])
        style = {"ours": "-o", "full": "--s", "projected": ":^"}[system.group]
        axes.plot(
            np.array(recalls[system.name])[order],
            np.median(speeds[system.name], axis=0)[order],
            style,
            color=pyplot.get_cmap("tab20")(number),
            label=system.name,
            markersize=4,
            linewidth=2.5 if system.group == "ours" else 1.2,
        )
    axes.set(
        xlim=(0.8, 1.001),
        yscale="log",
        xlabel="recall@10",
        ylabel="queries/s, one thread",
        title=title,
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("debian", "200k", "1m"), default="debian")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--leave-out",
        nargs="*",
        default=[],
        metavar="WORD",
        help="systems whose name contains one of these",
    )
    parser.add_argument("--k", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    if options.busy:
        global clock
        clock = time.process_time
    rows, queries = load(options.data, options.set)
    if options.quick:
        rows, queries, options.rounds = rows[:10_000], queries[:200], 3
    print(f"{options.set}: {rows.shape}, {len(queries)} queries", flush=True)
    offered = systems(rows.shape[1], len(rows))
    found = [
        system for system in offered if not any(word in system.name for word in options.leave_out)
    ]
    facts: dict[str, dict[str, float]] = {}
    for system in found:
        gc.collect()
        before, _ = resident()
        began = time.perf_counter()
        system.build(rows)
        seconds = time.perf_counter() - began
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed counts for nobody
        after, peak = resident()
        facts[system.name] = {
            "build_seconds": round(seconds, 2),
            "bytes_a_row": (after - before) / len(rows),
            "peak_bytes_a_row": (peak - before) / len(rows),
        }
        print(
            f"  {system.name}: built in {seconds:.1f} s, {facts[system.name]['bytes_a_row']:.0f} B a row",
            flush=True,
        )

    results: dict[str, object] = {}
    for k in options.k:
        least = least_similarity(rows, queries, k)
        recalls: dict[str, list[float]] = {}
        for system in found:
            recalls[system.name] = []
            for point in system.points:
                system.set(point, k, 2)
                recalls[system.name].append(
                    round(recall(rows, queries, system.many(queries), least), 5)
                )
            print(f"  recall@{k} {system.name}: {recalls[system.name]}", flush=True)
        for mode, (at_once, threads) in MODES.items():
            if (options.busy or k != options.k[0]) and mode != "single":
                continue
            speeds = measure(found, queries, k, threads, at_once, options.rounds)
            table = compare(found, recalls, speeds)
            print(f"recall@{k}, {mode}")
            print(markdown(facts, table))
            for row in table:
                print(
                    "  ",
                    row["recall"],
                    {key: value for key, value in row.items() if " over " in key},
                    flush=True,
                )
            results[f"recall@{k}, {mode}"] = {
                "curves": {
                    name: {
                        "recall": recalls[name],
                        "queries_per_s": [round(s) for s in np.median(values, axis=0)],
                    }
                    for name, values in speeds.items()
                },
                "at_equal_recall": table,
            }
            if options.name and mode == "single" and k == options.k[0]:
                plot(
                    machine.folder() / f"{options.name}.png",
                    f"{options.set}: {len(rows):,} x {rows.shape[1]}",
                    found,
                    recalls,
                    speeds,
                )
    if options.name:
        record = {
            **machine.describe(*PACKAGES),
            "set": options.set,
            "rows": rows.shape,
            "queries": len(queries),
            "clock": clock.__name__,
            "simd": mrl_db.simd(),
            "left_out": [system.name for system in offered if system not in found],
            "build_threads": 2,
            "facts": facts,
            **results,
        }
        print(machine.save(options.name, record))


if __name__ == "__main__":
    main()
