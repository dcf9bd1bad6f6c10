"""How many instructions each kernel takes for a row on 64-bit ARM, NEON against scalar.

python benchmarks/count_kernels.py --name kernels_arm

No clock: qemu counts (count_instructions.c), so the figures are the same on every machine. Each
kernel runs ten and twenty times over its rows; the difference is what the kernel takes. The scalar
twin is counted twice: as it stands, and as the compiler makes NEON of it by itself. Needs qemu-user
and g++-aarch64-linux-gnu.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "csrc"
SETS = {"scalar": (), "neon": (), "neon_dotprod": ("-march=armv8.2-a+dotprod",)}
PLAIN = ("-fno-tree-vectorize",)
FLAGS = ("-O3", "-std=c++20", "-ffp-contract=off", "-fno-math-errno")  # as CMakeLists.txt has them
TIMES = 10


def build(folder: Path, *scalar: str) -> Path:
    """Returns the program for ARM, its scalar kernels compiled with these flags too."""

    def compiled(source: Path, *flags: str) -> Path:
        result = folder / f"{source.parent.name}_{source.stem}.o"
        options = [*FLAGS, f"-I{SOURCES}", *flags, "-c", str(source), "-o", str(result)]
        subprocess.run(["aarch64-linux-gnu-g++", *options], check=True)
        return result

    listed = " ".join(f"SET({name})" for name in SETS)
    flags = {**SETS, "scalar": scalar}
    objects = [compiled(SOURCES / "kernels" / f"{name}.cpp", *flags[name]) for name in SETS]
    objects.append(
        compiled(SOURCES / "kernels" / "dispatch.cpp", f"-DMRL_INSTRUCTION_SETS={listed}")
    )
    objects.append(compiled(SOURCES / "system" / "cpu.cpp"))
    objects.append(compiled(HERE / "count_kernels.cpp"))
    program = folder / ("plain" if scalar else "vectorised")
    subprocess.run(["aarch64-linux-gnu-g++", "-static", *objects, "-o", program], check=True)
    return program


def main() -> None:
    options = machine.arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain, vectorised = build(folder, *PLAIN), build(folder)
        plugin, log = folder / "count.so", folder / "log"
        source = HERE / "count_instructions.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", source, "-o", plugin], check=True)

        def count(program: Path, name: str, kernel: str, times: int) -> int:
            command = ["qemu-aarch64", "-plugin", plugin, "-d", "plugin", "-D", log]
            subprocess.run([*command, program, name, kernel, str(times)], check=True)
            return int(log.read_text())

        programs = {
            "scalar": (plain, "scalar"),
            "scalar, vectorised": (vectorised, "scalar"),
            "neon": (vectorised, "neon"),
            "neon_dotprod": (vectorised, "neon_dotprod"),
        }
        kernels: dict[str, dict[str, object]] = {}
        for line in subprocess.check_output(["qemu-aarch64", plain], text=True).splitlines():
            kernel, shape, rows = line.split("\t")
            taken = {
                name: (count(*program, kernel, 2 * TIMES) - count(*program, kernel, TIMES))
                / (TIMES * int(rows))
                for name, program in programs.items()
            }
            over = {
                name: round(taken[name] / taken["scalar"], 3) for name in ("neon", "neon_dotprod")
            }
            counts = {name: round(value, 2) for name, value in taken.items()}
            kernels[kernel] = {"of": shape, **counts, "over scalar": over}
            print(kernel, kernels[kernel], flush=True)
    if options.name:
        compiler = subprocess.check_output(["aarch64-linux-gnu-g++", "--version"], text=True)
        qemu = subprocess.check_output(["qemu-aarch64", "--version"], text=True)
        about = {"compiler": compiler.splitlines()[0], "qemu": qemu.splitlines()[0]}
        machine.save(options.name, {**machine.describe(), **about, "kernels": kernels})


if __name__ == "__main__":
    main()
