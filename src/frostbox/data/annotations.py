"""The one typed form of annotated photos that every reader produces and everything else takes.

It knows nothing of any file format and reads no file: `data/formats.py` says who fills it. Boxes
are `(xmin, ymin, xmax, ymax)`, float pixels of the original image, 0-based and continuous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frostbox.errors import DataError
from frostbox.untrusted import is_plain, shown

LARGEST_SIDE = 1_000_000
"""Pixels of a side, beyond which a size is no picture's."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """One labelled object. A flag that the file does not have is False.

    `crowd` is COCO's `iscrowd`: the box surrounds a group. It is not learned from, and detections
    inside it are ignored. `area` is the object's own in square pixels, where the file gives one
    (COCO's, of the mask); None means that of the box. `number` is the annotation's `id` in a COCO
    file, `place` where the object stands in another one ("line 3"); two objects that differ in
    nothing else are equal.
    """

    name: str
    box: Box
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    pose: str = "Unspecified"
    crowd: bool = False
    area: float | None = None
    number: int | str | None = field(default=None, compare=False)
    place: str = field(default="", compare=False)

    @property
    def size(self) -> float:
        """Its area in square pixels, that of the box where none is given."""
        xmin, ymin, xmax, ymax = self.box
        return (xmax - xmin) * (ymax - ymin) if self.area is None else self.area


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """One image of a split: its size in pixels, its objects, and where it was read from.

    `photo` is None when the data set names the image and has no picture of it. `width` and
    `height` are those of the picture as it is read: upright when `exif` says that the EXIF
    orientation is applied, as it is stored in the file when not (boxes drawn by a tool that
    ignores EXIF). `number` is the image's `id` in a COCO file, by which results name it.
    """

    image_id: str
    photo: Path | None
    width: int
    height: int
    objects: tuple[ObjectAnnotation, ...]
    source: Path
    exif: bool = True
    number: int | str | None = None


@dataclass(frozen=True)
class DetectionSet:
    """One split of a data set, in the order of its list.

    Attributes:
        name: short name of the data set, used for folders of caches and runs.
        root: the folder that it was read from.
        split: name of the split, such as "train".
        classes: class names; an object's label is its name's index here.
        classes_from: where the names came from, in words, to be printed.
        images: every image that the list names, with or without photo.
        categories: COCO's category ids, each with its label; None for a class that was left out.
            Empty where the data set has no such ids.
        unread: what the files say and this form does not hold, in words ("masks of 12 objects").
        made: where the split is written down, if frostbox made it; it stands nowhere in the data.
        boxes: how the numbers of its boxes were read, in words, where that had to be found out.
        own_names: the names that the data set itself has, each with what it was renamed to; what is
            not in `classes` was left out. Empty where nothing was renamed or left out.

    Raises:
        DataError: the id of an image has a control character, or is no Unicode text.
    """

    name: str
    root: Path
    split: str
    classes: tuple[str, ...]
    classes_from: str
    images: tuple[ImageAnnotation, ...]
    categories: Mapping[int, int | None] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    made: Path | None = None
    boxes: str = ""
    own_names: Mapping[str, str] = field(default_factory=dict)
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for image in self.images:
            if not is_plain(image.image_id):  # lists, reports and terminals would break on it
                raise DataError(
                    f"{self.root}: the name of the image {shown(image.image_id)} has a control "
                    "character or is no UTF-8; rename it."
                )
        object.__setattr__(self, "_index", {name: k for k, name in enumerate(self.classes)})

    def __len__(self) -> int:
        return len(self.images)

    @property
    def missing_photos(self) -> tuple[str, ...]:
        """Ids of the images that the list names and the folder lacks."""
        return tuple(image.image_id for image in self.images if image.photo is None)

    @property
    def photos(self) -> tuple[ImageAnnotation, ...]:
        """The images that have a photo."""
        return tuple(image for image in self.images if image.photo is not None)

    def label(self, obj: ObjectAnnotation) -> int:
        """Index of the object's class. Raises KeyError for a name outside `classes`."""
        return self._index[obj.name]

    def label_numbers(self) -> dict[int, int]:
        """The data set's own category id of each label that has one, the smallest of several."""
        found: dict[int, int] = {}
        for number in sorted(self.categories, key=in_id_order):
            label = self.categories[number]
            if label is not None:
                found.setdefault(label, number)
        return found

    def subset(self, images: Sequence[ImageAnnotation]) -> DetectionSet:
        """The same data set with other images."""
        return replace(self, images=tuple(images))


def in_id_order(number: Any) -> tuple[bool, Any]:
    """A key that sorts ids of images or categories: numbers before words."""
    return isinstance(number, str), number


def in_words(found: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """Words for `DetectionSet.unread`: "masks of 12 objects" for `{("masks", "objects"): 12}`."""
    return tuple(f"{what} of {n:,} {of}" for (what, of), n in found.items() if n)
