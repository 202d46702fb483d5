"""From what a person types to the list of picture files: files, folders and glob patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from frostbox.errors import NotFoundError, SettingsError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The pictures behind files, folders (their pictures, by name) and patterns, each once.

    Raises:
        NotFoundError: an input that does not exist, or holds no picture.
    """
    found: dict[Path, None] = {}
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not pictures:
                raise NotFoundError(
                    f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}): give a folder of "
                    "photos"
                )
        elif path.exists():
            pictures = [path]
        else:
            pictures = [Path(p) for p in sorted(glob.glob(str(entry), recursive=True))]
            pictures = [p for p in pictures if p.is_file()]
            if not pictures:
                raise NotFoundError(f"{entry} does not exist: give photos, folders or a pattern")
        found.update(dict.fromkeys(pictures))
    return list(found)


def check_targets(inputs: Sequence[Path], targets: Sequence[Path]) -> None:
    """Raise SettingsError when writing `targets` would overwrite one of the inputs."""
    originals = {path.resolve() for path in inputs}
    for target in targets:
        if target.resolve() in originals:
            raise SettingsError(
                f"{target} is one of the photos and would be overwritten: give another folder with "
                "--out"
            )


def check_new_folder(out: Path, outside: Path | None, how: str) -> None:
    """Raise SettingsError unless `out` is a new or empty folder, not inside the folder `outside`.

    `how` says where another one is to be given, such as "with --out".
    """
    root = outside.resolve() if outside is not None else None
    if root is not None and out.resolve().is_relative_to(root):
        raise SettingsError(f"{out} lies in the data set: give a folder outside {root} {how}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out} is not an empty folder: give another one {how}")


def check_not_folders(*targets: str | Path | None) -> None:
    """Raise SettingsError, before any work, for a file to be written that cannot be."""
    for target in targets:
        if target is None:
            continue
        path = Path(target)
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: give the name of a file")
        if not path.parent.is_dir():
            raise SettingsError(f"{path.parent} does not exist: make the folder first")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name ending in .jpg for each picture; equal stems get a number."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = f"{path.stem}.jpg", 2
        while name in taken:
            name, number = f"{path.stem}-{number}.jpg", number + 1
        taken.add(name)
        names.append(name)
    return names
