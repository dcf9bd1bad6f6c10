"""Writes mrl_db/faces/demo/: 5,200 real rows for the demo, drawn from a folder with the full debian-minilm set.

python benchmarks/make_demo_data.py FOLDER

The model behind the vectors (all-MiniLM-L6-v2) was not trained with MRL, so they are stored rotated by the PCA of the
full set: an orthogonal rotation keeps every distance and puts the energy into the first dims. They are rounded to
multiples of 1/64, which moves each by some five degrees and lets a wheel stay below 3 MB; dims by rows, so that
the many small values of the last dims lie together and compress: by Huffman's codes alone, as nothing repeats and
gzip's search for what does costs a tenth of the size.
"""

import bz2
import gzip
import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np

SEED = 20261121
ROWS = 5_200
EXAMPLES = ("gimp", "r-cran-ggplot2")  # what the demo searches by must be among the rows
STEPS = 64  # of a value, from 0 to 1
MOST_BYTES = 950_000  # of the two files: what every wheel carries


def main(folder: Path) -> None:
    vectors = np.load(folder / "vectors.f16.npy").astype(np.float32)
    rotation = np.load(folder / "pca_rotation.f32.npy")
    with gzip.open(folder / "meta.jsonl.gz", "rt") as lines:
        packages = [json.loads(line) for line in lines]
    examples = [row for row, package in enumerate(packages) if package["id"] in EXAMPLES]
    others = np.setdiff1d(np.arange(len(packages)), examples)
    drawn = np.random.default_rng(SEED).choice(others, ROWS - len(examples), replace=False)
    rows = np.sort(np.concatenate([examples, drawn]))
    rotated = vectors[rows] @ rotation
    rotated /= np.linalg.norm(rotated, axis=1, keepdims=True)
    out = Path(__file__).resolve().parents[1] / "mrl_db" / "faces" / "demo"
    write_codes(out / "codes.npy.gz", np.rint(rotated.T * STEPS).astype(np.int8))
    with bz2.open(out / "packages.jsonl.bz2", "wb") as file:
        for row in rows:
            package = packages[row]
            entry = {
                "name": package["id"],
                "description": package["description"],
                "section": package["section"],
            }
            file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
    size = sum((out / name).stat().st_size for name in ("codes.npy.gz", "packages.jsonl.bz2"))
    assert size <= MOST_BYTES, (
        f"the demo's data take {size} bytes, at most {MOST_BYTES} are allowed"
    )


def write_codes(file: Path, codes: np.ndarray) -> None:
    array = io.BytesIO()
    np.save(array, np.ascontiguousarray(codes))  # dims by rows, in the file too
    stream = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    file.write_bytes(stream.compress(array.getvalue()) + stream.flush())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
