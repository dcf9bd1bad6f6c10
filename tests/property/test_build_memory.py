"""What a build takes while it runs, in a process of its own: the system counts the most that it had."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = """
import ctypes

import numpy as np
from mrl_db import _kernels
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection

ROWS, DIMS, THREADS = 60_000, 32, 2

def had(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

random = np.random.default_rng(1)
sample = random.standard_normal((SAMPLE_ROWS, DIMS)).astype(np.float32)
projection = fit_projection(sample)
vectors = random.standard_normal((ROWS, DIMS), dtype=np.float32)
keys = np.arange(ROWS, dtype=np.int64).view(np.uint8).reshape(ROWS, 8)
getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # what was freed is not taken again
before = had("VmRSS")
index = _kernels.Index(_kernels.Metric.cosine, DIMS, _kernels.KeyType.int64, True)
index.reserve(ROWS)
index.append(keys, vectors, THREADS)
index.set_projection(*projection)
index.build("fast", THREADS, None)
made = index.bytes  # the vectors, too
print(had("VmHWM") - before, made + _kernels.BUILD_ROW_BYTES * ROWS + THREADS * 5 * 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_a_build_takes_what_is_documented():
    """Within a tenth: docs/native.md, `mrl_db.engines.native.memory`."""
    printed = subprocess.run(
        [sys.executable, "-c", BUILD], capture_output=True, text=True, check=True
    ).stdout
    most, documented = map(int, printed.split())
    assert most == pytest.approx(documented, rel=0.1)
