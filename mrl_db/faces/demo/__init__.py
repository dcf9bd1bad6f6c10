"""The example data of `mrl-db demo`: package descriptions of Debian 12, embedded (see README.md in this folder)."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from typing import cast

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Packages:
    """10,000 packages: names, descriptions and sections as lists, vectors float32 (10000, 384) of unit norm."""

    names: list[str]
    descriptions: list[str]
    sections: list[str]
    vectors: NDArray[np.float32]


def load_packages() -> Packages:
    """Reads the example data out of the installed package."""
    folder = resources.files("mrl_db.faces.demo")
    with (folder / "packages.f16.npy").open("rb") as file:
        vectors = cast("NDArray[np.float16]", np.load(file)).astype(np.float32)
    with (
        (folder / "packages.jsonl.gz").open("rb") as raw,
        gzip.open(raw, "rt", encoding="utf-8") as lines,
    ):
        entries = [json.loads(line) for line in lines]
    return Packages(
        [e["name"] for e in entries],
        [e["description"] for e in entries],
        [e["section"] for e in entries],
        vectors,
    )
