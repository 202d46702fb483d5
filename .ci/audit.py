"""Known faults of the pinned packages, by pip-audit.

Where its database cannot be reached, or knows none of the packages (as behind a mirror), every
pinned version must stand in reviewed.txt: somebody has looked at its advisories by hand, on the
day that is given there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PINS = HERE.parent / "constraints.txt"
REVIEWED = HERE / "reviewed.txt"


def pins(path: Path) -> set[str]:
    """The lines NAME==VERSION of a file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line.lower().replace("_", "-") for line in lines if line}


def audited() -> tuple[int, list[str]] | None:
    """How many packages the database knows, and their faults; None where it is out of reach."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps",
               "--disable-pip", "--format", "json", "--progress-spinner", "off"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    known = [entry for entry in found if "vulns" in entry]
    faults = [
        f"{entry['name']} {entry['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for entry in known
        for fault in entry["vulns"]
    ]
    return len(known), faults


def main() -> str | None:
    """What is wrong, or None."""
    wanted = pins(PINS)
    live = audited()
    if live is not None and live[1]:
        return "\n".join(["known faults of pinned packages:", *live[1]])
    if live is not None and live[0] >= 0.9 * len(wanted):
        print(f"{live[0]} of {len(wanted)} pinned packages audited: no known fault")
        return None
    day = REVIEWED.read_text().splitlines()[0].lstrip("# ").partition(",")[0]
    print(f"the database of faults is out of reach; {REVIEWED.name}: {day}")
    missing = sorted(wanted - pins(REVIEWED))
    if missing:
        return (
            f"not looked at: {', '.join(missing)}; read their advisories, then add the lines to "
            f"{REVIEWED.name} with the day"
        )
    print(f"all {len(wanted)} pinned versions were looked at then")
    return None


if __name__ == "__main__":
    sys.exit(main())
