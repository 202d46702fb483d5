"""Photos named by other people's files: found below the data folder, never outside of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from frostbox.data.voc_layout import PHOTO_SUFFIXES

_ABSOLUTE = re.compile(r"/|[A-Za-z]:|\w+://")


class PhotoFinder:
    """Finds photos by the names that a JSON, YAML or list gives them.

    Backslashes count as slashes. A name that leads out of the data folder (absolute, or with "..")
    is never followed: its last parts are looked for inside, because export tools write the paths
    of the machine that they ran on.
    """

    def __init__(self, bases: Iterable[Path]) -> None:
        """`bases`: folders that names may start from, the likeliest first."""
        unique = dict.fromkeys(Path(base) for base in bases)
        self.bases = [base for base in unique if base.is_dir()]
        self._order = [str(base) for base in self.bases]

    def find(self, name: str) -> Path | None:
        """The photo, or None when no base has it."""
        parts = parts_of(name)
        tails = ["/".join(parts)] if parts and not escapes(name) else _tails(parts)
        for tail in tails:
            for k, base in enumerate(self._order):
                path = os.path.join(base, tail)
                if os.path.isfile(path):
                    # The next photo is likely where this one was.
                    self._order.insert(0, self._order.pop(k))
                    return Path(path)
        return None

    def looked_in(self) -> str:
        """The folders, for a message."""
        return ", ".join(map(str, self.bases)) or "no folder"


def parts_of(name: str) -> list[str]:
    """The parts of a path in either system's spelling, without "." and empty ones."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def escapes(name: str) -> bool:
    """Whether a name leads out of the folder that it is relative to, or is absolute."""
    plain = name.replace("\\", "/")
    return _ABSOLUTE.match(plain) is not None or ".." in plain.split("/")


def _tails(parts: list[str]) -> list[str]:
    """Ever shorter ends of a path, from behind its last ".."."""
    last = max((k for k, part in enumerate(parts) if part == ".."), default=-1)
    inside = parts[last + 1 :]
    return ["/".join(inside[k:]) for k in range(len(inside))]


def image_ids(names: Iterable[str]) -> list[str]:
    """An id for each file name: its path without suffix; with it where two would be the same."""
    plain = ["/".join(p for p in parts_of(n) if p != "..") for n in names]
    stems = [name[: -len(s)] if (s := _suffix(name)) else name for name in plain]
    seen: dict[str, int] = {}
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
    return [s if seen[s] == 1 else n for s, n in zip(stems, plain, strict=True)]


def photos_below(folder: Path) -> list[Path]:
    """All pictures in a folder and its subfolders, by name."""
    found = [
        Path(where) / name
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")
    ]
    return sorted(found)


def _suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1]
    return suffix if suffix.lower() in (*PHOTO_SUFFIXES, ".gif", ".jpe") else ""
