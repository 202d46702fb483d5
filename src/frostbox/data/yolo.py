"""YOLO's label files to the typed form and back.

A label file has one object a line: `class cx cy width height`, numbers in [0, 1] of the upright
photo's sides. A polygon (`class x1 y1 x2 y2 ...`, or the four corners of a turned box) becomes its
box, a sixth number (a confidence, as predictions have) is ignored; both are said. A photo without a
label file has no objects.
"""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml

from frostbox.data.annotations import (
    Box,
    DetectionSet,
    ImageAnnotation,
    ObjectAnnotation,
    in_words,
)
from frostbox.data.box_check import BoxCheck, refuse, some
from frostbox.data.faults import gathered, is_gathering
from frostbox.data.photos import upright_size
from frostbox.data.remote_sets import ahead
from frostbox.data.yolo_layout import (
    YoloFolder,
    label_file,
    labels_without_photo,
    photo_ids,
    photos_of,
)
from frostbox.errors import DataError, NotFoundError

logger = logging.getLogger("frostbox")

_PIXEL_DIGITS = 6
"""Decimals of a pixel that are kept: shares of a side with 16 digits give whole pixels back."""


def read_yolo(folder: YoloFolder, split: str) -> DetectionSet:
    """Read a split; photos that cannot be opened are left out, because they give no size.

    Args:
        folder: as `yolo_find.find_yolo` gives it. split: one of its splits.

    Raises:
        NotFoundError: the split has no photo.
        DataError: a line that is no object, a class without name, no label file at all, or boxes
            that lie outside by and large; a label file outside of the data set.
    """
    photos = photos_of(folder, split)
    reader = _Reader(folder)
    ids = photo_ids(folder, split, photos)
    pairs = ahead(zip(photos, ids, strict=True), lambda pair: pair[0])
    images = [reader.image(photo, image_id) for photo, image_id in pairs]
    unread = reader.close(photos)
    alone = labels_without_photo(folder, split, photos)
    for path in alone:
        text = "is the label file of no photo, and training leaves its objects out"
        gathered([text], path, "add the photo or remove the file", "photo-missing")
    if alone and not is_gathering():
        logger.warning(
            "%s: %s label files have no photo and are not read: %s",
            split, f"{len(alone):,}", some([str(path) for path in alone]),
        )  # fmt: skip
    names = tuple(dict.fromkeys(folder.names.values()))
    return DetectionSet(
        name=folder.root.resolve().name,
        root=folder.root,
        split=split,
        classes=names,
        classes_from=str(folder.named_in),
        images=tuple(image for image in images if image is not None),
        unread=(*unread, *([f"{len(alone):,} label files without photo"] if alone else [])),
    )


@dataclass
class _Reader:
    """Reads label files and collects what is wrong with them."""

    folder: YoloFolder
    check: BoxCheck = field(init=False)
    faults: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    labelled: dict[Path, Path] = field(default_factory=dict)  # the photo of each label file
    shared: list[str] = field(default_factory=list)
    lossy: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        hint = "are the numbers shares of the photo's sides, as centre and size?"
        self.check = BoxCheck(str(self.folder.root), hint)

    def image(self, photo: Path, image_id: str) -> ImageAnnotation | None:
        try:
            size = upright_size(photo)
        except (DataError, NotFoundError) as error:
            self.broken.append(str(error).rstrip("."))
            gathered(["cannot be read"], photo, "replace the photo", "photo-unreadable")
            return None
        try:
            path = label_file(self.folder, photo)
        except DataError as error:
            said, _, way_out = str(error).rstrip(".").partition("; ")
            if not gathered([f"label file: {said}"], photo, way_out):
                raise
            return None
        objects: list[ObjectAnnotation] = []
        if path.is_file():
            first = self.labelled.setdefault(path, photo)
            if first != photo:
                self._share(path, first, photo)
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError:
                self.faults.append(f"{self._shown(path)} is not text")
                lines = []
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    found = self._object(line.split(), size, f"{self._shown(path)}, line {number}")
                    if found is not None:
                        objects.append(replace(found, place=sys.intern(f"line {number}")))
        return ImageAnnotation(image_id, photo, *size, tuple(objects), path)

    def _share(self, path: Path, first: Path, photo: Path) -> None:
        text = f"is the label file of {first.name} and of {photo.name}, and both get its objects"
        if not gathered([text], path, "give one of them another name", "label-shared"):
            self.shared.append(f"{self._shown(path)} ({first.name}, {photo.name})")

    def _shown(self, path: Path) -> str:
        root = self.folder.root
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    def _object(
        self, columns: Sequence[str], size: tuple[int, int], where: str
    ) -> ObjectAnnotation | None:
        try:
            values = [float(column) for column in columns]
        except ValueError:
            values = [math.nan]
        if not all(math.isfinite(value) for value in values):
            self.faults.append(f"{where}: {' '.join(columns)!r} has a part that is no number")
            return None
        name = self.folder.names.get(int(values[0])) if values[0] == int(values[0]) else None
        if name is None:
            known = sorted(self.folder.names)
            self.faults.append(
                f"{where}: has class {columns[0]}, and {self.folder.named_in.name} names "
                f"{known[0]} to {known[-1]}"
            )
            return None
        shares = self._corners(values[1:], where)
        if shares is None:
            return None
        pixels = [round(v * size[k % 2], _PIXEL_DIGITS) for k, v in enumerate(shares)]
        corners: Box = (pixels[0], pixels[1], pixels[2], pixels[3])
        box = self.check.fit(corners, size, partial(str, where))
        return None if box is None else ObjectAnnotation(name, box)

    def _corners(self, values: Sequence[float], where: str) -> Box | None:
        """Corners as shares of the sides."""
        count = len(values)
        if count in (4, 5) or (self.folder.pose and count >= 4):
            if count > 4:
                self.lossy["keypoints" if self.folder.pose else "confidences"] += 1
            cx, cy, width, height = values[:4]
            return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
        if count >= 6 and count % 2 == 0:
            self.lossy["polygons (their boxes are kept)"] += 1
            xs, ys = values[0::2], values[1::2]
            return min(xs), min(ys), max(xs), max(ys)
        self.faults.append(f"{where}: has {count + 1} numbers; a box has 5, a polygon 7, 9, ...")
        return None

    def close(self, photos: Sequence[Path]) -> tuple[str, ...]:
        """Report; the same for `DetectionSet.unread`.

        Raises DataError for faults, or when no photo has a label file.
        """
        root = self.folder.root
        refuse(self.faults, str(root), "mend or remove the lines", go_on=True)
        if not self.labelled:
            none = f"none of the {len(photos)} photos has a label file"
            first = f"the first should be {label_file(self.folder, photos[0])}"
            refuse([none], str(root), first, go_on=True)
        if self.shared:
            logger.warning(
                "%s: %s label files belong to two photos, and both get the objects: %s",
                root, f"{len(self.shared):,}", some(self.shared),
            )  # fmt: skip
        fitted = self.check.close()
        if self.broken and not is_gathering():
            logger.warning(
                "%s of %s photos cannot be read and are left out: %s",
                len(self.broken), len(photos), some(self.broken),
            )  # fmt: skip
        for what, number in sorted(self.lossy.items()):
            logger.warning("%s: %s of %s objects are not read", root, what, number)
        broken = (f"{len(self.broken):,} photos that cannot be read",) if self.broken else ()
        lossy = {(what, "objects"): number for what, number in sorted(self.lossy.items())}
        return (*in_words(lossy), *fitted, *broken)


def write_labels(path: Path, image: ImageAnnotation, dataset: DetectionSet) -> None:
    """Write the label file of an image; `read_yolo` gives the same boxes back.

    Crowds are left out: YOLO knows none, and a crowd learned as an object teaches nonsense.
    """
    lines = []
    for obj in image.objects:
        if obj.crowd:
            continue
        xmin, ymin, xmax, ymax = obj.box
        shares = (
            (xmin + xmax) / 2 / image.width, (ymin + ymax) / 2 / image.height,
            (xmax - xmin) / image.width, (ymax - ymin) / image.height,
        )  # fmt: skip
        lines.append(" ".join([str(dataset.label(obj)), *(repr(float(v)) for v in shares)]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_data_yaml(path: Path, classes: Sequence[str], splits: Sequence[str]) -> None:
    """Write the data.yaml that Ultralytics and `find_yolo` read, photos in `images/SPLIT`.

    Ultralytics demands train and val: without val that is train once more, without train empty.
    """
    places = {split: f"images/{split}" for split in splits}
    demanded = {"train": "", "val": places.get("train", "")}
    content = {**demanded, **places, "names": dict(enumerate(classes))}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
