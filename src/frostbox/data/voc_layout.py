"""The folders of a data set in Pascal VOC layout: where it lies, its lists, its photos.

    VOC2012/Annotations/ID.xml
    VOC2012/ImageSets/Main/SPLIT.txt      one id a line
    VOC2012/JPEGImages/ID.jpg             optional

What stands inside the XML is the business of `voc.py`.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from frostbox.errors import DataError, NotFoundError
from frostbox.untrusted import is_plain, shown

logger = logging.getLogger("frostbox")

# HEIC is not decoded, and AVIF by some builds of Pillow: found, they are named instead of missed.
PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
)  # fmt: skip
LONGEST_NAME = 500
"""Characters of a class name, which is drawn on pictures and stands in every table."""
_YEAR = re.compile(r"VOC(\d{4})", re.IGNORECASE)


def find_voc(data: str | Path) -> Path:
    """The VOC folder that DATA means: the folder itself, one in its VOCdevkit, or one below it.

    Of several years the newest is taken, with a warning that names them.

    Raises:
        NotFoundError: DATA does not exist, or no folder in VOC layout lies there.
        DataError: several folders in VOC layout lie there and none is named after a year.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise NotFoundError(f"{path} does not exist; give the folder of a data set in VOC layout.")
    if not path.is_dir():
        raise NotFoundError(
            f"{path} is a file; give the folder that holds Annotations and ImageSets."
        )
    if is_voc(path):
        return path
    for parent in (path, path / "VOCdevkit", path / "TrainVal" / "VOCdevkit"):
        found = sorted(child for child in _folders(parent) if is_voc(child))
        if found:
            return _newest(parent, found)
    raise NotFoundError(
        f"{path} holds no data set in VOC layout; expected Annotations/ and ImageSets/Main/ in it, "
        "in its VOCdevkit, or in a folder such as VOC2012 below it."
    )


def splits(root: Path) -> list[str]:
    """Names of the lists in ImageSets/Main, without VOC's per-class lists such as cat_train."""
    folder = root / "ImageSets" / "Main"
    if not folder.is_dir():
        return []
    stems = {path.stem for path in folder.glob("*.txt")}
    return sorted(stem for stem in stems if not _is_class_list(folder, stem, stems))


def read_split(root: Path, split: str, annotated: Mapping[str, str]) -> list[str]:
    """Ids of ImageSets/Main/SPLIT.txt in its order; a trailing -1, 0 or 1 column is dropped.

    Args:
        root: the VOC folder.
        split: name of the list without suffix.
        annotated: what `annotation_paths` returns for `root`.

    Raises:
        NotFoundError: no such list; the message names the lists that exist.
        DataError: a list without ids, with an id twice, or with an id that has no XML.
    """
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    names = splits(root)
    if split not in names:
        known = f"the lists there are {', '.join(names)}" if names else "no list lies there"
        is_class_list = path.is_file()
        what = "is the list of one class, not a split" if is_class_list else "does not exist"
        raise NotFoundError(f"{path} {what}; {known}.")
    lines: dict[str, int] = {}
    for number, image_id in listed_ids(path, annotated):
        if image_id not in annotated:
            raise DataError(
                f"{path}, line {number}: {image_id!r} has no "
                f"{root.name}/Annotations/{image_id}.xml; add the file or remove the line."
            )
        if image_id in lines:
            raise DataError(
                f"{path}, line {number}: {image_id!r} stands in line {lines[image_id]} already; "
                "remove one of the two."
            )
        lines[image_id] = number
    if not lines:
        raise DataError(f"{path} names no image; write one id a line.")
    return list(lines)


def listed_ids(path: Path, annotated: Mapping[str, str]) -> list[tuple[int, str]]:
    """Line number, from 1, and id of every line of a list that is not blank.

    Raises:
        DataError: the file is not UTF-8.
    """
    lines = enumerate(read_text_file(path).splitlines(), start=1)
    return [(k, image_id(line.strip(), annotated)) for k, line in lines if line.strip()]


def annotation_paths(root: Path) -> dict[str, str]:
    """Path of the XML of each id in Annotations; one look at a folder instead of one a file.

    The id of an XML in a folder below, as CVAT writes them, has that folder in front: street/a.
    """
    found: dict[str, str] = {}
    folders = [("", str(root / "Annotations"))]
    while folders:
        front, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(".xml"):
                    found[f"{front}{entry.name[:-4]}"] = entry.path
                elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    folders.append((f"{front}{entry.name}/", entry.path))
    return found


class Photos:
    """The pictures in a folder (JPEGImages); one look at the folder instead of one a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._by_id: dict[str, str] = {}
        self._below: dict[str, Photos] = {}
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            self._names = {entry.name for entry in entries}
        rank = {suffix: k for k, suffix in enumerate(PHOTO_SUFFIXES)}
        found = [(*os.path.splitext(name), name) for name in self._names]
        found = [entry for entry in found if entry[1].lower() in rank]
        # Of a.jpg and a.png the one whose suffix stands first in PHOTO_SUFFIXES stays.
        for stem, _, name in sorted(found, key=lambda e: (-rank[e[1].lower()], e[2])):
            self._by_id[stem] = name

    def by_id(self) -> dict[str, Path]:
        """The photo of each id that has one of its own name."""
        return {image_id: self._folder / name for image_id, name in self._by_id.items()}

    def find(self, image_id: str, filename: str) -> Path | None:
        """The photo of an id: ID with any picture suffix, else the XML's `filename`, else None.

        The id comes first, as in VOC's own development kit: `filename` goes stale when people
        rename their files. That of street/a lies in the folder street, as its XML does.
        """
        below, _, stem = image_id.rpartition("/")
        if below:
            if below not in self._below:
                self._below[below] = Photos(self._folder / below)
            return self._below[below].find(stem, filename.rpartition("/")[2])
        name = self._by_id.get(image_id)
        if name is None and filename in self._names and filename.lower().endswith(PHOTO_SUFFIXES):
            name = filename
        return None if name is None else self._folder / name


def read_names(path: Path) -> tuple[str, ...]:
    """Class names of a classes.txt, one a line.

    Raises:
        DataError: the file has no name in it, a name twice, a long one, or one with a control
            character.
    """
    # `splitlines` would take a control character for the end of a line.
    names = [line.strip(" \t\r") for line in read_text_file(path).split("\n")]
    return check_names([name for name in names if name], str(path))


def check_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names as a tuple. Raises DataError, naming `where`, for one that cannot be, or for none.

    A name that stands twice cannot be, nor one that fills a page, nor one with a control character
    (a tab, an end of line, an escape), which lists, reports and terminals would take for something
    else.
    """
    checked = tuple(names)
    if not checked:
        raise DataError(f"{where} holds no class name; give at least one.")
    odd = next((name for name in checked if not is_plain(name)), None)
    if odd is not None:
        raise DataError(
            f"{where} holds the class name {shown(odd)}, which has a control character; write it "
            "without."
        )
    long = next((name for name in checked if len(name) > LONGEST_NAME), None)
    if long is not None:
        raise DataError(
            f"{where} holds a class name of {len(long):,} characters, {shown(long)}; write at most "
            f"{LONGEST_NAME}."
        )
    twice = sorted(name for name, count in Counter(checked).items() if count > 1)
    if twice:
        raise DataError(f"{where} holds the class name {twice[0]!r} twice; remove one of the two.")
    return checked


def is_voc(folder: Path) -> bool:
    """Whether a folder is in VOC layout."""
    return (folder / "Annotations").is_dir() and (folder / "ImageSets").is_dir()


def _folders(parent: Path) -> list[Path]:
    return [child for child in parent.iterdir() if child.is_dir()] if parent.is_dir() else []


def _newest(parent: Path, found: list[Path]) -> Path:
    years = sorted((f for f in found if _YEAR.fullmatch(f.name)), key=lambda f: f.name.upper())
    names = ", ".join(folder.name for folder in found)
    if not years and len(found) > 1:
        raise DataError(f"{parent} holds several data sets ({names}); give the folder of one.")
    chosen = years[-1] if years else found[0]
    if len(found) > 1:
        logger.warning("%s holds %s; taking %s.", parent, names, chosen.name)
    return chosen


def _is_class_list(folder: Path, stem: str, stems: set[str]) -> bool:
    """Whether the list is CLASS_SPLIT of another list SPLIT and has a second column."""
    if not any(stem.endswith(f"_{other}") for other in stems):
        return False
    with (folder / f"{stem}.txt").open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return len(first.split()) == 2


def image_id(line: str, annotated: Mapping[str, str]) -> str:
    """The id of a list's line; the whole line comes first, because "photo 1" may be an id."""
    if line in annotated:
        return line
    head, _, last = line.replace("\t", " ").rpartition(" ")
    return head.strip() if head.strip() and last in {"-1", "0", "1"} else line


def read_text_file(path: Path) -> str:
    """A file's text. Raises DataError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
