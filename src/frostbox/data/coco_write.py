"""The typed form to COCO JSON; `coco.py` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from frostbox.data.annotations import Box, DetectionSet, in_id_order
from frostbox.data.coco_unread import OWN_INFO

_DIGITS = 9  # decimals of a pixel that the sum of corner and size keeps


def write_coco(path: Path, dataset: DetectionSet, names: Sequence[str]) -> None:
    """Write a split as COCO JSON; `coco.read_coco` gives the same objects, flags and ids back.

    Ids of images, categories and annotations are kept where the data set has them all and each
    once, else counted from 1.

    Args:
        path: of the file. names: `file_name` of each image, relative to the photos' folder.
    """
    numbers = image_numbers(dataset)
    ids = category_ids(dataset)
    images = [
        {"id": number, "file_name": name, "width": image.width, "height": image.height}
        for number, name, image in zip(numbers, names, dataset.images, strict=True)
    ]
    content = {
        "info": {"description": f"{dataset.name} {dataset.split}{OWN_INFO}"},
        "images": images,
        "annotations": list(_annotations(dataset, numbers, ids)),
        "categories": [
            {"id": ids[k], "name": name, "supercategory": ""}
            for k, name in enumerate(dataset.classes)
        ],
    }
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def image_numbers(dataset: DetectionSet) -> list[int | str]:
    """The id of each image: the data set's own, or counted from 1."""
    return _own_or_counted([image.number for image in dataset.images])


def object_numbers(dataset: DetectionSet) -> list[int | str]:
    """The id of each object, image by image: the data set's own, or counted from 1."""
    return _own_or_counted([obj.number for image in dataset.images for obj in image.objects])


def _own_or_counted(own: Sequence[int | str | None]) -> list[int | str]:
    known = [number for number in own if number is not None]
    return known if len(set(known)) == len(own) else list(range(1, len(own) + 1))


def category_ids(dataset: DetectionSet) -> list[int]:
    """The category id of each label: the data set's own, or counted from 1."""
    own = dataset.label_numbers()
    in_order = [own.get(k, -1) for k in range(len(dataset.classes))]
    if len(own) == len(dataset.classes) and sorted(in_order, key=in_id_order) == in_order:
        return in_order
    return list(range(1, len(dataset.classes) + 1))


def _annotations(
    dataset: DetectionSet, numbers: Sequence[Any], ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    own = iter(object_numbers(dataset))
    for number, image in zip(numbers, dataset.images, strict=True):
        for obj in image.objects:
            bbox = xywh(obj.box)
            entry = {
                "id": next(own),
                "image_id": number,
                "category_id": ids[dataset.label(obj)],
                "bbox": bbox,
                "area": bbox[2] * bbox[3] if obj.area is None else obj.area,
                "iscrowd": int(obj.crowd),
            }
            flags: dict[str, Any] = {
                flag: True for flag in ("difficult", "truncated", "occluded") if getattr(obj, flag)
            }
            if obj.pose != "Unspecified":
                flags["pose"] = obj.pose
            yield {**entry, "attributes": flags} if flags else entry


def xywh(box: Box) -> list[float]:
    """The box as COCO's, with the shortest sizes that give the same corners back."""
    xmin, ymin, xmax, ymax = box
    return [_short(xmin), _short(ymin), _size(xmin, xmax), _size(ymin, ymax)]


def _size(low: float, high: float) -> float:
    exact = high - low
    for digits in range(_DIGITS + 1):
        size = round(exact, digits)
        if round(low + size, _DIGITS) == high:
            return _short(size)
    return exact


def _short(value: float) -> float:
    return int(value) if value == int(value) else value
