"""From what a person types to pictures, videos and cameras; checks of where output may go."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frostbox.errors import NotFoundError, SettingsError
from frostbox.fetch import VIDEO, Remote, from_stdin, is_url, url_name

SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".avif", ".heic",
    ".heif",
}  # fmt: skip
"""Of pictures, those of data sets among them. HEIC is refused by name, not passed over."""
VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts",
    ".mts", ".m2ts", ".3gp", ".ogv",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """What `predict` was given: pictures, videos, and cameras by number; each once."""

    pictures: list[Path | Remote]
    videos: list[Path | Remote]
    cameras: list[int]

    def __len__(self) -> int:
        return len(self.pictures) + len(self.videos) + len(self.cameras)


def find_inputs(inputs: Sequence[str | Path], scratch: Path) -> Inputs:
    """The pictures and videos behind files, folders (by name), patterns, URLs, - and numbers.

    A file or URL is a video by its suffix. "-" is one picture through stdin. A number that is no
    file is a camera.

    Args:
        scratch: folder for what is fetched, and for what comes through stdin.

    Raises:
        NotFoundError: an input that does not exist, or holds no picture and no video.
        SettingsError, DataError: stdin has no picture.
    """
    found: dict[str, Path | Remote] = {}
    cameras: dict[int, None] = {}
    for number, entry in enumerate(dict.fromkeys(map(str, inputs))):
        path, room = Path(entry), scratch / str(number)
        if entry == "-":
            found[entry] = from_stdin(room / "stdin.jpg")
        elif is_url(entry):
            found[entry] = _remote(entry, room)
        elif entry.isdecimal() and not path.exists():
            cameras[int(entry)] = None
        else:
            found.update((str(p), p) for p in _files(entry))
    sources = list(found.values())
    return Inputs(
        [source for source in sources if not is_video(source)],
        [source for source in sources if is_video(source)],
        list(cameras),
    )


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The pictures behind files, folders (by name) and patterns, each once.

    Raises:
        NotFoundError: an input that does not exist, or holds no picture.
    """
    files = list(dict.fromkeys(path for entry in inputs for path in _files(str(entry))))
    pictures = [path for path in files if not is_video(path)]
    if not pictures:
        raise NotFoundError(f"{', '.join(map(str, inputs))}: no picture there, give photos")
    return pictures


def is_video(source: Path | Remote) -> bool:
    """Whether a file, or what a URL names, is a video: by its suffix."""
    path = source.path if isinstance(source, Remote) else source
    return path.suffix.lower() in VIDEO_SUFFIXES


def _remote(url: str, room: Path) -> Remote:
    name = url_name(url) or "picture"
    suffix = Path(name).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Remote(url, room / name, VIDEO)
    return Remote(url, room / (name if suffix in SUFFIXES else f"{name}.jpg"))


def _files(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        known = SUFFIXES | VIDEO_SUFFIXES
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in known)
        if not files:
            raise NotFoundError(
                f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}) and no video: give a "
                "folder of photos"
            )
        return files
    if path.exists():
        return [path]
    files = [Path(p) for p in sorted(glob.glob(entry, recursive=True)) if Path(p).is_file()]
    if not files:
        raise NotFoundError(
            f"{entry} does not exist: give photos, videos, folders, a pattern, an address that "
            "begins with http, - for stdin, or the number of a camera"
        )
    return files


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
    check_empty(out, how)


def check_empty(out: Path, how: str) -> None:
    """Raise SettingsError unless `out` is a new or empty folder; `how` as of check_new_folder."""
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


def unique_names(stems: Sequence[str], suffix: str) -> list[str]:
    """A file name for each stem, with the suffix; equal stems get a number."""
    taken: set[str] = set()
    names = []
    for stem in stems:
        name, number = f"{stem}{suffix}", 2
        while name in taken:
            name, number = f"{stem}-{number}{suffix}", number + 1
        taken.add(name)
        names.append(name)
    return names
