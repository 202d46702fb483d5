"""What lies in a data set in YOLO's layout: the photos of a split, their ids, their label files.

All of it stays below the folders that the data set names: a link that leads out of them is not
followed. How such a data set is recognised is the business of `yolo_find.py`, what stands inside
the label files that of `yolo.py`.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from frostbox.data.box_check import some
from frostbox.data.faults import gathered, is_gathering
from frostbox.data.photo_names import Fence, PhotoFinder, escapes, image_ids, parts_of, photos_below
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc_layout import PHOTO_SUFFIXES, read_text_file
from frostbox.errors import DataError, NotFoundError

logger = logging.getLogger("frostbox")

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
CVAT_FOLDER = re.compile(r"obj_(\w+)_data")


@dataclass(frozen=True)
class YoloFolder:
    """A data set in YOLO's layout.

    Attributes:
        root: the folder of the data; photos may also lie in folders outside that `splits` names.
        named_in: the file that names the classes.
        names: class name of each index that label files may use.
        splits: what each split is made of: folders of photos, lists of photos (.txt).
        pose: whether label lines hold a box and keypoints behind it (`kpt_shape`).
    """

    root: Path
    named_in: Path
    names: Mapping[int, str]
    splits: Mapping[str, tuple[Path, ...]]
    pose: bool = False

    @cached_property
    def bases(self) -> tuple[Path, ...]:
        """The root, and the folders outside of it that the data set names."""
        folders = (_folder_of(source) for sources in self.splits.values() for source in sources)
        inside = Fence([self.root])
        return (self.root, *dict.fromkeys(f for f in folders if not inside.holds_folder(f)))

    @cached_property
    def fence(self) -> Fence:
        """What photos and label files must lie in."""
        outside = [folder.resolve() for folder in self.bases[1:]]
        return Fence([self.root, *outside, *(m for f in outside for m in _mirrors(f))])


def _folder_of(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def label_file(folder: YoloFolder, photo: Path) -> Path:
    """The label file of a photo: `labels` for the last `images` in its path, else beside it.

    Where there is none, the path at which one would be looked for first.

    Raises:
        DataError: the only one lies outside of the data set.
    """
    beside = photo.with_suffix(".txt")
    places = [*(place / beside.name for place in _mirrors(photo.parent)), beside]
    outside = None
    for path in places:
        if path.is_file():
            if folder.fence.holds(path):
                return path
            outside = outside or path
    if outside is not None:
        raise DataError(
            f"{outside}, the label file of {photo.name}, lies at {outside.resolve()}, out of "
            f"{folder.root}; copy it in, or give a data.yaml whose `path` is a folder that holds "
            "both."
        )
    return places[0]


@lru_cache(maxsize=4096)
def _mirrors(folder: Path) -> tuple[Path, ...]:
    """Where the labels of a folder of photos may lie, as `images` is spelt first; often nowhere."""
    parts = list(folder.parts)
    last = max((k for k, part in enumerate(parts) if part.lower() == "images"), default=None)
    if last is None:
        return ()
    alike = "LABELS" if parts[last].isupper() else "Labels" if parts[last][0] == "I" else "labels"
    names = dict.fromkeys((alike, "labels", "Labels"))
    return tuple(Path(*parts[:last], name, *parts[last + 1 :]) for name in names)


def photos_of(folder: YoloFolder, split: str) -> list[Path]:
    """The photos of a split, each once, in the order of its list or by name.

    Links that lead out of the data set are left out and reported.

    Raises:
        NotFoundError: a list names photos that are not there, or a split has no photo.
        DataError: a list names photos outside the data set.
    """
    found: list[Path] = []
    left_out: list[Path] = []
    for source in folder.splits[split]:
        if source.is_dir():
            photos, links = photos_below(source, folder.fence)
        else:
            photos, links = _listed(source, folder)
        found += photos
        left_out += links
    for link in left_out:
        text = "is a link that leads out of the data set, and training leaves it out"
        gathered([text], link, "copy in what it leads to", "link-outside")
    said = ""
    if left_out:
        said = (
            f"{len(left_out):,} links lead out of {folder.root} and are left out ("
            f"{some([str(path) for path in left_out])}): copy in what they lead to, or give a "
            "data.yaml whose `path` is a folder that holds both"
        )
    if not found:
        places = ", ".join(map(str, folder.splits[split]))
        way_out = f"; {said}." if said else "; put photos there."
        raise NotFoundError(f"{places} holds no photo for the split {split!r}{way_out}")
    if said and not is_gathering():
        logger.warning("%s: %s", split, said)
    return list(dict.fromkeys(found))


def photo_ids(folder: YoloFolder, split: str, photos: Sequence[Path]) -> list[str]:
    """Ids of photos: their paths below the root, without what only says `images` and the split.

    So an id depends on the photo's own path: images/train/street/a.jpg is street/a in train,
    whatever else lies there. Where two would be the same, the whole path takes their place.
    """
    whole = [_below(folder, photo) for photo in photos]
    short = image_ids("/".join(_plain(path, split)) for path in whole)
    count = Counter(short)
    return [
        i if count[i] == 1 else path.as_posix() for i, path in zip(short, whole, strict=True)
    ]  # fmt: skip


def _below(folder: YoloFolder, photo: Path) -> Path:
    base = next((base for base in folder.bases if photo.is_relative_to(base)), None)
    return photo.relative_to(base) if base is not None else photo


def _plain(path: Path, split: str) -> list[str]:
    parts = list(path.parts)
    says = {"images": "images"} | {w: "split" for w, name in SPLIT_WORDS.items() if name == split}
    while len(parts) > 1:
        word = parts[0].lower()
        meaning = "split" if CVAT_FOLDER.fullmatch(word) else says.get(word)
        if meaning is None:
            break
        # Each is said once: in images/train/train, the second may be the class of trains.
        says = {w: m for w, m in says.items() if m != meaning}
        parts = parts[1:]
    return parts


def labels_without_photo(folder: YoloFolder, split: str, photos: Sequence[Path]) -> list[Path]:
    """Label files in the folders of a split that belong to no photo, by name."""
    pairs: set[tuple[Path, Path]] = set()
    for place in {photo.parent for photo in photos}:
        labels = _first_folder(place)
        pairs |= {(place, place)} if labels is None else {(place, place), (labels, place)}
    for source in folder.splits[split]:
        top = _first_folder(source) if source.is_dir() else None
        if top is not None:  # folders of labels may have no folder of photos at all
            below = (Path(where) for where, _, _ in os.walk(top))
            pairs |= {(labels, source / labels.relative_to(top)) for labels in below}
    return sorted({path for labels, place in pairs for path in _alone(labels, place)})


def _first_folder(photos: Path) -> Path | None:
    return next((place for place in _mirrors(photos) if place.is_dir()), None)


def _alone(labels: Path, photos: Path) -> Iterator[Path]:
    names = os.listdir(photos) if photos.is_dir() else []
    stems = {os.path.splitext(name)[0] for name in names if name.lower().endswith(PHOTO_SUFFIXES)}
    for name in os.listdir(labels):
        path = labels / name
        alone = name.endswith(".txt") and name not in NAME_FILES and path.stem not in stems
        # Beside photos there are other texts too.
        if alone and (labels != photos or _is_label(path)):
            yield path


def _is_label(path: Path) -> bool:
    """Whether a text begins with a line of label: a class and at least four numbers."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line.split() for line in file if line.strip()), [])
    return len(first) >= 5 and all(re.fullmatch(r"[-+.\deE]+", part) for part in first)


def _listed(path: Path, folder: YoloFolder) -> tuple[list[Path], list[Path]]:
    """The photos that a list names, one a line, and those that are links leading out."""
    lines = read_text_file(path).splitlines()
    root = folder.root
    finder = PhotoFinder([path.parent, root, root / "images"])
    found: list[Path] = []
    left_out, missing = [], []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        photo = _inside(name, folder) if escapes(name) else None
        photo = photo or finder.find(name) or _without_prefix(finder, name)
        if photo is None:
            missing.append(f"line {number}: {name!r}")
        elif folder.fence.holds(photo):
            found.append(photo)
        else:
            left_out.append(photo)
    no_photo = [f"{text} is no photo in the data set" for text in missing]
    if missing and not gathered(no_photo, path, "mend or remove the line"):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}, {missing[0]}{more}: no such photo in {root}; names are relative to the list "
            "or to the data set, and absolute ones must lie in it: mend the lines or remove them."
        )
    return found, left_out


def _inside(name: str, folder: YoloFolder) -> Path | None:
    """An absolute path that lies in the data set, as it is."""
    path = Path(name)
    if not path.is_absolute() or ".." in path.parts:
        return None
    bases = [place for base in folder.bases for place in (base.absolute(), base.resolve())]
    below = any(path.is_relative_to(base) for base in bases)
    return path if below and path.is_file() else None


def _without_prefix(finder: PhotoFinder, name: str) -> Path | None:
    # CVAT lists data/obj_train_data/a.jpg, of which "data" is no folder.
    parts = parts_of(name)
    return finder.find("/".join(parts[1:])) if len(parts) > 1 and parts[0] == "data" else None
