"""Photos named by other people's files: found below the data folder, never outside of it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from frostbox.data.annotations import DetectionSet
from frostbox.data.voc_layout import PHOTO_SUFFIXES
from frostbox.errors import DataError

logger = logging.getLogger("frostbox")

_SHOWN = 3

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


def repeated(keys: Iterable[tuple[str, Path | str]]) -> list[tuple[int, int]]:
    """Where an id or a photo stands again: the first place, and this one."""
    first: dict[Path | str, int] = {}
    found = []
    for k, (image_id, photo) in enumerate(keys):
        before = min(first.setdefault(image_id, k), first.setdefault(photo, k))
        if before < k:
            found.append((before, k))
    return found


def report_missing(dataset: DetectionSet, require: bool, folder: Path | None = None) -> None:
    """Say, once, which photos a split names and the folder lacks.

    Args:
        require: whether a split without any photo is an error. folder: where photos belong.

    Raises:
        DataError: no photo at all where one is required.
    """
    missing = dataset.missing_photos
    if not missing:
        return
    if len(missing) == len(dataset) and require:
        raise DataError(
            f"{folder or dataset.root} holds none of the {len(missing)} photos that the list "
            f"{dataset.split!r} names (the first is {missing[0]}); put the photos there."
        )
    unique = list(dict.fromkeys(missing))
    more = f" and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else ""
    logger.warning(
        "%s of the %s photos of %s %s are missing and skipped: %s",
        len(missing), len(dataset), dataset.name, dataset.split, ", ".join(unique[:_SHOWN]) + more,
    )  # fmt: skip


class Fence:
    """Folders that paths must really lie in, links followed."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._real = [os.path.realpath(folder) for folder in folders]
        self._known: dict[str, bool] = {}

    def holds(self, path: Path) -> bool:
        """Whether a file lies inside; folders are looked at once."""
        if os.path.islink(path):
            return self._within(os.path.realpath(path))
        return self.holds_folder(path.parent)

    def holds_folder(self, folder: Path) -> bool:
        """Whether a folder lies inside."""
        key = str(folder)
        if key not in self._known:
            self._known[key] = self._within(os.path.realpath(folder))
        return self._known[key]

    def _within(self, real: str) -> bool:
        return any(real == one or real.startswith(os.path.join(one, "")) for one in self._real)


def photos_below(folder: Path, fence: Fence) -> tuple[list[Path], list[Path]]:
    """All pictures in a folder and its subfolders, by name; what begins with a dot is left out.

    Links to folders are followed after all else, each folder once: so they cannot go in circles.

    Returns:
        The pictures, and the links that lead out of `fence`, which are not followed.
    """
    found: list[Path] = []
    left_out: list[Path] = []
    folders, links = [folder], list[Path]()
    seen: set[str] = set()
    while folders or links:
        where = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(where)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(where) as entries:
            shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        for entry in shown:
            path, is_folder = Path(entry.path), entry.is_dir()
            if not is_folder and not entry.name.lower().endswith(PHOTO_SUFFIXES):
                continue
            if entry.is_symlink() and not (fence.holds_folder if is_folder else fence.holds)(path):
                left_out.append(path)
            elif is_folder:
                (links if entry.is_symlink() else folders).append(path)
            else:
                found.append(path)
    return sorted(found), sorted(left_out)


def _suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1]
    return suffix if suffix.lower() in (*PHOTO_SUFFIXES, ".jpe") else ""
