"""Whether vectors are nested: do their first dims find neighbours better than as many others would?

A Matryoshka model packs what matters into its first dims. Another model's dims are all alike, and
a prefix is as good as any random choice. So the recall of prefixes is compared with that of random
sets of dims of the same size. Where models were trained to be cut, the mean square of the dims
often steps down: dims behind a nesting width had a part in fewer of the losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrl_db.evaluate.representations import nearest, recall_of_ids
from mrl_db.model.errors import MissingDependencyError, ShapeError
from mrl_db.model.metric import Metric

_QUERIES, _ROWS, _DRAWS, _K = 300, 5000, 12, 10
# Prefixes count as nested where their recall exceeds that of random dims by this much, on average
# over the widths, and by so many times what random sets differ by.
_ADVANTAGE = 0.01
_SIGMAS_OF_RECALL = 3.0
# A step is a fall of the mean square by at least this ratio, and by so many times the noise of its
# logarithm.
_STEP = 1.15
_SIGMAS = 6.0


@dataclass(frozen=True, slots=True)
class Nestedness:
    """How nested vectors are.

    Attributes:
        dims: The widths that were looked at.
        recall: At each of them, recall@10 of the first dims.
        random_recall: At each of them, recall@10 of as many random dims, the mean over draws.
        steps: Widths behind which the mean square of the dims falls at once.
        mean_square: Of each dim, (full,).
        nested: Whether prefixes of less than three quarters of the dims beat random dims.
    """

    dims: tuple[int, ...]
    recall: tuple[float, ...]
    random_recall: tuple[float, ...]
    steps: tuple[int, ...]
    mean_square: NDArray[np.float64]
    nested: bool

    def __str__(self) -> str:
        lines = [
            "nested"
            if self.nested
            else "not nested: the first dims are no better than others; rotate (PCA) or adapt "
            "before cutting"
        ]
        for width, own, other in zip(self.dims, self.recall, self.random_recall, strict=True):
            lines.append(f"  {width} dims: recall@{_K} {own:.3f}, random dims {other:.3f}")
        if self.steps:
            lines.append(
                f"  the dims' mean square steps down behind {', '.join(map(str, self.steps))}"
            )
        return "\n".join(lines)

    def plot(self, path: Path | str) -> None:
        """Draws recall and mean squares into a PNG file; needs the extra `report`.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
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
    """Returns how nested vectors are.

    Args:
        vectors: (n, full); some thousand are enough, of more a sample is taken.
        dims: Widths to look at; None: a sixteenth, an eighth, a quarter and half of the full dims.
        seed: Of the draws.

    Raises:
        ShapeError: There are fewer than 100 vectors, or fewer than 8 dims.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) < 100 or array.shape[1] < 8:
        raise ShapeError(
            f"vectors have shape {array.shape}, wanted at least 100 of at least 8 dims"
        )
    full = array.shape[1]
    rng = np.random.default_rng(seed)
    rows = array[rng.permutation(len(array))[:_ROWS]]
    default = {max(1, full // 16), full // 8, full // 4, full // 2}
    widths = tuple(sorted(default if dims is None else set(dims)))
    queries = rows[:_QUERIES]
    own = np.arange(len(queries))
    true = nearest(rows, queries, Metric.cosine, _K, own)

    def recall_by(chosen: NDArray[np.int64]) -> float:
        cut, cut_queries = (np.ascontiguousarray(each[:, chosen]) for each in (rows, queries))
        return recall_of_ids(nearest(cut, cut_queries, Metric.cosine, _K, own), true)

    recall, random_recall, variances = [], [], []
    for width in widths:
        draws = [recall_by(rng.permutation(full)[:width]) for _ in range(_DRAWS)]
        recall.append(recall_by(np.arange(width)))
        random_recall.append(float(np.mean(draws)))
        variances.append(float(np.var(draws, ddof=1)))
    # Widths that cut something off, and how far a random set's recall lies from the mean of the
    # draws, averaged over them.
    cutting = [at for at, width in enumerate(widths) if width < 0.75 * full]
    nested = False
    if cutting:
        advantage = np.mean([recall[at] - random_recall[at] for at in cutting])
        noise = math.sqrt(sum(variances[at] * (1 + 1 / _DRAWS) for at in cutting)) / len(cutting)
        nested = bool(advantage > max(_ADVANTAGE, _SIGMAS_OF_RECALL * noise))
    squares = np.square(rows.astype(np.float64)).mean(axis=0)
    return Nestedness(widths, tuple(recall), tuple(random_recall), _steps(squares), squares, nested)


def _steps(squares: NDArray[np.float64]) -> tuple[int, ...]:
    """Widths at which the logarithm of the squares falls at once.

    A line is fitted to the logarithms of some dims before each width, and one to those behind. It
    is a step where the lines' ends are apart by far more than the values scatter about them.
    """
    logs = np.log(np.maximum(squares, 1e-12 * max(float(squares.max()), 1e-300)))
    window = max(8, len(logs) // 24)
    positions = np.arange(window)
    score = np.zeros(len(logs))
    for width in range(window, len(logs) - window + 1):
        parts = logs[width - window : width], logs[width : width + window]
        lines = [np.polyfit(positions, part, 1) for part in parts]
        fall = float(np.polyval(lines[0], window - 0.5) - np.polyval(lines[1], -0.5))
        scatter = sum(
            float(np.square(part - np.polyval(line, positions)).sum())
            for part, line in zip(parts, lines, strict=True)
        )
        # The variance of a line's end is 4 sigma^2 / n, and there are two.
        noise = math.sqrt(scatter / (2 * window - 4) * 2 * 4 / window)
        if fall > math.log(_STEP) and fall > _SIGMAS * noise:
            score[min(width, len(score) - 1)] = fall / max(noise, 1e-12)
    steps: list[int] = []
    while score.max() > 0:
        best = int(score.argmax())
        steps.append(best)
        score[max(0, best - window) : best + window] = 0
    return tuple(sorted(steps))
