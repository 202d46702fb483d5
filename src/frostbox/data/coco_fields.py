"""The fields of COCO's entries, one by one: which values are taken, and as what.

Exports by way of pandas or a spreadsheet turn ids into decimals (1.0) where a column has gaps;
scripts write shares of the sides where COCO has pixels. Both are read as they are meant.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeGuard

from frostbox.data.annotations import LARGEST_SIDE, Box, ObjectAnnotation

DIGITS = 9
"""Decimals of a pixel that the sum of corner and size keeps."""
SMALLEST = 2
"""Pixels of a side; in a picture no larger, boxes in [0, 1] may be pixels."""


def as_id(value: Any) -> int | str | None:
    """An id as it is meant: a whole number also where it is written 1.0; None for what is none."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) in (int, str) else None


def other_kind(value: Any, known: Collection[Any]) -> str:
    """A remark on an id that is known as text where it is a number, or the other way round."""
    if type(value) is int and str(value) in known:
        return f" (the id {str(value)!r} is text)"
    if type(value) is str and value.isdecimal() and int(value) in known:
        return f" (the id {int(value)} is a number)"
    return ""


def file_name(entry: Mapping[str, Any]) -> str:
    """Name of an image's file, that of its address on the web without one; may be empty."""
    return str(entry.get("file_name") or entry.get("coco_url") or "")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, and no bool."""
    # An int beyond a float has no business here, and math.isfinite raises on it.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_side(value: Any) -> TypeGuard[float]:
    """Whether a value is a width or height in whole pixels."""
    return is_number(value) and 0 < value <= LARGEST_SIDE and value == int(value)


def is_box(bbox: Any) -> TypeGuard[list[float]]:
    """Whether a value is a list of four numbers."""
    return isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox))


def far(low: float, size: float) -> float:
    """The other corner, without the last binary digits of a sum."""
    return round(float(low + size), DIGITS)


def in_shares(
    annotations: Iterable[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]
) -> bool:
    """Whether boxes are shares of the images' sides: all lie in [0, 1], and some have an area.

    Args:
        annotations: of one file. sizes: (width, height) of each image, by id.
    """
    areas = False
    for entry in annotations:
        bbox = entry.get("bbox")
        if not is_box(bbox):
            continue
        if min(bbox) < 0 or max(bbox) > 1:
            return False
        areas = areas or (bbox[2] > 0 and bbox[3] > 0)
    # An image whose size is a fault that the doctor gathers has none.
    return areas and all(min(size) > SMALLEST for size in sizes.values() if any(size))


def in_pixels(entry: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """An annotation whose box, and area where it is one too, are shares of these sides."""
    x, y, width, height = entry["bbox"]
    bbox = [x * size[0], y * size[1], width * size[0], height * size[1]]
    area = entry.get("area")
    if is_number(area) and area <= 1:
        area = area * size[0] * size[1]
    return {**entry, "bbox": [round(value, DIGITS) for value in bbox], "area": area}


def as_object(entry: Mapping[str, Any], name: str, box: Box) -> ObjectAnnotation:
    """The typed form of an annotation, whose box has been fitted."""
    attributes = entry.get("attributes")
    flags = {**entry, **attributes} if isinstance(attributes, dict) else entry
    area, pose = entry.get("area"), flags.get("pose")
    if area == entry["bbox"][2] * entry["bbox"][3]:
        area = None  # it says no more than the box
    return ObjectAnnotation(
        name=name,
        box=box,
        difficult=flags.get("difficult") in (True, 1) or flags.get("ignore") in (True, 1),
        truncated=flags.get("truncated") in (True, 1),
        occluded=flags.get("occluded") in (True, 1),
        pose=pose if isinstance(pose, str) and pose else "Unspecified",
        crowd=entry.get("iscrowd") in (True, 1),
        area=float(area) if is_number(area) and area >= 0 else None,
        number=as_id(entry.get("id")),
    )
