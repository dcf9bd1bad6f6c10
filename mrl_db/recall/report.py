"""The report: what was measured of a collection, as one HTML file and its figures as PNG files.

Figures are drawn by matplotlib, the page by Jinja2, which escapes all that comes from the database.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrl_db.model.errors import MissingDependencyError, ValueRangeError
from mrl_db.recall.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN, _GREY = "#1f5fa8", "#d8701a", "#2f8f4e", "#8a8f98"
_SIZE = (7.2, 4.2)  # inches, at 130 dots each: legible at 1,280 pixels, two beside each other


def checked_folder(value: object) -> Path:
    """Returns where a report is to be written: before it is measured for long."""
    if not isinstance(value, (str, Path)):
        raise ValueRangeError(f"folder is {value!r:.60}, wanted a path: a str or a pathlib.Path")
    folder = Path(value)
    if "\0" in str(folder) or (folder.exists() and not folder.is_dir()):
        raise ValueRangeError(f"folder is {str(folder)!r:.60}, which is none; choose another one")
    return folder


def write(evidence: Evidence, folder: Path) -> Path:
    """Writes report.html and the figures; needs the extra `report`.

    Args:
        evidence: What was measured.
        folder: Is made where it is not there.

    Returns:
        The page's path.

    Raises:
        MissingDependencyError: matplotlib or Jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "the report needs matplotlib and Jinja2; pip install 'mrl_db[report]'"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueRangeError(f"cannot make the folder {folder}: {error.strerror}") from None
    images = {}
    for name, draw in _FIGURES.items():
        png = _figure(evidence, draw)
        (folder / f"{name}.png").write_bytes(png)
        images[name] = base64.b64encode(png).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("report.html.jinja")
    page = folder / "report.html"
    page.write_text(template.render(f=evidence, images=images), encoding="utf-8")
    return page


def _figure(evidence: Evidence, draw: Callable[[Evidence, Axes], None]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it keeps figures and a backend for the whole process.
    figure = Figure(figsize=_SIZE, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(evidence, axes)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _dims(f: Evidence, axes: Axes) -> None:
    dims = [q.dims for q in f.qualities]
    axes.plot(
        dims,
        [q.recall for q in f.qualities],
        "o-",
        color=_BLUE,
        label=f"recall@{f.k} of the prefix alone",
    )
    axes.plot(
        dims,
        [q.shortlist_recall for q in f.qualities],
        "s-",
        color=_GREEN,
        label=f"… within a shortlist of {f.shortlist}",
    )
    for name, color, values in (
        ("nDCG", _ORANGE, [q.ndcg for q in f.qualities]),
        ("mAP", _GREY, [q.mean_average_precision for q in f.qualities]),
    ):
        if all(value is not None for value in values):
            label = f"{name}@{f.k} of the prefix alone"
            axes.plot(dims, values, "^-", color=color, label=label)  # type: ignore[arg-type]
    axes.axvline(f.low_dims, color=_GREY, linestyle=":", label=f"low-dim column: {f.low_dims} dims")
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [str(each) for each in dims])
    axes.minorticks_off()
    axes.set(
        xlabel="dims of the prefix",
        ylabel="recall",
        ylim=(min(0.0, *(q.recall for q in f.qualities)), 1.03),
    )
    axes.legend(loc="lower right", fontsize=9)


def _plans(f: Evidence, axes: Axes) -> None:
    points = sorted(f.plans, key=lambda point: point.microseconds)
    best = np.maximum.accumulate([p.recall for p in points])
    front = [p for p, reached in zip(points, best.tolist(), strict=True) if p.recall >= reached]
    axes.plot(
        [p.microseconds for p in points],
        [p.recall for p in points],
        "o",
        color=_GREY,
        markersize=4,
        label="plans that were run",
    )
    axes.plot(
        [p.microseconds for p in front],
        [p.recall for p in front],
        "o-",
        color=_BLUE,
        label="none faster finds more",
    )
    for p in points:  # the rounds' spread
        axes.plot(p.spread, [p.recall, p.recall], "-", color=_GREY, linewidth=0.8)
    axes.plot(
        f.chosen.microseconds,
        f.chosen.recall,
        "*",
        color=_ORANGE,
        markersize=16,
        label="the plan that searches follow",
    )
    axes.set_xscale("log")
    low = min([p.recall for p in points] + [f.chosen.recall])
    axes.set(
        xlabel="microseconds a search", ylabel=f"recall@{f.k}", ylim=(max(0.0, low - 0.03), 1.01)
    )
    axes.legend(loc="lower right", fontsize=9)


def _recalls(f: Evidence, axes: Axes) -> None:
    edges = (np.arange(f.k + 2) - 0.5) / f.k
    counts, _ = np.histogram(f.recalls, bins=edges)
    axes.bar(np.arange(f.k + 1) / f.k, counts / len(f.recalls), width=0.8 / f.k, color=_BLUE)
    axes.axvline(f.recall.mean, color=_ORANGE, label=f"mean {f.recall.mean:.4f}")
    axes.axvline(
        f.recall.p05, color=_GREY, linestyle=":", label=f"5th percentile {f.recall.p05:.2f}"
    )
    axes.set(xlabel=f"recall@{f.k} of one query", ylabel="share of the queries", ylim=(0, 1.0))
    axes.legend(loc="upper left", fontsize=9)


def _energy(f: Evidence, axes: Axes) -> None:
    widths = np.arange(1, f.dims + 1)
    axes.plot(widths, f.energy[0], color=_BLUE, label="first dims, as they come")
    axes.plot(
        widths,
        f.energy[1],
        color=_GREEN,
        linestyle="--",
        label="as many of the best directions (PCA)",
    )
    axes.plot(widths, widths / f.dims, color=_GREY, linestyle=":", label="were all dims alike")
    axes.set(xlabel="dims", ylabel="share of the squared length", ylim=(0, 1.03), xlim=(0, f.dims))
    axes.legend(loc="lower right", fontsize=9)


def _stages(f: Evidence, axes: Axes) -> None:
    stages = f.stages.stages
    # "$" would begin a formula.
    names = [stage.name.replace("$", r"\$").replace(", keep", "\nkeep") for stage in stages]
    times = [stage.microseconds or 0.0 for stage in stages]
    heights = np.arange(len(names))[::-1]
    axes.barh(heights, times, color=_BLUE, height=0.5)
    for height, time, stage in zip(heights, times, stages, strict=True):
        rows = "" if stage.rows_in is None else f", {stage.rows_in:,} → {stage.rows_out:,} rows"
        axes.annotate(
            f"{time:,.0f} µs{rows}",
            (time, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(heights, names, fontsize=9)
    axes.set(
        xlabel="microseconds", xlim=(0, 1.5 * max([*times, 1e-9])), ylim=(-0.6, len(names) - 0.4)
    )


_FIGURES = {
    "dims": _dims,
    "plans": _plans,
    "recall": _recalls,
    "energy": _energy,
    "stages": _stages,
}
