"""Pascal VOC XML to the typed form and back.

VOC counts pixels from 1 and includes the last one; frostbox counts from 0 and its boxes are
continuous. The box `(xmin, ymin, xmax, ymax)` of the XML therefore becomes
`(xmin - 1, ymin - 1, xmax, ymax)`. That happens here, in reading and in writing, and nowhere else.
"""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from frostbox.data import voc_fields as fields
from frostbox.data.annotations import (
    Box,
    DetectionSet,
    ImageAnnotation,
    ObjectAnnotation,
    in_words,
)
from frostbox.data.box_check import BoxCheck
from frostbox.data.photo_names import report_missing
from frostbox.data.voc_layout import (
    Photos,
    annotation_paths,
    check_names,
    find_voc,
    read_names,
    read_split,
    splits,
)
from frostbox.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = [
    "CLASSES",
    "find_voc",
    "load",
    "read_annotation",
    "read_voc",
    "splits",
    "write_voc_xml",
]

logger = logging.getLogger("frostbox")

CLASSES = (
    "person", "bird", "cat", "cow", "dog", "horse", "sheep",
    "aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train",
    "bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor",
)  # fmt: skip

_SHOWN = 3
_DIGITS = 9  # decimals of a pixel that the shift keeps


def load(
    data: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    require_photos: bool = False,
) -> DetectionSet:
    """Read a split and report, once, the photos that its list names and the folder lacks.

    Args:
        data: the VOC folder, its VOCdevkit, or the parent of that.
        split: name of the list, such as "train".
        classes: class names in label order; None finds them (see `read_voc`).
        require_photos: whether a split without any photo is an error.

    Raises:
        NotFoundError: no such folder or list.
        DataError: annotations that cannot be used, or no photo where photos are required.
    """
    dataset = read_voc(data, split, classes)
    report_missing(dataset, require_photos, dataset.root / "JPEGImages")
    return dataset


def read_voc(
    data: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    also: Sequence[str] | None = (),
) -> DetectionSet:
    """Read the annotations of a split of a data set in VOC layout.

    The class names are, in this order: `classes`; a classes.txt in the VOC folder or in DATA;
    VOC's 20 if they cover the training split; the sorted names of the training split. The training
    split is "train", else "trainval", else the split asked for, so that every split of a data set
    gets the same labels.

    Boxes keep their decimals. A `part` of an object is not an object. A flag that is absent is
    False, an absent pose "Unspecified". A minimum of 0, which tools that count from 0 write, is
    taken as 1 and reported.

    Args:
        data: the VOC folder, its VOCdevkit, or the parent of that.
        split: name of the list, such as "train".
        classes: class names in label order.
        also: names that may occur besides those found, None for any; behind them in label order.

    Raises:
        NotFoundError: no such folder or list.
        DataError: a file that does not parse, a field that is missing or not a number, a box with
            max <= min or outside its image, or a class name that is not in the list.
    """
    root = find_voc(data)
    reader = XmlReader(annotation_paths(root), Photos(root / "JPEGImages"))

    def listed(name: str) -> list[str]:
        return read_split(root, name, reader.paths)

    folders = (root, Path(data).expanduser())
    return reader.read_set(root, split, listed, splits(root), folders, classes, also)


def read_annotation(xml_path: str | Path) -> dict[str, Any]:
    """The whole XML as nested dictionary of strings, as torchvision's VOCDetection gives it.

    Raises:
        DataError: the file does not parse.
    """
    from torchvision.datasets import VOCDetection  # needs torch, which `explore` does without

    tree: dict[str, Any] = VOCDetection.parse_voc_xml(fields.parse(str(xml_path)))
    return tree


def write_voc_xml(path: str | Path, image: ImageAnnotation) -> None:
    """Write an image's annotation as VOC XML; `read_voc` gives the same objects back.

    Coordinates that are whole numbers are written as such, others with all their decimals.

    Raises:
        DataError: a box that VOC's inclusive pixels cannot say (one pixel wide or less) or that
            lies outside the image.
    """
    path = Path(path)
    filename = image.photo.name if image.photo is not None else f"{image.image_id}.jpg"
    lines = [
        "<annotation>",
        f"\t<folder>{escape(path.parent.parent.name)}</folder>",
        f"\t<filename>{escape(filename)}</filename>",
        "\t<size>",
        f"\t\t<width>{image.width}</width>",
        f"\t\t<height>{image.height}</height>",
        "\t\t<depth>3</depth>",
        "\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for number, obj in enumerate(image.objects, start=1):
        xmin, ymin, xmax, ymax = obj.box
        raw = (_shifted(xmin, 1), _shifted(ymin, 1), xmax, ymax)
        _check_box(raw, (image.width, image.height), f"{path}: object {number} ({obj.name})")
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(obj.name)}</name>",
            f"\t\t<pose>{escape(obj.pose)}</pose>",
            f"\t\t<truncated>{obj.truncated:d}</truncated>",
            f"\t\t<occluded>{obj.occluded:d}</occluded>",
            f"\t\t<difficult>{obj.difficult:d}</difficult>",
            "\t\t<bndbox>",
            *(
                f"\t\t\t<{tag}>{digits(v)}</{tag}>"
                for tag, v in zip(fields.CORNERS, raw, strict=True)
            ),
            "\t\t</bndbox>",
            "\t</object>",
        ]
    path.write_text("\n".join([*lines, "</annotation>", ""]), encoding="utf-8")


@dataclass
class XmlReader:
    """Reads each XML of a data set once, however many lists name it.

    Attributes:
        paths: the XML of each id. photos: where their photos lie.
        check: fits boxes into their images; None refuses those that do not fit.
        records: what was read. zero_based: number of boxes with minima of 0 by id, where there are.
        beyond: what each XML says besides, see `voc_fields.beyond`.
    """

    paths: dict[str, str]
    photos: Photos
    check: BoxCheck | None = None
    records: dict[str, ImageAnnotation] = field(default_factory=dict)
    zero_based: Counter[str] = field(default_factory=Counter)
    beyond: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    def read_set(
        self,
        root: Path,
        split: str,
        listed: Callable[[str], list[str]],
        known: Sequence[str],
        folders: Sequence[Path],
        classes: Sequence[str] | None,
        also: Sequence[str] | None,
    ) -> DetectionSet:
        """A split as `read_voc` gives it.

        Args:
            root: of the data set. listed: gives the ids of a list. known: names of the lists.
            folders: where a classes.txt may lie. split, classes, also: as of `read_voc`.
        """
        records = [self.read(image_id) for image_id in listed(split)]
        if classes is not None:
            names, origin = check_names(classes, "--classes"), "the names that were given"
        else:
            fallback = also is None or bool(also)
            names, origin = self._own_names(root, split, listed, known, folders, fallback)
        if also is not None:
            _check_classes(records, (*names, *also), origin)
        ids = [record.image_id for record in records]
        from_zero = [image_id for image_id in ids if self.zero_based[image_id]]
        if from_zero:
            logger.warning(
                "%s boxes have xmin or ymin 0, where VOC counts from 1; taken as 1: %s",
                sum(self.zero_based[image_id] for image_id in from_zero), _some(from_zero),
            )  # fmt: skip
        beyond: Counter[tuple[str, str]] = Counter()
        for image_id in ids:
            beyond.update(self.beyond[image_id])
        occurring = sorted({obj.name for record in records for obj in record.objects})
        more = occurring if also is None else [name for name in also if name in occurring]
        return DetectionSet(
            name=root.resolve().name,
            root=root,
            split=split,
            classes=tuple(dict.fromkeys([*names, *more])),
            classes_from=origin,
            images=tuple(records),
            unread=in_words(beyond),
        )

    def _own_names(
        self,
        root: Path,
        split: str,
        listed: Callable[[str], list[str]],
        known: Sequence[str],
        folders: Sequence[Path],
        none_is_fine: bool,
    ) -> tuple[tuple[str, ...], str]:
        """The class names and, in words, where they come from."""
        for path in (folder / "classes.txt" for folder in folders):
            if path.is_file():
                return read_names(path), str(path)
        found: set[str] = set()
        for candidate in (*(name for name in ("train", "trainval") if name in known), split):
            try:
                ids = listed(candidate)
            except DataError:
                # A test split may come with the training list and without its XML.
                if candidate == split:
                    raise
                continue
            found = {obj.name for image_id in ids for obj in self.read(image_id).objects}
            if found <= set(CLASSES) and found:
                return CLASSES, f"VOC's 20 classes, which cover {root.name} {candidate}"
            if found:
                return tuple(sorted(found)), f"the names found in {root.name} {candidate}"
        if none_is_fine:
            return (), "the names that were given"
        raise DataError(
            f"{root}: no image of {split!r} has an object, so there are no class names; "
            "give them with --classes or in a classes.txt."
        )

    def read(self, image_id: str) -> ImageAnnotation:
        record = self.records.get(image_id)
        if record is None:
            record = self.records[image_id] = self._read(image_id, self.paths[image_id])
        return record

    def _read(self, image_id: str, path: str) -> ImageAnnotation:
        tree = fields.parse(path)
        photo = self.photos.find(image_id, fields.text(tree, "filename"))
        size = _size(tree, path, photo)
        objects = []
        for number, node in enumerate(tree.iterfind("object"), start=1):
            where = fields.place(path, number, node)
            name = fields.object_name(node, where)
            bndbox = fields.object_box(node, where)
            raw = [fields.number(bndbox, tag, where) for tag in fields.CORNERS]
            if raw[0] == 0 or raw[1] == 0:
                self.zero_based[image_id] += 1
                raw[:2] = [value or 1.0 for value in raw[:2]]
            box = self._box(raw, size, where)
            if box is None:
                continue
            objects.append(
                ObjectAnnotation(
                    name=name,
                    box=box,
                    difficult=fields.flag(node, "difficult", where),
                    truncated=fields.flag(node, "truncated", where),
                    occluded=fields.flag(node, "occluded", where),
                    pose=fields.text(node, "pose") or "Unspecified",
                )
            )
        self.beyond[image_id] = fields.beyond(tree)
        return ImageAnnotation(image_id, photo, *size, tuple(objects), Path(path))

    def _box(self, raw: Sequence[float], size: tuple[int, int], where: str) -> Box | None:
        """The box of VOC's own pixels; None for one that is left out."""
        xmin, ymin, xmax, ymax = raw
        if self.check is None:
            _check_box(raw, size, where, " (`frostbox doctor DATA` says which --fix mends)")
            return _shifted(xmin, -1), _shifted(ymin, -1), xmax, ymax
        # Here, too, maxima that are not above the minima are no area: a click, not a pixel.
        empty = xmax <= xmin or ymax <= ymin
        low = (xmin, ymin) if empty else (_shifted(xmin, -1), _shifted(ymin, -1))
        said = partial("{}: bndbox, counted from 0,".format, where)
        return self.check.fit((*low, xmax, ymax), size, said)


def _shifted(value: float, by: int) -> float:
    """The sum, without the last binary digits that 0.1 + 1 - 1 would add to decimals."""
    return round(value + by, _DIGITS)


def _size(tree: Element, path: str, photo: Path | None) -> tuple[int, int]:
    """Width and height in pixels; the photo's own when the XML has no size or 0 x 0."""
    size = fields.stated_size(tree, path)
    if size is not None:
        return size
    if photo is None:
        what = "is missing" if tree.find("size") is None else "is 0 x 0"
        raise fields.FieldFault(
            path, "size", f"{what} and there is no photo to take it from", "write width and height"
        )
    from frostbox.data.photos import upright_size

    return upright_size(photo)


def _check_box(raw: Sequence[float], size: tuple[int, int], where: str, more: str = "") -> None:
    """Check a box in VOC's own pixels. Raises DataError for max <= min or outside the image.

    `more`: a way out besides mending it by hand, for the message.
    """
    xmin, ymin, xmax, ymax = raw
    for axis, low, high in (("x", xmin, xmax), ("y", ymin, ymax)):
        if high <= low:
            raise DataError(
                f"{where}: bndbox/{axis}max {high:g} is not above {axis}min {low:g}; "
                f"mend the box or remove the object{more}."
            )
    if xmin < 1 or ymin < 1 or xmax > size[0] or ymax > size[1]:
        box = ", ".join(f"{value:g}" for value in raw)
        raise DataError(
            f"{where}: bndbox ({box}) reaches outside the image of {size[0]} x {size[1]} pixels; "
            f"mend the box, or the size if that is wrong{more}."
        )


def _check_classes(records: Iterable[ImageAnnotation], names: Sequence[str], origin: str) -> None:
    known = frozenset(names)
    for record in records:
        for number, obj in enumerate(record.objects, start=1):
            if obj.name not in known:
                near = difflib.get_close_matches(obj.name, names, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise DataError(
                    f"{record.source}: object {number}: name {obj.name!r} is not in the list of "
                    f"classes ({origin}); {hint}mend it, or train with all names in --classes."
                )


def digits(value: float) -> str:
    """A coordinate as text: whole numbers as such, others with all their decimals."""
    return str(int(value)) if value == int(value) else repr(value)


def _some(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else ""
    return ", ".join(unique[:_SHOWN]) + more
