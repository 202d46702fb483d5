"""VOC XML without VOC's folders, as LabelImg, CVAT and Roboflow write it.

Known are XML beside their photos, in one folder or in one folder a split (`train`, `valid`,
`test`), and a folder of XML (`annotations`) beside one of photos (`images`), without ImageSets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frostbox.data.annotations import DetectionSet
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc import XmlReader
from frostbox.data.voc_layout import Photos

_ANNOTATION = re.compile(rb"<annotation[\s>]")
_XML_FOLDERS = ("annotations", "annotation", "labels", "xml", "xmls")
_PHOTO_FOLDERS = ("images", "jpegimages", "image", "photos", "img")


@dataclass(frozen=True)
class FlatVoc:
    """Folders of XML by split, and where the photos of each lie."""

    root: Path
    xml: Mapping[str, Path]
    photos: Mapping[str, Path]


def find_flat(data: Path) -> FlatVoc | None:
    """What a folder holds; None when it has no VOC XML in a way that is known."""
    below = {child.name.lower(): child for child in sorted(data.iterdir()) if child.is_dir()}
    if _has_annotations(data):
        photos = next((below[name] for name in _PHOTO_FOLDERS if name in below), data)
        return FlatVoc(data, {"all": data}, {"all": data if _has_photos(data) else photos})
    splits = {
        SPLIT_WORDS[name]: child
        for name, child in below.items()
        if name in SPLIT_WORDS and _has_annotations(child)
    }
    if splits:
        return FlatVoc(data, splits, splits)
    for name in _XML_FOLDERS:
        if name in below and _has_annotations(below[name]):
            photos = next((below[p] for p in _PHOTO_FOLDERS if p in below), below[name])
            return FlatVoc(data, {"all": below[name]}, {"all": photos})
    return None


def read_flat(flat: FlatVoc, split: str, also: Sequence[str] | None = ()) -> DetectionSet:
    """Read a split, photos by name; class names are found as `voc.read_voc` finds them.

    Raises:
        DataError: as `voc.read_voc`.
    """
    readers = {
        name: XmlReader(_paths(folder), Photos(flat.photos[name]))
        for name, folder in flat.xml.items()
    }
    # The class names of all splits are those of the training split, which has its own folder: one
    # reader holds what is needed of both, under ids with the split in front.
    several = len(readers) > 1
    ids = {
        name: {f"{name}/{i}" if several else i: i for i in sorted(reader.paths)}
        for name, reader in readers.items()
    }
    joined = XmlReader({}, Photos(flat.root))
    for name in {split, "train", "trainval"} & set(readers):
        reader = readers[name]
        for unique, image_id in ids[name].items():
            joined.records[unique] = replace(reader.read(image_id), image_id=unique)
        joined.zero_based += reader.zero_based if name == split else []
        joined.parts += reader.parts if name == split else 0
    return joined.read_set(
        flat.root, split, lambda name: list(ids[name]), list(readers), [flat.root], None, also
    )


def _paths(folder: Path) -> dict[str, str]:
    with os.scandir(folder) as entries:
        return {e.name[:-4]: e.path for e in entries if e.name.lower().endswith(".xml")}


def _has_annotations(folder: Path) -> bool:
    first = next(iter(sorted(_paths(folder).values())), None)
    if first is None:
        return False
    with open(first, "rb") as file:
        return _ANNOTATION.search(file.read(1 << 14)) is not None


def _has_photos(folder: Path) -> bool:
    return bool(Photos(folder).by_id())
