"""Predictions of a split as a file, in the format of COCO's results: ours, or any other tool's.

A list of `{image_id, category_id, bbox, score}`; `bbox` is (x, y, width, height), 0-based and
continuous. `image_id` is the file stem, or a number whose digits are the stem's. `category_id`
counts from 1 in the order of the classes; `category_name` is taken where it is present.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.detections import Detections
from frostbox.errors import DataError, NotFoundError
from frostbox.evaluation import Predictions

_FIELDS = ("image_id", "bbox", "score")


def write_predictions(predictions: Predictions, path: Path) -> Path:
    """Write all detections, `category_name` included. Returns the path."""
    entries = [
        {
            "image_id": image.image_id,
            "category_id": int(label) + 1,
            "category_name": found.class_names[label],
            # The shortest text that reads back as the same float32.
            "bbox": [float(str(v)) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
            "score": float(str(score)),
        }
        for image, found in zip(predictions.images, predictions.found, strict=True)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
    path.write_text(json.dumps(entries, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def read_predictions(path: Path, dataset: DetectionSet) -> tuple[Predictions, int]:
    """The detections of a file for the images of a split.

    Images without any detection count too; images without a photo only when the file has
    detections of them, or when there are no photos at all (nobody can have predicted them).

    Returns:
        The predictions, and how many detections belong to other images.

    Raises:
        NotFoundError: no such file.
        DataError: no JSON list of detections (the entry and its field are named), a class that the
            data set does not have, or no detection for any image of the split.
    """
    if not path.exists():
        raise NotFoundError(f"{path} does not exist: give a model, or a file of predictions")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}): give predictions as COCO results") from None
    if not isinstance(entries, list):
        raise DataError(f"{path} is no list: COCO results are a list of detections")
    by_stem = {image.image_id: k for k, image in enumerate(dataset.images)}
    by_number = _numbers(dataset.images)
    rows: list[list[tuple[list[float], float, int]]] = [[] for _ in dataset.images]
    outside = 0
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        _check(entry, where)
        label = _label(entry, dataset, where)
        image_id = entry["image_id"]
        k = by_stem.get(str(image_id))
        if k is None and not isinstance(image_id, str):
            k = by_number.get(image_id)
        if k is None:
            outside += 1
            continue
        x, y, width, height = entry["bbox"]
        rows[k].append(([x, y, x + width, y + height], entry["score"], label))
    if entries and outside == len(entries):
        raise DataError(
            f"{path} has no detection for any image of '{dataset.split}' of {dataset.root}: its "
            f"first image_id is {entries[0]['image_id']!r}, the split's is "
            f"{dataset.images[0].image_id!r}; give the split that was predicted"
        )
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
    return Predictions(tuple(image for image, _ in counted), found, {}), outside


def _numbers(images: Sequence[ImageAnnotation]) -> dict[int, int]:
    """Number of the stem -> index, where stems are digits, or digits around underscores."""
    numbers: dict[int, int] = {}
    for k, image in enumerate(images):
        digits = image.image_id.replace("_", "")
        if digits.isdecimal():
            if int(digits) in numbers:  # 1 and 001: a number names neither
                return {}
            numbers[int(digits)] = k
    return numbers


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where} is {entry!r}: it must be an object with {', '.join(_FIELDS)}")
    for name in _FIELDS:
        if name not in entry:
            raise DataError(f"{where} has no {name}: COCO results have {', '.join(_FIELDS)}")
    box, score, image_id = entry["bbox"], entry["score"], entry["image_id"]
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(v) for v in box)):
        raise DataError(f"{where}: bbox is {box!r}; it must be [x, y, width, height] in pixels")
    if min(box[2:]) < 0:
        raise DataError(f"{where}: bbox is {box!r}; width and height must not be negative")
    if not (_is_number(score) and 0 <= score <= 1):
        raise DataError(f"{where}: score is {score!r}; it must be a number from 0 to 1")
    if not isinstance(image_id, (int, str)) or isinstance(image_id, bool):
        raise DataError(f"{where}: image_id is {image_id!r}; it must be a number or a file stem")


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and bool(np.isfinite(value))


def _label(entry: Mapping[str, Any], dataset: DetectionSet, where: str) -> int:
    name, number = entry.get("category_name"), entry.get("category_id")
    if name is not None:
        if name not in dataset.classes:
            raise DataError(
                f"{where}: category_name {name!r} is no class of the data set: it has "
                f"{', '.join(dataset.classes)}"
            )
        return dataset.classes.index(name)
    if not isinstance(number, int) or not 1 <= number <= len(dataset.classes):
        raise DataError(
            f"{where}: category_id is {number!r}; it counts from 1 to {len(dataset.classes)} in "
            f"the order {', '.join(dataset.classes)} (or give category_name)"
        )
    return number - 1
