"""Installs each wheel of a folder in a fresh environment and looks whether it is whole there.

    python tests/packaging/wheels.py FOLDER PYTHON...

For each interpreter its wheel for this machine: the demo runs to its end, `doctor` finds nothing,
and `available_simd()` names all that the CPU has, by what Linux says of it.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

FEATURES = {  # in the words of /proc/cpuinfo
    "scalar": "",
    "avx2": "avx2 fma f16c popcnt",
    "avx2_vnni": "avx2 fma f16c popcnt avx_vnni",
    "avx512": "avx2 fma f16c popcnt avx512f avx512bw avx512vl avx512dq",
    "avx512_vnni": "avx512f avx512bw avx512vl avx512dq avx512_vnni",
    "avx512_icelake": "avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_vpopcntdq",
    "neon": "asimd",
    "neon_dotprod": "asimd asimddp",
}


def sets_of_this_cpu() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features"))).split()
    ours = "neon" if platform.machine() == "aarch64" else "avx"
    return [
        name
        for name, needed in FEATURES.items()
        if (name == "scalar" or name.startswith(ours)) and set(needed.split()) <= set(flags)
    ]


def check(wheel: Path, interpreter: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        subprocess.run([interpreter, "-m", "venv", work / "venv"], check=True)
        programs = work / "venv" / "bin"
        requirement = f"{wheel}[embedded]"
        subprocess.run([programs / "pip", "install", "-q", requirement], check=True)
        code = "import mrl_db; print(*mrl_db.available_simd())"
        simd = subprocess.check_output([programs / "python", "-c", code], cwd=work, text=True)
        assert simd.split() == sets_of_this_cpu(), (simd.split(), sets_of_this_cpu())
        for command in ("demo", "doctor"):
            subprocess.run(
                [programs / "mrl-db", command, "--home", work / "home"], check=True, cwd=work
            )


def main() -> None:
    folder, *interpreters = sys.argv[1:]
    for interpreter in interpreters:
        code = "import sys; print('cp%d%d' % sys.version_info[:2])"
        tag = subprocess.check_output([interpreter, "-c", code], text=True).strip()
        (wheel,) = Path(folder).resolve().glob(f"*-{tag}-{tag}-*_{platform.machine()}.whl")
        check(wheel, interpreter)
        print(f"{wheel.name}: whole", flush=True)


if __name__ == "__main__":
    main()
