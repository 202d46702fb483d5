"""Large pictures in overlapping tiles: small objects at the size that the network learned.

The whole picture is predicted too, for what is larger than a tile. Boxes of all of them are merged:

1. A box that an inner edge of its tile cuts off gives way to a box of its class that is whole and
   covers more than half of it, whatever the scores.
2. Of the rest, class-wise NMS at the detector's own IoU, and so does a cut box, by the share of the
   smaller one: two parts of one object have little in common.

An object up to the overlap in size is whole in one tile at least. supervision's InferenceSlicer has
neither the whole picture nor the first rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.sources import Source, one_ahead, pixels, read_ahead

Rectangle = tuple[int, int, int, int]
OVERLAP = 0.25  # of a tile's side
_EDGE = 2.0  # pixels: a box that ends so near to an inner edge is cut off by it
_COVERED = 0.5


def predict_tiled(
    detector: Detector, images: Iterable[Source], *, skip: bool = False, **selection: Any
) -> Iterator[tuple[int, Detections]]:
    """Like `Detector.predict_stream`, in tiles of the network's size and as a whole.

    The next picture is decoded while the tiles of one are predicted.

    Args:
        images: pictures of any size; one that is no larger than a tile has none.
        skip, selection: as of `Detector.predict_stream`; at most `max_detections` in each tile.
    """
    iou = detector.settings.selection.changed(**selection).nms
    for [row], [(picture, size)] in one_ahead(read_ahead(images, pixels, 1, skip=skip)):
        tiles = tile_rectangles(size, detector.settings.size)
        parts: list[Tensor] = [picture]
        parts += [picture[:, y1:y2, x1:x2] for x1, y1, x2, y2 in tiles]
        found = detector.predict(parts, **selection)
        yield row, merge(found, [(0, 0, *size), *tiles], iou)


def tile_rectangles(
    size: tuple[int, int], tile: tuple[int, int], overlap: float = OVERLAP
) -> list[Rectangle]:
    """Tiles that cover a picture, evenly spread, none over its border.

    Args:
        size, tile: (width, height) in pixels. overlap: of neighbours, at least, as a share.

    Returns:
        (xmin, ymin, xmax, ymax) by rows; [] where the picture is no larger than a tile.
    """
    if size[0] <= tile[0] and size[1] <= tile[1]:
        return []
    columns, rows = (_starts(size[k], tile[k], overlap) for k in (0, 1))
    return [
        (x, y, min(x + tile[0], size[0]), min(y + tile[1], size[1])) for y in rows for x in columns
    ]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil((length - overlap * side) / (side - overlap * side))
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def merge(found: list[Detections], rectangles: list[Rectangle], iou: float | None) -> Detections:
    """Detections of the parts of a picture as those of the picture; see the head of the file.

    Args:
        found: of each part, in its own pixels. rectangles: where the parts lie; the first is the
            whole picture.
        iou: of the NMS; None to keep all.
    """
    size = rectangles[0][2:]
    boxes, cut = [], []
    for part, rectangle in zip(found, rectangles, strict=True):
        moved = part.boxes + np.array(rectangle[:2] * 2, dtype=np.float32)
        boxes.append(moved)
        cut.append(_cut_off(moved, rectangle, size))
    everything = Detections.create(
        np.concatenate(boxes),
        np.concatenate([part.scores for part in found]),
        np.concatenate([part.labels for part in found]),
        found[0].class_names,
        size,
    )
    if iou is None:
        return everything
    order = np.argsort(-np.concatenate([part.scores for part in found]), kind="stable")
    is_cut = np.concatenate(cut)[order]
    whole, parts = (everything.subset(np.flatnonzero(is_cut == k)) for k in (False, True))
    whole = whole.subset(_nms(whole, iou))
    parts = parts.subset(np.flatnonzero(~_covered(parts, whole)))
    parts = parts.subset(_best_parts(parts))
    return Detections.create(
        np.concatenate((whole.boxes, parts.boxes)),
        np.concatenate((whole.scores, parts.scores)),
        np.concatenate((whole.labels, parts.labels)),
        whole.class_names,
        size,
    )


def _cut_off(
    boxes: NDArray[np.float32], rectangle: Rectangle, size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Which boxes (N, 4) end at an edge of their tile that is no border of the picture."""
    inner = np.array(
        [rectangle[0] > 0, rectangle[1] > 0, rectangle[2] < size[0], rectangle[3] < size[1]]
    )
    near = np.abs(boxes - np.array(rectangle, dtype=np.float32)) <= _EDGE
    cut: NDArray[np.bool_] = np.any(near & inner, axis=1)
    return cut


def _nms(found: Detections, iou: float) -> NDArray[np.int64]:
    kept: NDArray[np.int64] = batched_nms(
        torch.from_numpy(found.boxes), torch.from_numpy(found.scores),
        torch.from_numpy(found.labels), iou,
    ).numpy()  # fmt: skip
    return kept


def _shares(a: Detections, b: Detections) -> NDArray[np.float32]:
    """Of each box of `a` (N), the share that each box of `b` (M) of its class covers: (N, M)."""
    low = np.maximum(a.boxes[:, None, :2], b.boxes[None, :, :2])
    high = np.minimum(a.boxes[:, None, 2:], b.boxes[None, :, 2:])
    areas = np.maximum(np.prod(a.boxes[:, 2:] - a.boxes[:, :2], axis=1), 1e-6)
    shared: NDArray[np.float32] = np.prod(np.maximum(high - low, 0), axis=2) / areas[:, None]
    return np.where(a.labels[:, None] == b.labels[None], shared, np.float32(0))


def _covered(parts: Detections, whole: Detections) -> NDArray[np.bool_]:
    covered: NDArray[np.bool_] = np.any(_shares(parts, whole) > _COVERED, axis=1)
    return covered


def _best_parts(parts: Detections) -> NDArray[np.int64]:
    """Rows of the parts that stay: the best, then those that overlap none of them by much."""
    shares = _shares(parts, parts)
    smaller = np.maximum(shares, shares.T)
    kept: list[int] = []
    for k in range(len(parts)):
        if not kept or smaller[k, kept].max() <= _COVERED:
            kept.append(k)
    return np.array(kept, dtype=np.int64)
