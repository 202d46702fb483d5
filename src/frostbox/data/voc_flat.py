"""VOC XML without VOC's folders, as LabelImg, CVAT and Roboflow write it.

Known are XML beside their photos and a folder of XML (`annotations`) beside one of photos
(`images`), without ImageSets; both also once a split, in folders `train`, `valid`, `test`, or with
folders of these names in `annotations` and `images`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frostbox.data.annotations import DetectionSet
from frostbox.data.box_check import BoxCheck, some
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc import XmlReader
from frostbox.data.voc_layout import Photos

logger = logging.getLogger("frostbox")

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
    below = _folders(data)
    if not _has_annotations(data):
        splits = {SPLIT_WORDS[n]: _pair(child) for n, child in below.items() if n in SPLIT_WORDS}
        found = {name: pair for name, pair in splits.items() if pair is not None}
        found = found or _split_inside(below)
        if found:
            xml = {name: pair[0] for name, pair in found.items()}
            return FlatVoc(data, xml, {name: pair[1] for name, pair in found.items()})
    pair = _pair(data)
    return FlatVoc(data, {"all": pair[0]}, {"all": pair[1]}) if pair is not None else None


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """Where the XML and the photos of a folder lie: in itself, or in two folders in it."""
    below = _folders(folder)
    photos = next((below[name] for name in _PHOTO_FOLDERS if name in below), None)
    if _has_annotations(folder):
        return folder, folder if photos is None or _has_photos(folder) else photos
    xml = [below[name] for name in _XML_FOLDERS if name in below and _has_annotations(below[name])]
    return (xml[0], photos or xml[0]) if xml else None


def _split_inside(below: Mapping[str, Path]) -> dict[str, tuple[Path, Path]]:
    """Where XML and photos of each split lie: annotations/train and images/train."""
    photos = next((_folders(below[name]) for name in _PHOTO_FOLDERS if name in below), {})
    xml = next((_folders(below[name]) for name in _XML_FOLDERS if name in below), {})
    return {
        SPLIT_WORDS[name]: (child, photos.get(name, child))
        for name, child in xml.items()
        if name in SPLIT_WORDS and _has_annotations(child)
    }


def _folders(folder: Path) -> dict[str, Path]:
    found = (child for child in sorted(folder.iterdir()) if child.is_dir())
    return {child.name.lower(): child for child in found}


def read_flat(flat: FlatVoc, split: str, also: Sequence[str] | None = ()) -> DetectionSet:
    """Read a split, photos by name; class names are found as `voc.read_voc` finds them.

    Boxes are fitted as in `box_check`: the doctor mends VOC's own layout alone. Photos without XML
    are no part of the split, and are said.

    Raises:
        DataError: as `voc.read_voc`, of boxes only when they lie outside by and large.
    """
    hint = "are they corners (xmin, ymin, xmax, ymax) in pixels, and the sizes those of the photos?"
    checks = {name: BoxCheck(str(folder), hint) for name, folder in flat.xml.items()}
    readers = {
        name: XmlReader(_paths(folder), Photos(flat.photos[name]), checks[name])
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
            joined.beyond[unique] = reader.beyond[image_id]
            joined.zero_based[unique] = reader.zero_based[image_id]
    dataset = joined.read_set(
        flat.root, split, lambda name: list(ids[name]), list(readers), [flat.root], None, also
    )
    unread = (*checks[split].close(), *_without_xml(dataset, readers[split].photos))
    return replace(dataset, unread=dataset.unread + unread)


def _without_xml(dataset: DetectionSet, photos: Photos) -> tuple[str, ...]:
    """Say which photos no XML describes; the same for `DetectionSet.unread`."""
    described = {image.photo for image in dataset.images}
    loose = sorted(path for path in photos.by_id().values() if path not in described)
    if not loose:
        return ()
    logger.warning(
        "%s: %s photos have no XML and are not used (write one without objects for background): %s",
        dataset.root, len(loose), some([path.name for path in loose]),
    )  # fmt: skip
    return (f"{len(loose):,} photos without XML",)


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
