"""How much memory there is, and how much of it this process holds."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def physical_bytes() -> int:
    """Memory of the machine, or of the container that this runs in; 0 if the system keeps still."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([whole, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(own: Path, groups: Path) -> Iterator[int]:
    """What Linux's control groups allow this process, in bytes: its own, and those around it.

    Args:
        own: lines NUMBER:CONTROLLERS:PATH; version 2 has one without controllers (man cgroups).
        groups: where the groups are mounted.
    """
    lines = own.read_text().splitlines() if own.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "":
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        below = PurePosixPath(path.strip("/"))
        for folder in (below, *below.parents):
            limit = root / folder / name
            allowed = limit.read_text().strip() if limit.exists() else "max"
            if allowed.isdecimal():
                yield int(allowed)


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not tell, its peak so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process has held so far; 0 where the system does not tell."""
    if importlib.util.find_spec("resource") is None:
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
