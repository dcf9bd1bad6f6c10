"""Prints a record of bench_kernels.py as a table: python benchmarks/show_kernels.py [record/MACHINE/kernels.json]."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path


def main(path: Path) -> None:
    record = json.loads(path.read_text())
    rows: dict[tuple[str, str], dict[int, dict]] = defaultdict(dict)
    for entry in record["results"]:
        rows[entry["place"], entry["kernel"]][entry["dims"]] = entry
    dims = sorted({entry["dims"] for entry in record["results"]})
    print(f"{record['cpu']}, commit {record['commit']}, {record['simd']}")
    print(f"{'':45s}" + "".join(f"{width:>7d}" for width in dims))
    for (place, kernel), found in rows.items():
        for figure in next(iter(found.values())):
            if figure.startswith(("ns", "share", "speed")):
                values = [found[width].get(figure) for width in dims if width in found]
                shown = [value[1] if isinstance(value, list) else value for value in values]
                print(
                    f"{place:5s}{kernel:19s}{figure:21s}"
                    + "".join("      -" if v is None else f"{v:7.2f}" for v in shown)
                )


if __name__ == "__main__":
    main(
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(__file__).parent / "record" / "kernels.json"
    )
