"""The example data of `mrl-db demo`: package descriptions of Debian 12 (see README.md)."""

from __future__ import annotations

import bz2
import gzip
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Packages:
    """5,200 packages.

    Attributes:
        names: names of the packages, unique.
        descriptions: one line each.
        sections: of Debian's archive, such as "python".
        vectors: (5200, 384) float32 at unit length.
    """

    names: list[str]
    descriptions: list[str]
    sections: list[str]
    vectors: NDArray[np.float32]


def load_packages() -> Packages:
    """Returns the example data that the installed package carries."""
    folder = resources.files("mrl_db.faces.demo")
    with (folder / "codes.npy.gz").open("rb") as raw, gzip.open(raw) as file:
        codes = np.load(file)
    vectors = np.ascontiguousarray(codes.T, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with (
        (folder / "packages.jsonl.bz2").open("rb") as raw,
        bz2.open(raw, "rt", encoding="utf-8") as lines,
    ):
        entries = [json.loads(line) for line in lines]
    return Packages(
        [entry["name"] for entry in entries],
        [entry["description"] for entry in entries],
        [entry["section"] for entry in entries],
        vectors,
    )
