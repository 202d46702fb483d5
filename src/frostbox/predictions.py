"""Predictions of a split as a file, in the format of COCO's results: ours, or any other tool's.

A list of `{image_id, category_id, bbox, score}`; `bbox` is (x, y, width, height), 0-based and
continuous. Of a data set that has ids of its own (COCO), `image_id` and `category_id` are these; a
text where its ids are numbers is the file stem. Of any other, `image_id` is the file stem, or a
number whose digits are the stem's, and `category_id` counts from 1 in the order of the classes.
`category_name` is taken where it is present: as it is here, or as the data set had it before
`--map`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.coco_fields import as_id
from frostbox.detections import Detections
from frostbox.errors import DataError
from frostbox.evaluation import Predictions
from frostbox.untrusted import once, parse_json, shown

_FIELDS = ("image_id", "bbox", "score")
_SHOWN = 5  # names in a message
_FARTHEST = 1e9  # pixels; beyond it a number is no place in a picture
_LOG = logging.getLogger("frostbox")


def write_predictions(
    predictions: Predictions, path: Path, dataset: DetectionSet | None = None
) -> Path:
    """Write all detections, `category_name` included; `read_predictions` gives the same floats.

    `dataset` gives the category ids where it has its own. Returns the path.
    """
    entries = []
    own = {} if dataset is None else dataset.label_numbers()
    for image, found in zip(predictions.images, predictions.found, strict=True):
        boxes, scores = _shortest(found.boxes), _shortest(found.scores)
        # The sum of corner and size must be the other corner again, without a digit too many.
        boxes[:, 2:] = (boxes[:, 2:] - boxes[:, :2]).round(9)
        for box, score, label in zip(
            boxes.tolist(), scores.tolist(), found.labels.tolist(), strict=True
        ):
            entries.append(
                {
                    "image_id": _called(image),
                    "category_id": own.get(label, label + 1),
                    "category_name": found.class_names[label],
                    "bbox": box,
                    "score": score,
                }
            )
    path.write_text(json.dumps(entries, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def _called(image: ImageAnnotation) -> int | str:
    """The data set's own id of an image, else the file stem."""
    return image.image_id if image.number is None else image.number


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The floats with the fewest digits that read back as the same float32."""
    return values.astype(str).astype(np.float64)


def read_predictions(path: Path, dataset: DetectionSet) -> tuple[Predictions, int]:
    """The detections of a file for the images of a split.

    Images without any detection count too; images without a photo only when the file has
    detections of them, or when there are no photos at all (nobody can have predicted them).
    Detections of classes that `--classes` leaves out are left out and counted. Where classes are
    told by number only, their order is logged as a warning.

    Returns:
        The predictions, and how many detections belong to other images.

    Raises:
        DataError: no JSON list of detections (the entry and its field are named), a class that the
            data set does not have, no detection for any image of the split, or boxes in [0, 1].
    """
    try:
        entries = parse_json(path.read_bytes(), once)
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): give predictions as COCO results") from None
    if not isinstance(entries, list):
        raise DataError(f"{path} is no list: COCO results are a list of detections")
    places = _places(dataset.images)
    rows: list[list[tuple[list[float], float, int]]] = [[] for _ in dataset.images]
    classes = _Classes(dataset)
    outside = numbered = 0
    left_out: Counter[str] = Counter()
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        _check(entry, where)
        name, label = classes.find(entry, where)
        numbered += name is None and not dataset.categories
        k = places.get(as_id(entry["image_id"]))
        if k is None:
            outside += 1
        elif label is None:
            left_out[f"category_id {entry.get('category_id')}" if name is None else name] += 1
        else:
            x, y, width, height = entry["bbox"]
            rows[k].append(([x, y, x + width, y + height], entry["score"], label))
    _check_unit(entries, path)
    if entries and outside == len(entries):
        ours = [f"the split's is {_called(image)!r}" for image in dataset.images[:1]]
        raise DataError(
            f"{path} has no detection for any image of '{dataset.split}' of {dataset.root}: its "
            f"first image_id is {shown(entries[0]['image_id'])}, "
            f"{(*ours, 'the split has none')[0]}; give the split that was predicted"
        )
    if numbered:
        order = ", ".join(f"{k} {name}" for k, name in enumerate(dataset.classes, start=1))
        _LOG.warning("%s: category_id is read as %s; --classes gives another order", path, order)
    if left_out:
        what = "; ".join(f"{name} ({count:,})" for name, count in left_out.most_common(_SHOWN))
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        _LOG.warning(
            "%s: %s detections are of classes that are left out: %s",
            path, f"{left_out.total():,}", what + more,
        )  # fmt: skip
    none = not dataset.photos
    counted = [
        (image, row)
        for image, row in zip(dataset.images, rows, strict=True)
        if row or none or image.photo is not None
    ]
    found = [
        Detections.create(
            [box for box, _, _ in row],
            [score for _, score, _ in row],
            [label for _, _, label in row],
            dataset.classes,
            (image.width, image.height),
        )
        for image, row in counted
    ]
    images = tuple(image for image, _ in counted)
    return Predictions(images, found, {}, limited=False), outside


def _places(images: Sequence[ImageAnnotation]) -> dict[Any, int]:
    """Index of each image by what a file may call it.

    A number is never taken for the stem where the data set has numbers of its own: image 7 and
    7.jpg may be two images.
    """
    stems: dict[Any, int] = {image.image_id: k for k, image in enumerate(images)}
    own: dict[Any, int] = {i.number: k for k, i in enumerate(images) if i.number is not None}
    if not own:
        return _numbers(images) | _as_numbers(stems) | stems
    texts = {number: k for number, k in own.items() if isinstance(number, str)}
    return _as_numbers(texts) | own if texts else stems | own


def _as_numbers(places: Mapping[Any, int]) -> dict[Any, int]:
    """The same under numbers, where a text is one as it stands: "7", not "007"."""
    return {int(t): k for t, k in places.items() if t.isdecimal() and str(int(t)) == t}


def _numbers(images: Sequence[ImageAnnotation]) -> dict[Any, int]:
    """Number of the stem -> index, where stems are digits, or digits around underscores."""
    stems = ((k, image.image_id.replace("_", "")) for k, image in enumerate(images))
    numbers = [(int(digits), k) for k, digits in stems if digits.isdecimal()]
    count = Counter(number for number, _ in numbers)
    return {number: k for number, k in numbers if count[number] == 1}  # of 1 and 001, neither


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(
            f"{where} is {shown(entry)}: it must be an object with {', '.join(_FIELDS)}"
        )
    for name in _FIELDS:
        if name not in entry:
            raise DataError(f"{where} has no {name}: COCO results have {', '.join(_FIELDS)}")
    box, score, image_id = entry["bbox"], entry["score"], entry["image_id"]
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(v) for v in box)):
        raise DataError(
            f"{where}: bbox is {shown(box)}; it must be [x, y, width, height] in pixels"
        )
    if min(box[2:]) < 0:
        raise DataError(f"{where}: bbox is {shown(box)}; width and height must not be negative")
    if not _is_number(score) or not 0 <= score <= 1:
        raise DataError(f"{where}: score is {shown(score)}; it must be a number from 0 to 1")
    if as_id(image_id) is None:
        raise DataError(
            f"{where}: image_id is {shown(image_id)}; it must be a number or a file stem"
        )


def _is_number(value: Any) -> bool:
    # A bool is an int to isinstance, but not to type; NaN is in no range.
    return type(value) in (int, float) and -_FARTHEST <= value <= _FARTHEST


def _check_unit(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse boxes that all lie in [0, 1]: taken as pixels, they would just score nothing."""
    boxes = [entry["bbox"] for entry in entries]
    if any(w > 0 and h > 0 for _, _, w, h in boxes) and max(map(max, boxes)) <= 1:
        raise DataError(
            f"{path}: all boxes lie in [0, 1], as {shown(boxes[0])} does; COCO results are in "
            "pixels: multiply x and width by the image's width, y and height by its height"
        )


class _Classes:
    """Finds the label of a detection by the names and numbers that a data set knows."""

    def __init__(self, dataset: DetectionSet) -> None:
        self.labels = {name: k for k, name in enumerate(dataset.classes)}
        self.categories: Mapping[Any, int | None] = dataset.categories
        self.renamed = dataset.own_names
        self.subset = any(name not in self.labels for name in self.renamed.values())

    def find(self, entry: Mapping[str, Any], where: str) -> tuple[str | None, int | None]:
        """The name that an entry gives, and its label; None for a class that is left out."""
        name = entry.get("category_name")
        if name is None:
            return None, self._numbered(entry.get("category_id"), where)
        if isinstance(name, str):
            label = self.labels.get(name, self.labels.get(self.renamed.get(name, name)))
            if label is not None or name in self.renamed or self.subset:
                return name, label
        raise DataError(
            f"{where}: category_name {shown(name)} is no class of the data set: it has "
            f"{', '.join(self.labels)}"
        )

    def _numbered(self, value: Any, where: str) -> int | None:
        number = as_id(value)
        if self.categories:
            if number is None or number not in self.categories:
                raise DataError(
                    f"{where}: category_id is {shown(value)}, which the data set does not have (or "
                    "give category_name)"
                )
            return self.categories[number]
        if not isinstance(number, int) or not 1 <= number <= len(self.labels):
            raise DataError(
                f"{where}: category_id is {shown(value)}; it counts from 1 to {len(self.labels)} "
                f"in the order {', '.join(self.labels)} (or give category_name)"
            )
        return number - 1
