"""Draws the README's picture, queries/s against recall, from a record of bench_peers.py.

python benchmarks/show_peers.py benchmarks/record/MACHINE/peers_debian.json docs/images/peers.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

# One line for each kind of library, the best of its variants in the record; ours first.
SHOWN = {  # name in the record: label, colour, points that the label is moved up
    "mrl_db": ("mrl_db", "#c2410c", 0),
    "SymphonyQG 32": ("SymphonyQG", "#0f766e", 0),
    "SVS Vamana LVQ4x8": ("SVS Vamana LVQ", "#1d4ed8", 0),
    "Glass HNSW SQ4U": ("Glass", "#be185d", 6),
    "kANNolo": ("kANNolo", "#4d7c0f", -6),
    "FAISS HNSW32": ("FAISS HNSW", "#6d28d9", 6),
    "hnswlib": ("hnswlib", "#0369a1", -6),
    "pgvector HNSW halfvec": ("pgvector HNSW", "#334155", 0),
}


def curve_of(curves: dict[str, dict[str, list[float]]], name: str) -> list[tuple[float, float]]:
    """Returns the points of a system that no other point of its own beats, by rising recall."""
    key = next((each for each in curves if each.startswith(name)), None)
    if key is None:
        return []
    points = sorted(zip(curves[key]["recall"], curves[key]["queries_per_s"], strict=True))
    return [p for n, p in enumerate(points) if all(p[1] >= later[1] for later in points[n + 1 :])]


def main() -> None:
    record = json.loads(Path(sys.argv[1]).read_text())
    curves = record["recall@10, single"]["curves"]
    figure, axes = pyplot.subplots(figsize=(7.2, 4.0))
    for name, (label, colour, up) in SHOWN.items():
        points = [point for point in curve_of(curves, name) if point[0] >= 0.9]
        if not points:
            continue
        ours = name == "mrl_db"
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=3 if ours else 1.5)
        axes.annotate(
            label,
            points[0],
            xytext=(-6, up),
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour,
            fontsize=9,
            fontweight="bold" if ours else "normal",
        )
    rows, dims = record["rows"]
    axes.set(xlim=(0.88, 1.0), yscale="log", xlabel="recall@10")
    axes.set_xticks([0.9, 0.92, 0.94, 0.96, 0.98, 1.0])
    axes.set_title(
        f"Queries per second, one query at a time, one thread\n{rows:,} × {dims} real embeddings, "
        f"{record['cpu'].split(',')[0]}",
        fontsize=10,
        loc="left",
    )
    axes.grid(visible=True, which="major", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(sys.argv[2])
    print(f"wrote {sys.argv[2]}")


if __name__ == "__main__":
    main()
