"""Kernels against the ceilings of one core, NumPy and numkong, rows in the second-level cache and in DRAM.

python benchmarks/bench_kernels.py --name kernels

Answers are checked before the clock. In every round all systems run once, in an order drawn anew, and so do the ceilings; ratios are taken
within a round and the median of the rounds is reported with its quartiles. A figure of DRAM is the share of the read bandwidth of the same
round; one of the cache is the share of the arithmetic ceiling (FMA or VPDPBUSD) and the ratio to the others.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core against one core; read when NumPy is imported

import machine
import numpy as np

import mrl_db
from mrl_db import kernels

DIMS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072)
L2_BYTES = 512 << 10  # half of a second-level cache of 1 MiB
DRAM_BYTES = 512 << 20  # sixteen times a last-level cache of 32 MiB


def build_ceilings() -> ctypes.CDLL:
    source = Path(__file__).with_name("ceilings.cpp")
    library = Path(tempfile.mkdtemp()) / "ceilings.so"
    flags = ["-O3", "-mavx512f", "-mavx512vnni", "-mfma", "-shared", "-fPIC"]
    subprocess.run(["c++", *flags, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.read_all.argtypes = loaded.read_all_plain.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    loaded.read_all.restype = loaded.read_all_plain.restype = loaded.fma_only.restype = (
        ctypes.c_float
    )
    loaded.fma_only.argtypes = loaded.vpdpbusd_only.argtypes = [ctypes.c_size_t]
    return loaded


def seconds(call, at_least: float) -> float:
    """Time of one call, the best of a few batches that last long enough to be measured."""
    call()
    began = time.perf_counter()
    call()
    once = max(1e-7, time.perf_counter() - began)
    repeats = max(1, int(at_least / 3 / once))
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, (time.perf_counter() - began) / repeats)
    return best


def aligned(values):
    """Copies an array to a page boundary: where a library that cares about speed would keep it, ours and theirs alike."""
    memory = np.empty(values.nbytes + 4096, dtype=np.uint8)
    start = -memory.ctypes.data % 4096
    placed = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    placed[...] = values
    return placed


def float_systems(kernel: str, query, rows):
    import numkong as nk

    query2 = query[np.newaxis]
    out = np.empty(len(rows), dtype=np.float32)
    if kernel == "inner_product":
        return {
            "mrl_db": lambda: kernels.inner_product(query, rows),
            "numpy": lambda: np.dot(rows, query, out=out),
            "numkong": lambda: nk.cdist(query2, rows, "dot"),
            "numkong_packed": packed(nk.dots_packed, nk.dots_pack, query2, rows),
        }
    if kernel == "squared_l2":
        return {
            "mrl_db": lambda: kernels.squared_l2(query, rows),
            "numpy": lambda: np.square(rows - query).sum(axis=1),
            "numkong": lambda: nk.cdist(query2, rows, "sqeuclidean"),
        }
    norm = np.linalg.norm(query)
    return {
        "mrl_db": lambda: kernels.cosine_distance(query, rows),
        "numpy": lambda: 1 - (rows @ query) / (norm * np.sqrt(np.einsum("ij,ij->i", rows, rows))),
        "numkong": lambda: nk.cdist(query2, rows, "angular"),
    }


def packed(score, pack, query, rows):
    """numkong's kernels over rows that it laid out anew beforehand: laying out is not timed."""
    laid_out = pack(rows)
    return lambda: score(query, laid_out)


def code_systems(kernel: str, query, rows):
    import numkong as nk

    query2 = query[np.newaxis]
    if kernel == "inner_product_int8":
        wide = query.astype(np.int32)
        return {
            "mrl_db": lambda: kernels.inner_product_int8(query, rows),
            "numpy": lambda: rows.astype(np.int32) @ wide,
            "numkong": lambda: nk.cdist(query2, rows, "dot"),
            "numkong_packed": packed(nk.dots_packed, nk.dots_pack, query2, rows),
        }
    if kernel == "hamming":
        return {
            "mrl_db": lambda: kernels.hamming(query, rows),
            "numpy": lambda: np.bitwise_count(rows ^ query).sum(axis=1, dtype=np.int32),
            "numkong_packed": packed(nk.hammings_packed, nk.hammings_pack, query2, rows),
        }
    return {
        "mrl_db": lambda: kernels.inner_product_bit(query, rows),
        "numpy": lambda: np.bitwise_count(rows & query).sum(axis=1, dtype=np.int32),
    }


def memory_of(total: int) -> dict[str, np.ndarray]:
    """One block of random values for each dtype, cut into rows of any width afterwards."""
    rng = np.random.default_rng(1)
    codes = aligned(rng.integers(-127, 128, total, dtype=np.int8))
    floats = aligned(
        np.resize(rng.standard_normal(min(total // 4, 1 << 22), dtype=np.float32), total // 4)
    )
    return {"float32": floats, "int8": codes, "uint8": codes.view(np.uint8)}


def systems_of(kernel: str, dims: int, memory: dict[str, np.ndarray], rivals: bool):
    """Returns (systems, rows, bytes of a row) after checking that all give the same answers; NumPy's, on the first rows, always."""
    rng = np.random.default_rng(dims)
    if kernel in ("inner_product", "squared_l2", "cosine_distance"):
        dtype, width, make = "float32", dims, float_systems
        query = rng.standard_normal(dims, dtype=np.float32)
    elif kernel == "inner_product_int8":
        dtype, width, make = "int8", dims, code_systems
        query = rng.integers(-127, 128, dims, dtype=np.int8)
    else:
        dtype, width, make = "uint8", dims // 8, code_systems
        query = rng.integers(0, 256, width, dtype=np.uint8)
    values = memory[dtype]
    n = len(values) // width
    rows = values[: n * width].reshape(n, width)
    few = make(kernel, query, rows[:1000])
    compare(np.asarray(few["mrl_db"]()), np.asarray(few["numpy"]()), "numpy")
    if not rivals:
        systems = {"mrl_db": lambda: getattr(kernels, kernel)(query, rows)}
        if kernel == "inner_product":
            systems["numpy"] = lambda: rows @ query
        return systems, n, width * values.itemsize
    systems = make(kernel, query, rows)
    want = np.asarray(systems["mrl_db"]())
    for name, call in systems.items():
        compare(want, np.asarray(call()), name)
    return systems, n, width * values.itemsize


def compare(want, got, name: str) -> None:
    want, got = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
    np.testing.assert_allclose(
        got, want, rtol=2e-3, atol=2e-3 * max(1.0, np.abs(want).max() * 1e-3), err_msg=name
    )


def run(place: str, dims_list, rounds: int, at_least: float, ceilings) -> list[dict[str, object]]:
    rng = np.random.default_rng(1)
    total = L2_BYTES if place == "L2" else DRAM_BYTES
    memory = memory_of(total)
    block = memory["float32"]
    address = block.ctypes.data
    results = []
    for kernel in (
        "inner_product",
        "squared_l2",
        "cosine_distance",
        "inner_product_int8",
        "hamming",
        "inner_product_bit",
    ):
        for dims in dims_list:
            systems, n, width = systems_of(kernel, dims, memory, rivals=place == "L2")
            times: dict[str, list[float]] = {name: [] for name in systems}
            bandwidth, fma, vnni = [], [], []
            for _ in range(rounds):
                if place == "DRAM":
                    reads = (ceilings.read_all, ceilings.read_all_plain)
                    bandwidth.append(
                        max(
                            4 * len(block) / seconds(lambda r=r: r(address, len(block)), at_least)
                            for r in reads
                        )
                    )
                else:
                    fma.append(256 * 20000 / seconds(lambda: ceilings.fma_only(20000), at_least))
                    vnni.append(
                        1024 * 20000 / seconds(lambda: ceilings.vpdpbusd_only(20000), at_least)
                    )
                for name in rng.permutation(list(systems)):
                    times[name].append(seconds(systems[name], at_least))
            ours = np.array(times["mrl_db"])
            entry: dict[str, object] = {
                "place": place,
                "kernel": kernel,
                "dims": dims,
                "rows": n,
                "bytes_per_row": width,
            }
            entry["ns_per_row"] = float(np.median(ours) / n * 1e9)
            if place == "DRAM":
                share = n * width / ours / np.array(bandwidth)
                entry["share_of_bandwidth"] = [float(q) for q in np.percentile(share, (25, 50, 75))]
                entry["read_gb_per_s"] = float(np.median(bandwidth) / 1e9)
            elif kernel in ("inner_product", "squared_l2", "cosine_distance"):
                work = n * dims * (2 if kernel == "cosine_distance" else 1)
                entry["share_of_fma"] = float(np.median(work / ours / np.array(fma)))
            elif kernel == "inner_product_int8":
                entry["share_of_vpdpbusd"] = float(np.median(n * dims / ours / np.array(vnni)))
            for name in systems:
                if name != "mrl_db":
                    entry[f"speed_over_{name}"] = [
                        float(q) for q in np.percentile(np.array(times[name]) / ours, (25, 50, 75))
                    ]
            results.append(entry)
            shown = {
                key: np.round(value, 3).tolist()
                for key, value in entry.items()
                if key.startswith(("share", "speed", "ns", "read"))
            }
            print(f"{place:4s} {kernel:18s} {dims:5d}  {shown}", flush=True)
    return results


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--place", choices=("L2", "DRAM"), help="one of the two only")
    options = parser.parse_args()
    dims_list = (64, 384, 1536) if options.quick else DIMS
    ceilings = build_ceilings()
    results = []
    for place in ("L2", "DRAM"):
        if options.place in (None, place):
            results += run(
                place,
                dims_list,
                3 if options.quick else (7 if place == "L2" else 5),
                0.01 if place == "L2" else 0.05,
                ceilings,
            )
    if options.name:
        print(
            machine.save(
                options.name,
                {**machine.describe("numkong"), "simd": mrl_db.simd(), "results": results},
            )
        )


if __name__ == "__main__":
    main()
