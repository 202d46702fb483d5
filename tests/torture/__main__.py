"""`make torture`: kill every long command at random moments, and write what came of it.

python -m tests.torture [--kills 30] [--seed 0] [--only NAME ...] [--write]
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from frostbox._version import __version__
from tests.torture.kills import HEAD, Report, torture
from tests.torture.serving import torture_serve
from tests.torture.works import works

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- make torture begins -->", "<!-- make torture ends -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="commands by name")
    parser.add_argument("--write", action="store_true", help=f"the table into {PAGE.name}")
    given = parser.parse_args()
    reports: list[Report] = []
    with tempfile.TemporaryDirectory(prefix="frostbox-torture-") as scratch:
        folder = Path(scratch)
        known = works(folder / "data")
        for name in given.only if given.only is not None else [*known, "serve"]:
            started = time.monotonic()
            place = folder / name.replace(" ", "_")
            if name == "serve":
                report = torture_serve(given.kills, place, given.seed)
            else:
                report = torture(known[name], given.kills, place, given.seed)
            reports.append(report)
            print(f"{report.row()}  {time.monotonic() - started:.0f} s", flush=True)
            for text in (*report.refused, *report.differing):
                print(f"  {text}", flush=True)
            if given.write:
                write(reports, given.seed)
    sys.exit(any(report.refused or report.differing for report in reports))


def write(reports: list[Report], seed: int) -> None:
    """Put the table into the page, row by row as it comes."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    when = datetime.date.today().isoformat()
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    table = "\n".join([HEAD, *(report.row() for report in reports)])
    said = f"frostbox {__version__}, {when}, {machine}, seed {seed}:\n\n{table}"
    PAGE.write_text(f"{before}{BEGIN}\n{said}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
