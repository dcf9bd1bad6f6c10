"""The twin of csrc/kernels: each instruction set, what it is built on, and what it needs of the CPU.

As Linux names that (/proc/cpuinfo). In the order of the build: the best last.
"""

from __future__ import annotations

# By machine: of each set its base, and what it needs beside it.
SETS: dict[str, dict[str, tuple[str | None, set[str]]]] = {
    "x86_64": {
        "avx2": (None, {"avx2", "fma", "f16c", "popcnt"}),
        "avx2_vnni": ("avx2", {"avx_vnni"}),
        "avx512": ("avx2", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
        "avx512_vnni": ("avx512", {"avx512_vnni"}),
        "avx512_icelake": ("avx512_vnni", {"avx512_vpopcntdq"}),
    },
    "aarch64": {"neon": (None, {"asimd"}), "neon_dotprod": ("neon", {"asimddp"})},
}


def needs(machine: str, name: str) -> set[str]:
    """Returns all that a set needs."""
    base, added = SETS[machine][name]
    return added if base is None else added | needs(machine, base)


def running(machine: str, features: set[str]) -> list[str]:
    """Returns the sets that run on a CPU with these features, the best last."""
    sets = SETS.get(machine, {})
    return ["scalar", *(name for name in sets if needs(machine, name) <= features)]
