"""Boxes as pure tensor functions: encodings for grid and anchors, and the choice of detections.

Formats and IoU come from torchvision.ops (`box_convert`, `box_iou`); nothing of them is rewritten.
Boxes are (..., 4) float tensors. "normalised" means divided by image width and height.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from frostbox.suppression import suppress


def cell_of(centres: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row and column of the grid cell that hosts each centre.

    Args:
        centres: (N, 2) normalised (cx, cy). A centre at exactly 1.0 belongs to the last cell.

    Returns:
        (N,) int64 rows and (N,) int64 columns.
    """
    column = (centres[:, 0] * columns).floor().long().clamp(0, columns - 1)
    row = (centres[:, 1] * rows).floor().long().clamp(0, rows - 1)
    return row, column


def encode_grid(
    boxes: Tensor, labels: Tensor, rows: int, columns: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Write each box into the cell that hosts its centre (YOLO, Redmon et al. 2016, section 2).

    The centre is stored relative to the cell, the size relative to the image. When several
    centres fall into one cell the box with the larger area is kept (the first of equal ones).

    Args:
        boxes: (N, 4) normalised (cx, cy, w, h); labels: (N,) integers.

    Returns:
        boxes (4, rows, columns), has_obj uint8 (rows, columns), labels int32 (rows, columns);
        zeros in cells without a centre.
    """
    grid_boxes = boxes.new_zeros((4, rows, columns))
    has_obj = torch.zeros((rows, columns), dtype=torch.uint8)
    grid_labels = torch.zeros((rows, columns), dtype=torch.int32)
    # Small to large, so that the larger one is written last; of equal areas the first one.
    order = torch.argsort(boxes[:, 2] * boxes[:, 3], descending=True, stable=True).flip(0)
    row, column = cell_of(boxes[:, :2], rows, columns)
    for k in order.tolist():
        i, j = int(row[k]), int(column[k])
        cx, cy, width, height = boxes[k].unbind()
        grid_boxes[:, i, j] = torch.stack((cx * columns - j, cy * rows - i, width, height))
        has_obj[i, j] = 1
        grid_labels[i, j] = int(labels[k])
    return grid_boxes, has_obj, grid_labels


def decode_grid(grid: Tensor) -> Tensor:
    """Undo `encode_grid` for every cell.

    Args:
        grid: (B, 4, rows, columns), centre relative to the cell, size relative to the image.

    Returns:
        (B, rows * columns, 4) normalised (cx, cy, w, h), row by row.
    """
    rows, columns = grid.shape[-2:]
    # Traced by exporters: arange follows the input's device and dtype.
    j = torch.arange(columns, device=grid.device, dtype=grid.dtype).view(1, 1, columns)
    i = torch.arange(rows, device=grid.device, dtype=grid.dtype).view(1, rows, 1)
    cx = (grid[:, 0] + j) / columns
    cy = (grid[:, 1] + i) / rows
    return torch.stack((cx, cy, grid[:, 2], grid[:, 3]), dim=-1).flatten(1, 2)


_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_LARGEST = 4.2 / _SIZE_VARIANCE  # exp(4.2) = 67 times the anchor; keeps a wild start finite


def encode_offsets(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes as what is to be predicted for their anchors (SSD, Liu et al. 2016, equation 2).

    Offset of the centre in sizes of the anchor, and the logarithm of the size in sizes of the
    anchor, divided by 0.1 and 0.2 as in the authors' code.

    Args:
        boxes: (..., 4) and anchors: (..., 4), (cx, cy, w, h) of positive sizes in one unit.

    Returns:
        (..., 4).
    """
    centre = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:] / _CENTRE_VARIANCE
    size = (boxes[..., 2:] / anchors[..., 2:]).log() / _SIZE_VARIANCE
    return torch.cat((centre, size), -1)


def decode_offsets(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Undo `encode_offsets`; (..., 4) (cx, cy, w, h). No box is over 67 times its anchor."""
    centre = anchors[..., :2] + offsets[..., :2] * _CENTRE_VARIANCE * anchors[..., 2:]
    size = (offsets[..., 2:].clamp(max=_LARGEST) * _SIZE_VARIANCE).exp() * anchors[..., 2:]
    return torch.cat((centre, size), -1)


def select(
    boxes: Tensor,
    scores: Tensor,
    *,
    threshold: float | Tensor,
    nms: float | None,
    suppression: str = "nms",
    max_detections: int = 300,
    max_candidates: int = 3000,
) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, suppression of duplicates, and the best `max_detections` of one image.

    A dense box gives one candidate for each class whose score reaches the threshold.

    Args:
        boxes: (A, 4) xyxy in any unit; scores: (A, K), one score a class.
        threshold: candidates with a lower score are left out; a number, or (K,), one a class.
        nms: IoU above which boxes count as of one object; None keeps all.
        suppression: what happens to them; see `suppression.suppress`.
        max_candidates: only so many of the best candidates enter the suppression, so that a
            picture never takes long.

    Returns:
        boxes (N, 4), scores (N,), labels int64 (N,), by descending score.
    """
    # In NumPy: on what is left of a picture, most of the time of a torch operation is its call.
    dense = scores.numpy(force=True)
    num_classes = dense.shape[1]
    limits = threshold.numpy(force=True) if isinstance(threshold, Tensor) else np.array(threshold)
    limits = np.broadcast_to(limits.astype(dense.dtype), num_classes)
    candidates = np.flatnonzero(dense >= limits)
    reached = dense.ravel()[candidates]
    if len(candidates) > max_candidates:
        # Only what can be among the best is sorted: an order of all takes longer than the rest.
        best = reached >= np.partition(reached, -max_candidates)[-max_candidates]
        candidates, reached = candidates[best], reached[best]
    order = np.argsort(-reached, kind="stable")[:max_candidates]
    places, classes = np.divmod(candidates[order], num_classes)
    boxes, scores, labels, lowest = (
        torch.from_numpy(array).to(scores.device)
        for array in (boxes.numpy(force=True)[places], reached[order], classes, limits[classes])
    )
    if nms is None or len(boxes) < 2:
        return boxes[:max_detections], scores[:max_detections], labels[:max_detections]
    return suppress(
        suppression, boxes, scores, labels, iou=nms, lowest=lowest, limit=max_detections
    )
