"""Data sets by name: a copy that is there is found, else it is downloaded from its own site."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from frostbox.data.coco_layout import find_files
from frostbox.data.download import Archive, fetch, unpack
from frostbox.data.home import data_home
from frostbox.data.voc_layout import is_voc, splits
from frostbox.errors import DataError
from frostbox.progress import Progress

logger = logging.getLogger("frostbox")

_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/"  # as torchvision has it, with its MD5 sums
_MB = 1_000_000
_COCO = "http://images.cocodataset.org/"


@dataclass(frozen=True)
class Named:
    """A data set that is known by name.

    Attributes:
        folder: its folder below a place where data sets lie.
        archives: what to download. below: folder in `folder` that each is unpacked into.
    """

    folder: str
    archives: tuple[Archive, ...]
    below: str = ""


SETS: Mapping[str, Named] = {
    "voc2007": Named(
        "VOCdevkit/VOC2007",
        (
            Archive(
                f"{_VOC}voc2007/VOCtrainval_06-Nov-2007.tar",
                "c52e279531787c972589f7e41ab4ae64", 460_032_000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            Archive(
                f"{_VOC}voc2007/VOCtest_06-Nov-2007.tar",
                "b6e924de25625d8de591ea690078ad9f", 451_020_800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
    ),
    "voc2012": Named(
        "VOCdevkit/VOC2012",
        (
            Archive(
                f"{_VOC}voc2012/VOCtrainval_11-May-2012.tar",
                "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
    ),
    "coco2017": Named(
        "coco2017",
        (
            Archive(
                f"{_COCO}annotations/annotations_trainval2017.zip",
                "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541,
                "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            ),
            Archive(
                f"{_COCO}zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330,
                "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            ),
            Archive(
                f"{_COCO}zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798,
                "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            ),
        ),
        below="coco2017",
    ),
}  # fmt: skip
NAMES = (*SETS, "voc2007+2012")


def is_name(text: str) -> bool:
    """Whether a text is the name of a data set."""
    return text.lower() in NAMES


def locate(name: str) -> list[Path]:
    """The folders of a data set's parts, downloaded where no copy is found.

    Raises:
        NotFoundError, DataError: a download that fails, see `download.fetch`.
    """
    parts = ["voc2007", "voc2012"] if "+" in name else [name.lower()]
    return [_find(part) or _download(part, data_home()) for part in parts]


def kept_in(name: str, home: Path) -> Path:
    """The folder of a data set below `home`, downloaded into it where it is not there yet.

    Raises:
        NotFoundError, DataError: a download that fails, see `download.fetch`.
    """
    folder = home / SETS[name].folder
    if not _begun(name, home) and _is_it(name, folder):
        return folder
    return _download(name, home)


def places() -> list[Path]:
    """Where copies are looked for: VOCDEVKIT, FROSTBOX_DATA or the user's folder, and here."""
    devkit = os.environ.get("VOCDEVKIT")
    return [*([Path(devkit)] if devkit else []), data_home(), Path(".")]


def _find(name: str) -> Path | None:
    known = SETS[name]
    begun = _begun(name, data_home())
    tails = [known.folder, Path(known.folder).name, "coco", "COCO"]
    for place in places():
        for tail in tails:
            folder = place / tail
            if begun and place == data_home():  # a download that was cut off goes on
                continue
            if folder.is_dir() and _is_it(name, folder):
                logger.warning("%s: found in %s", name, folder)
                return folder
    return None


def _begun(name: str, home: Path) -> bool:
    """Whether some of its archives were unpacked there, and not all."""
    done = [_mark(home, archive).is_file() for archive in SETS[name].archives]
    return any(done) and not all(done)


def _is_it(name: str, folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if name.startswith("voc"):
        return folder.name.lower() == name and is_voc(folder) and bool(splits(folder))
    files = find_files(folder).values()
    return any(path.stem.endswith("2017") and path.stem.startswith("instances") for path in files)


def _download(name: str, home: Path) -> Path:
    known = SETS[name]
    size = sum(archive.nbytes for archive in known.archives) / 1e9
    logger.warning("%s: no copy found; downloading %.1f GB into %s", name, size, home)
    if not (home / known.folder).is_dir():
        for archive in known.archives:  # what was unpacked has been removed
            _mark(home, archive).unlink(missing_ok=True)
    progress = Progress()
    try:
        for archive in known.archives:
            _fetch_part(archive, home, known, progress)
    finally:
        progress.stop()
    folder = home / known.folder
    if not _is_it(name, folder):
        raise DataError(f"{folder} does not hold {name} after its archives were unpacked there.")
    return folder


def _fetch_part(archive: Archive, home: Path, known: Named, progress: Progress) -> None:
    """Fetch and unpack one archive, unless that was done; the archive is then removed."""
    done = _mark(home, archive)
    if done.is_file():
        return
    progress.start(f"downloading {archive.name}", archive.nbytes // _MB, "MB")
    path = fetch(archive, home / "downloads", lambda done: progress.update(done // _MB))
    progress.stop()
    unpack(path, home / known.below)
    done.write_text(archive.md5 + "\n")
    path.unlink()


def _mark(home: Path, archive: Archive) -> Path:
    """The file that says that an archive was unpacked."""
    return home / "downloads" / f"{archive.name}.done"
