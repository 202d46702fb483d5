"""How many branches of each reader the inputs of a run under coverage.py took.

    python -m coverage run --branch --source=src/frostbox --data-file=build/fuzz.coverage \\
        -m tests.fuzz.run --inputs 20000
    python -m tests.fuzz.branches build/fuzz.coverage
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import coverage

from tests.fuzz.readers import READERS


def branches(data: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Branches taken and branches there are, by reader and module."""
    measured = coverage.Coverage(data_file=str(data))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        measured.json_report(outfile=str(path))
        files = json.loads(path.read_text())["files"]
    of = {name.replace("\\", "/").partition("src/frostbox/")[2]: v for name, v in files.items()}
    return {
        reader: {
            module: (
                of[module]["summary"]["covered_branches"], of[module]["summary"]["num_branches"],
            )
            for module in kind.modules
        }
        for reader, kind in READERS.items()
    }  # fmt: skip


def main() -> None:
    """Print a table in Markdown."""
    print("| reader | branches | of them in |\n| --- | ---: | --- |")
    for reader, modules in branches(Path(sys.argv[1])).items():
        taken, there = (sum(column) for column in zip(*modules.values(), strict=True))
        parts = ", ".join(f"{name} {a}/{b}" for name, (a, b) in modules.items())
        print(f"| {reader} | {taken / there:.0%} | {parts} |")


if __name__ == "__main__":
    main()
