"""Whether vectors are nested, from the vectors alone: do their first dims find neighbours better than as many other dims would?

A Matryoshka model packs what matters into its first dims; another model's dims are all alike, and a prefix is as good as any random choice.
So the recall of prefixes is compared with that of random sets of dims of the same size. Where models were trained to be cut, the mean
square of the dims often steps down: dims behind a nesting width had a part in fewer of the losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrl_db.evaluate.representations import nearest
from mrl_db.model.errors import MissingDependencyError, ShapeError
from mrl_db.model.metric import Metric

_QUERIES, _ROWS, _DRAWS, _K = 300, 5000, 12, 10
_ADVANTAGE = 0.01  # of recall over random dims, on average over the widths ...
_SIGMAS_OF_RECALL = (
    3.0  # ... and so many times what random sets differ by, for prefixes to count as nested
)
_STEP = 1.15  # the least ratio of mean squares before and behind a step ...
_SIGMAS = 6.0  # ... and how far above the noise its logarithm is


@dataclass(frozen=True, slots=True)
class Nestedness:
    """recall, random_recall: at each of dims, recall@10 of the first dims, and of as many random ones (mean over draws). steps: widths
    behind

    which the mean square of the dims falls at once. mean_square: of each dim. nested: whether every prefix of less than three quarters of
    the dims is better than random ones.
    """

    dims: tuple[int, ...]
    recall: tuple[float, ...]
    random_recall: tuple[float, ...]
    steps: tuple[int, ...]
    mean_square: NDArray[np.float64]
    nested: bool

    def __str__(self) -> str:
        """Tells it in a few lines."""
        lines = [
            "nested"
            if self.nested
            else "not nested: the first dims are no better than others; rotate (PCA) or adapt before cutting"
        ]
        for width, own, other in zip(self.dims, self.recall, self.random_recall, strict=True):
            lines.append(f"  {width} dims: recall@{_K} {own:.3f}, random dims {other:.3f}")
        if self.steps:
            lines.append(
                f"  the dims' mean square steps down behind {', '.join(map(str, self.steps))}"
            )
        return "\n".join(lines)

    def plot(self, path: Path | str) -> None:
        """Draws both into a PNG file; needs the extra `report`."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingDependencyError(
                "the plot needs matplotlib; pip install 'mrl_db[report]'"
            ) from None
        figure = Figure(figsize=(10, 4), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        left.plot(self.dims, self.recall, "o-", color="#1f5fa8", label="first dims")
        left.plot(self.dims, self.random_recall, "s--", color="#8a8f98", label="random dims")
        left.set_xscale("log", base=2)
        left.set_xticks(self.dims, [str(width) for width in self.dims])
        left.minorticks_off()
        left.set(xlabel="dims", ylabel=f"recall@{_K}", ylim=(0, 1.03))
        left.legend(loc="lower right")
        right.plot(
            np.arange(1, len(self.mean_square) + 1),
            self.mean_square,
            color="#1f5fa8",
            linewidth=0.8,
        )
        for step in self.steps:
            right.axvline(step, color="#d8701a", linestyle=":")
        right.set(xlabel="dim", ylabel="mean square", yscale="log")
        figure.savefig(path, format="png")


def nestedness(
    vectors: NDArray[np.float32], dims: Sequence[int] | None = None, *, seed: int = 0
) -> Nestedness:
    """Returns whether vectors (n, full) are nested; some thousand are enough, of more a sample is taken.

    dims: widths to look at; by default a sixteenth, an eighth, a quarter and half of the full dims.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) < 100 or array.shape[1] < 8:
        raise ShapeError(
            f"vectors have shape {array.shape}, wanted at least 100 of at least 8 dims"
        )
    full = array.shape[1]
    rng = np.random.default_rng(seed)
    rows = array[rng.permutation(len(array))[:_ROWS]]
    widths = tuple(
        sorted({max(1, full // 16), full // 8, full // 4, full // 2} if dims is None else set(dims))
    )
    asked = rows[:_QUERIES]
    own = np.arange(len(asked))
    true = nearest(rows, asked, Metric.cosine, _K, own)
    recall, others, spread = [], [], []
    for width in widths:
        found = _shares(rows[:, :width], asked[:, :width], true, own)
        draws = np.array(
            [
                _shares(rows[:, chosen], asked[:, chosen], true, own)
                for chosen in (rng.permutation(full)[:width] for _ in range(_DRAWS))
            ]
        )
        recall.append(float(found.mean()))
        others.append(float(draws.mean()))
        spread.append(float(draws.mean(axis=1).std(ddof=1)))
    advantage = np.array(recall) - np.array(others)
    # How far a random set's recall lies from the mean of the draws, averaged over the widths that cut something off.
    cut = [place for place, width in enumerate(widths) if width < 0.75 * full]
    noise = math.sqrt(sum(spread[place] ** 2 * (1 + 1 / _DRAWS) for place in cut)) / max(
        len(cut), 1
    )
    nested = bool(cut) and float(advantage[cut].mean()) > max(_ADVANTAGE, _SIGMAS_OF_RECALL * noise)
    squares = np.square(rows.astype(np.float64)).mean(axis=0)
    return Nestedness(widths, tuple(recall), tuple(others), _steps(squares), squares, nested)


def _shares(
    rows: NDArray[np.float32],
    asked: NDArray[np.float32],
    true: NDArray[np.int64],
    own: NDArray[np.int64],
) -> NDArray[np.float64]:
    found = nearest(np.ascontiguousarray(rows), np.ascontiguousarray(asked), Metric.cosine, _K, own)
    return np.asarray(
        (true[:, :, np.newaxis] == found[:, np.newaxis]).any(axis=2).mean(axis=1), dtype=np.float64
    )


def _steps(squares: NDArray[np.float64]) -> tuple[int, ...]:
    """Widths at which lines through the logarithms of the squares before and behind fall apart by far more than these scatter."""
    logs = np.log(np.maximum(squares, 1e-12 * max(float(squares.max()), 1e-300)))
    window = max(8, len(logs) // 24)
    places = np.arange(window)
    score = np.zeros(len(logs))
    for place in range(window, len(logs) - window + 1):
        before, behind = logs[place - window : place], logs[place : place + window]
        lines = [np.polyfit(places, part, 1) for part in (before, behind)]
        fall = float(np.polyval(lines[0], window - 0.5) - np.polyval(lines[1], -0.5))
        scatter = sum(
            float(np.square(part - np.polyval(line, places)).sum())
            for part, line in zip((before, behind), lines, strict=True)
        )
        noise = math.sqrt(
            scatter / (2 * window - 4) * 2 * 4 / window
        )  # of a line's end: 4 sigma^2 / n
        if fall > math.log(_STEP) and fall > _SIGMAS * noise:
            score[min(place, len(score) - 1)] = fall / max(noise, 1e-12)
    found: list[int] = []
    while score.max() > 0:
        best = int(score.argmax())
        found.append(best)
        score[max(0, best - window) : best + window] = 0
    return tuple(sorted(found))
