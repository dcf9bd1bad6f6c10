"""Writes mrl_db/faces/demo/: 10,000 real rows for the demo, drawn from a folder with the full debian-minilm set.

python benchmarks/make_demo_data.py FOLDER

The model behind the vectors (all-MiniLM-L6-v2) was not trained with MRL, so they are stored rotated by the PCA of the full set: an
orthogonal rotation keeps every distance and puts the energy into the first dims.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np

SEED = 20261121
ROWS = 10_000
EXAMPLES = ("gimp", "r-cran-ggplot2")  # what the demo searches by must be among the rows


def main(folder: Path) -> None:
    vectors = np.load(folder / "vectors.f16.npy").astype(np.float32)
    rotation = np.load(folder / "pca_rotation.f32.npy")
    with gzip.open(folder / "meta.jsonl.gz", "rt") as lines:
        packages = [json.loads(line) for line in lines]
    wanted = [place for place, package in enumerate(packages) if package["id"] in EXAMPLES]
    others = np.setdiff1d(np.arange(len(packages)), wanted)
    drawn = np.random.default_rng(SEED).choice(others, ROWS - len(wanted), replace=False)
    chosen = np.sort(np.concatenate([wanted, drawn]))
    rotated = vectors[chosen] @ rotation
    rotated /= np.linalg.norm(rotated, axis=1, keepdims=True)
    out = Path(__file__).resolve().parents[1] / "mrl_db" / "faces" / "demo"
    np.save(out / "packages.f16.npy", rotated.astype(np.float16))
    with gzip.GzipFile(out / "packages.jsonl.gz", "wb", mtime=0) as file:
        for place in chosen:
            package = packages[place]
            entry = {
                "name": package["id"],
                "description": package["description"],
                "section": package["section"],
            }
            file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
