"""Tables and plots of the record, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# arXiv:2205.13147, tables 1 and 2: ResNet50 on ImageNet-1K, per cent.
PAPER_LINEAR = {
    "MRL": {
        8: 66.63,
        16: 73.53,
        32: 75.03,
        64: 75.82,
        128: 76.30,
        256: 76.47,
        512: 76.65,
        1024: 76.76,
        2048: 76.80,
    },
    "MRL-E": {
        8: 56.66,
        16: 71.94,
        32: 74.48,
        64: 75.35,
        128: 75.80,
        256: 76.22,
        512: 76.36,
        1024: 76.48,
        2048: 76.51,
    },
    "FF": {
        8: 65.29,
        16: 72.85,
        32: 74.60,
        64: 75.27,
        128: 75.29,
        256: 75.71,
        512: 76.18,
        1024: 76.63,
        2048: 76.87,
    },
    "SVD": {
        8: 2.34,
        16: 7.17,
        32: 20.46,
        64: 48.10,
        128: 67.24,
        256: 74.59,
        512: 76.78,
        1024: 76.87,
    },
    "random": {
        8: 4.56,
        16: 11.29,
        32: 27.21,
        64: 49.47,
        128: 65.70,
        256: 72.43,
        512: 74.94,
        1024: 76.10,
        2048: 76.87,
    },
}
PAPER_NEAR = {
    "MRL": {
        8: 62.19,
        16: 67.91,
        32: 69.46,
        64: 70.17,
        128: 70.52,
        256: 70.62,
        512: 70.82,
        1024: 70.89,
        2048: 70.97,
    },
    "MRL-E": {
        8: 57.45,
        16: 67.05,
        32: 68.60,
        64: 69.61,
        128: 70.12,
        256: 70.36,
        512: 70.74,
        1024: 71.07,
        2048: 71.21,
    },
    "FF": {
        8: 58.93,
        16: 66.77,
        32: 68.84,
        64: 69.41,
        128: 69.35,
        256: 69.72,
        512: 70.18,
        1024: 70.34,
        2048: 71.19,
    },
    "SVD": {
        8: 19.14,
        16: 46.02,
        32: 60.78,
        64: 67.04,
        128: 69.63,
        256: 70.67,
        512: 71.06,
        1024: 71.22,
        2048: 71.21,
    },
    "random": {
        8: 2.36,
        16: 12.06,
        32: 32.91,
        64: 49.91,
        128: 60.91,
        256: 65.75,
        512: 68.77,
        1024: 70.41,
        2048: 71.19,
    },
}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def by_dims(ways: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Returns a table of accuracies, per cent with the standard deviation over seeds: ways across, dims down."""
    dims = sorted({int(width) for each in ways.values() for width in each})

    def cell(found: Mapping[str, Sequence[float]], width: int) -> str:
        return (
            ""
            if str(width) not in found
            else f"{100 * found[str(width)][0]:.2f} ± {100 * found[str(width)][1]:.2f}"
        )

    return table(
        ["dims", *ways],
        [[width, *(cell(found, width) for found in ways.values())] for width in dims],
    )


def paper_by_dims(ways: Mapping[str, Mapping[int, float]]) -> str:
    """Returns the paper's table."""
    return table(
        ["dims", *ways],
        [[width, *(each.get(width, "") for each in ways.values())] for width in ways["MRL"]],
    )


def write(record: Mapping[str, Any], folder: Path) -> None:
    """Writes paper.md and the plots of what the record has."""
    parts: list[str] = ["# The paper's experiments, here\n"]
    for name, title in (("accuracy", "CIFAR-10"), ("banking", "BANKING77")):
        if name in record:
            for what in ("linear", "1-NN"):
                parts += [f"## {title}: {what} accuracy by dims\n", by_dims(record[name][what])]
    parts += ["## The paper: linear accuracy, ResNet50, ImageNet-1K\n", paper_by_dims(PAPER_LINEAR)]
    parts += ["## The paper: 1-NN accuracy\n", paper_by_dims(PAPER_NEAR)]
    if "retrieval" in record:
        head = ["way", "Ds", "K", "mAP@10", "MFLOP", "fewer"]
        parts += [
            "## CIFAR-10: adaptive retrieval\n",
            table(head, [[each[key] for key in head] for each in record["retrieval"]["grid"]]),
        ]
        head = ["way", "plan", "mAP@10", "queries_per_s", "times_single"]
        parts += [
            "## ... through the native engine, flat\n",
            table(head, [[each[key] for key in head] for each in record["retrieval"]["engine"]]),
        ]
    cascades = {
        f"CIFAR-10, seed {seed}": each for seed, each in enumerate(record.get("classification", []))
    }
    if "banking" in record:
        cascades["BANKING77"] = record["banking"]["cascades"]
    for title, rules in cascades.items():
        rows = [
            [name, each["full accuracy"], each["rule"]["lost"], each["rule"]["dims"], each["pairwise"]["lost"], each["pairwise"]["dims"], each.get("kept", "")]
            for name, each in rules.items()
            if "rule" in each
        ]  # fmt: skip
        parts += [
            f"## {title}: cascades\n",
            table(
                ["asked for", "full accuracy", "lost", "dims", "pairwise: lost", "dims", "kept"],
                rows,
            ),
        ]
    if "truncation" in record:
        rows = [
            [width, f"{each['float32']:.2e}", f"{each['halfvec']:.2e}"]
            for width, each in record["truncation"].items()
        ]
        parts += [
            "## Cut and renormalised against made shorter: mean absolute percentage error\n",
            table(["dims", "float32", "halfvec"], rows),
        ]
    (folder / "paper.md").write_text("\n".join(parts))
    plots(record, folder)


def plots(record: Mapping[str, Any], folder: Path) -> None:
    """Draws accuracy by dims, adaptive retrieval and adaptive classification."""
    from matplotlib.figure import Figure

    def draw(name: str, paint: Callable[[Any], None]) -> None:
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=130)

    def accuracies(
        title: str, ways: Mapping[str, Mapping[str, Sequence[float]]]
    ) -> Callable[[Any], None]:
        def paint(axes: Any) -> None:
            for way, found in ways.items():
                x = [int(width) for width in found]
                y = [100 * each[0] for each in found.values()]
                axes.errorbar(
                    x,
                    y,
                    [100 * each[1] for each in found.values()],
                    label=way,
                    marker=".",
                    linestyle=" " if "between" in way else "-",
                )
            axes.set(xscale="log", xlabel="dims", ylabel="accuracy, per cent", title=title)
            axes.set_xticks(
                [2**power for power in range(1, 9)], [str(2**power) for power in range(1, 9)]
            )

        return paint

    for name, title in (("accuracy", "CIFAR-10"), ("banking", "BANKING77")):
        for what in ("linear", "1-NN") if name in record else ():
            draw(f"{name}_{what}", accuracies(f"{title}, {what}", record[name][what]))
    if "retrieval" in record:

        def found(axes: Any) -> None:
            for way, marker in (("single", "o-"), ("adaptive", "."), ("funnel", "^")):
                points = [each for each in record["retrieval"]["grid"] if each["way"] == way]
                axes.plot(
                    [each["MFLOP"] for each in points],
                    [each["mAP@10"] for each in points],
                    marker,
                    label=way,
                )
            axes.set(
                xscale="log",
                xlabel="MFLOP a query",
                ylabel="mAP@10",
                title="CIFAR-10: 50,000 x 256, adaptive retrieval",
            )

        draw("retrieval", found)
    if "classification" in record and "accuracy" in record:

        def stopped(axes: Any) -> None:
            for way in ("FF", "MRL"):
                points = record["accuracy"]["linear"][way]
                axes.plot(
                    [int(width) for width in points],
                    [100 * each[0] for each in points.values()],
                    ".-",
                    label=f"{way}, fixed dims",
                )
            for key, label in (("rule", "cascade"), ("pairwise", "paper's thresholds, same heads")):
                runs = [
                    each for run in record["classification"] for each in run.values() if key in each
                ]
                right = [100 * (each["full accuracy"] - each[key]["lost"]) for each in runs]
                axes.plot([each[key]["dims"] for each in runs], right, "x", label=label)
            axes.set(
                xscale="log",
                xlabel="expected dims",
                ylabel="accuracy, per cent",
                title="CIFAR-10: adaptive classification",
            )

        draw("classification", stopped)
