"""Annotations to the tensors that heads train on.

`targets` is the path of training: typed annotations, 0-based continuous boxes. Everything else
here is the classic path of the Pascal VOC practical, which reads the raw integers of the XML as
they stand, so that its published examples come out to the digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.transforms import Geometry
from frostbox.errors import DataError, SettingsError

__all__ = [
    "MIN_VISIBLE",
    "CentreBox",
    "ClassicObject",
    "encode_objects",
    "filter_largest",
    "preprocess_target",
    "target_to_tensor",
    "targets",
    "targets_to_grid_cell_tensor",
]


MIN_VISIBLE = 0.25
"""Share of an object's area that a view must still show; an object with less is not a target."""


class CentreBox(TypedDict):
    """Centre and size of a box, relative to the width and height of the image."""

    cx: float
    cy: float
    width: float
    height: float


# The functional form, because "class" is a keyword and cannot be a field of a class.
ClassicObject = TypedDict("ClassicObject", {"bndbox": CentreBox, "class": int})
"""One object of the classic path: its box, and the index of its class."""


def targets(
    image: ImageAnnotation,
    dataset: DetectionSet,
    geometry: Geometry,
    *,
    difficult: bool = True,
    min_visible: float = MIN_VISIBLE,
) -> dict[str, Tensor]:
    """The objects of an image after its transform, without crowds, which are no objects.

    Args:
        image: an image of `dataset`.
        dataset: gives the label of each name.
        geometry: what is done to the picture; its `original` is the size of the annotation.
        difficult: whether objects marked difficult are kept.
        min_visible: objects with less than this share of their area in the output are dropped.

    Returns:
        `boxes` float32 (n, 4), centre and size in [0, 1] of the output, clipped to what it shows;
        `labels` int64 (n,); `difficult` bool (n,). n is 0 for an image without objects.

    Raises:
        SettingsError: the geometry is for another size of picture.
    """
    if geometry.original != (image.width, image.height):
        raise SettingsError(
            f"{image.source} is {image.width} x {image.height} pixels and the geometry is for "
            f"{geometry.original[0]} x {geometry.original[1]}; make one for this picture."
        )
    objects = [o for o in image.objects if not o.crowd and (difficult or not o.difficult)]
    # float64 until the end: whole pixels divided by the image size round once, not three times.
    boxes = torch.tensor([obj.box for obj in objects], dtype=torch.float64).reshape(-1, 4)
    labels = torch.tensor([dataset.label(obj) for obj in objects], dtype=torch.int64)
    flags = torch.tensor([obj.difficult for obj in objects], dtype=torch.bool)
    moved = geometry.apply(boxes)
    clipped = _clip(moved, geometry)
    area = _area(clipped)
    keep = (area > 0) & (area >= min_visible * _area(moved))
    return {
        "boxes": _centre_and_size(clipped[keep], geometry).float(),
        "labels": labels[keep],
        "difficult": flags[keep],
    }


def preprocess_target(tree: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation with numbers as int, flags as bool and `object` (and `part`) always a list.

    Flags that the XML lacks are False and a missing pose is "Unspecified". Decimals, which some
    tools write, are rounded to whole pixels.

    Args:
        tree: `{'annotation': {...}}` of strings, as `read_annotation` gives it; not changed.

    Returns:
        A new nested dictionary `{'annotation': {...}}`.

    Raises:
        DataError: a size or coordinate that is not a number.
    """
    annotation = dict(tree["annotation"])
    where = str(annotation.get("filename", "annotation"))
    if annotation.get("size"):
        annotation["size"] = _numbers(annotation["size"], f"{where}: size")
    annotation["segmented"] = _truth(annotation.get("segmented"))
    annotation["object"] = [
        _preprocess_object(obj, where) for obj in _listed(annotation.get("object"))
    ]
    return {"annotation": annotation}


def encode_objects(
    tree: Mapping[str, Any], class_names: Sequence[str], geometry: Geometry
) -> list[ClassicObject]:
    """The objects of a preprocessed annotation as centre and size after the image transform.

    The raw integers of the XML are taken as continuous coordinates, without a shift, as the
    practical does. Boxes are clipped to the output; those fully outside it are dropped.

    Args:
        tree: what `preprocess_target` returns.
        class_names: an object's class is its name's index here.
        geometry: what is done to the picture.

    Returns:
        One `{'bndbox': {'cx', 'cy', 'width', 'height'}, 'class': int}` an object, in [0, 1].
    """
    objects = tree["annotation"]["object"]
    index = {name: k for k, name in enumerate(class_names)}
    raw = [[obj["bndbox"][k] for k in ("xmin", "ymin", "xmax", "ymax")] for obj in objects]
    boxes = torch.tensor(raw, dtype=torch.float64).reshape(-1, 4)
    clipped = _clip(geometry.apply(boxes), geometry)
    kept = (_area(clipped) > 0).tolist()
    encoded: list[ClassicObject] = []
    rows = _centre_and_size(clipped, geometry).tolist()
    for obj, inside, (cx, cy, width, height) in zip(objects, kept, rows, strict=True):
        if inside:
            box: CentreBox = {"cx": cx, "cy": cy, "width": width, "height": height}
            encoded.append({"bndbox": box, "class": index[obj["name"]]})
    return encoded


def filter_largest(objects: Sequence[ClassicObject]) -> ClassicObject:
    """The object with the largest box area; of equals the first.

    Raises:
        DataError: the list is empty.
    """
    if not objects:
        raise DataError("the list of objects is empty, so none is the largest; skip such images.")
    return max(objects, key=_box_area)


def target_to_tensor(obj: ClassicObject) -> dict[str, Tensor]:
    """One object as tensors.

    Returns:
        `bboxes` float32 (4,), cx, cy, width, height relative to the image; `labels` int64 (1,).
    """
    return {
        "bboxes": torch.tensor(_row(obj), dtype=torch.float32),
        "labels": torch.tensor([obj["class"]], dtype=torch.int64),
    }


def targets_to_grid_cell_tensor(
    objects: Sequence[ClassicObject], num_cells: int
) -> dict[str, Tensor]:
    """Objects on a grid of `num_cells` x `num_cells`: the cell with a box's centre holds the box.

    When several centres fall into one cell the object with the larger area is kept, of equals the
    first. A centre at exactly 1.0 belongs to the last cell.

    Args:
        objects: boxes relative to the image, centres in [0, 1].
        num_cells: rows and columns of the grid.

    Returns:
        `bboxes` float32 (4, n, n): centre relative to the cell, width and height relative to the
        image; `has_obj` uint8 (n, n): 1 in cells that hold an object; `labels` int32 (n, n).
        Zeros elsewhere; rows come first, so cell (row, column) is `[..., row, column]`.

    Raises:
        SettingsError: `num_cells` is below 1.
        DataError: a centre outside [0, 1].
    """
    if num_cells < 1:
        raise SettingsError(f"num_cells is {num_cells}; give at least 1.")
    bboxes = torch.zeros((4, num_cells, num_cells), dtype=torch.float32)
    has_obj = torch.zeros((num_cells, num_cells), dtype=torch.uint8)
    labels = torch.zeros((num_cells, num_cells), dtype=torch.int32)
    # Largest first, of equals in their order; a cell that is taken stays as it is.
    for obj in sorted(objects, key=_box_area, reverse=True):
        cx, cy, width, height = _row(obj)
        if not (0 <= cx <= 1 and 0 <= cy <= 1):
            raise DataError(
                f"bndbox has its centre at ({cx:g}, {cy:g}), outside [0, 1]; divide boxes by the "
                "width and height of the image."
            )
        row = min(int(cy * num_cells), num_cells - 1)
        column = min(int(cx * num_cells), num_cells - 1)
        if has_obj[row, column]:
            continue
        inside = (cx * num_cells - column, cy * num_cells - row, width, height)
        bboxes[:, row, column] = torch.tensor(inside, dtype=torch.float32)
        has_obj[row, column] = 1
        labels[row, column] = obj["class"]
    return {"bboxes": bboxes, "has_obj": has_obj, "labels": labels}


def _clip(boxes: Tensor, geometry: Geometry) -> Tensor:
    left, top, right, bottom = geometry.shown()
    low, high = boxes.new_tensor((left, top) * 2), boxes.new_tensor((right, bottom) * 2)
    return torch.minimum(torch.maximum(boxes, low), high)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _centre_and_size(boxes: Tensor, geometry: Geometry) -> Tensor:
    low, high = boxes[:, :2], boxes[:, 2:]
    size = boxes.new_tensor(geometry.output * 2)
    return torch.cat(((low + high) / 2, high - low), dim=1) / size


def _row(obj: ClassicObject) -> tuple[float, float, float, float]:
    box = obj["bndbox"]
    return box["cx"], box["cy"], box["width"], box["height"]


def _box_area(obj: ClassicObject) -> float:
    return obj["bndbox"]["width"] * obj["bndbox"]["height"]


def _preprocess_object(obj: Mapping[str, Any], where: str) -> dict[str, Any]:
    result = {**obj, "bndbox": _numbers(obj["bndbox"], f"{where}: bndbox")}
    for flag in ("truncated", "occluded", "difficult"):
        result[flag] = _truth(obj.get(flag))
    result["pose"] = obj.get("pose") or "Unspecified"
    if "part" in obj:
        result["part"] = [
            {**part, "bndbox": _numbers(part.get("bndbox", {}), f"{where}: part/bndbox")}
            for part in _listed(obj["part"])
        ]
    return result


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list) else [value]


def _numbers(fields: Mapping[str, str], where: str) -> dict[str, int]:
    numbers = {}
    for key, value in fields.items():
        try:
            numbers[key] = round(float(value))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where}/{key} is {value!r}; write a number of pixels.") from error
    return numbers


def _truth(value: str | None) -> bool:
    return (value or "").strip().lower() in ("1", "true")
