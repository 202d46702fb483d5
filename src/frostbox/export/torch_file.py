"""The PyTorch file: a torch.export program (.pt2) that needs torch and torchvision, no frostbox."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision  # noqa: F401 (registers the NMS that the program calls)
from torch import Tensor, nn

from frostbox.detector import Detector
from frostbox.export.onnx_parts import LARGEST, MOST_BITS
from frostbox.export.plan import INPUT, KEY, Dense, Plan

_BATCH, _SIDE = 1 << 16, 1 << 16  # at most so many images, and pixels a side


class Program(nn.Module):
    """uint8 images (B, H, W, 3) to boxes, scores, labels and counts, as plan.metadata says.

    The same steps as onnx_parts.py, in the same order; see there for the resize.
    """

    thresholds: Tensor

    def __init__(self, detector: Detector, plan: Plan, *, flip: bool) -> None:
        super().__init__()
        self.net, self.plan = Dense(detector, flip=flip), plan
        self.register_buffer("thresholds", torch.tensor(plan.thresholds))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        p = self.plan
        (width, height), (rows, columns) = p.size, images.shape[1:3]
        x = _Axis(p.resize, columns, rows, width, height)
        y = _Axis(p.resize, rows, columns, height, width)
        boxes, scores = self.net(self.resized(images, x, y))
        return self.selected(boxes, scores, x, y)

    def resized(self, images: Tensor, x: _Axis, y: _Axis) -> Tensor:
        """What the net sees: float (B, 3, h, w), whole numbers from 0 to 255."""
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = (pixels @ x.weights(images).T + 0.5).floor()
        pixels = (y.weights(images) @ pixels + 0.5).floor()
        if self.plan.resize == "shrink":
            return pixels
        shown = y.shown(images)[:, None] & x.shown(images)
        return torch.where(shown, pixels, float(self.plan.fill))

    def selected(
        self, boxes: Tensor, scores: Tensor, x: _Axis, y: _Axis
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the program gives, of dense boxes and scores."""
        p, classes = self.plan, len(self.plan.classes)
        flat = torch.where(scores >= self.thresholds, scores, -1.0).flatten(1)
        order = flat.sort(dim=1, descending=True, stable=True).indices[:, : p.candidates]
        best, labels = flat.gather(1, order), order % classes
        boxes = boxes.gather(1, (order // classes)[..., None].expand(-1, -1, 4))
        there = best >= 0
        if p.nms is not None:
            there = self._kept(boxes, labels, there)
        # What stays keeps its order and comes first.
        place = there.logical_not().to(torch.uint8).sort(dim=1, stable=True).indices
        place = place[:, : p.detections]
        there, labels, best = (t.gather(1, place) for t in (there, labels, best))
        if p.temperature is not None:
            inner = best.clamp(1e-6, 1 - 1e-6)
            best = (inner.logit() / p.temperature).sigmoid()
        boxes = boxes.gather(1, place[..., None].expand(-1, -1, 4))
        corners = []
        for k, (axis, side) in enumerate(((x, p.size[0]), (y, p.size[1])) * 2):
            moved = (boxes[..., k] * side - axis.offset) / (axis.inner / axis.length)
            corners.append(moved.clamp(min=0).minimum(torch.full_like(moved, axis.length)))
        found = torch.where(there[..., None], torch.stack(corners, -1), 0.0)
        labels = torch.where(there, labels, -1)
        return found, torch.where(there, best, 0.0), labels, there.sum(1)

    def _kept(self, boxes: Tensor, labels: Tensor, there: Tensor) -> Tensor:
        """(B, candidates): what the suppression leaves of what is there."""
        p, count = self.plan, boxes.shape[0]
        group = torch.arange(count, device=boxes.device)[:, None].expand_as(labels)
        if not p.agnostic:
            group = group * len(p.classes) + labels
        # Side by side, groups cannot overlap; in float64 that costs no digit of a box.
        apart = (boxes.double() + 2.0 * group[..., None]).flatten(0, 1)
        # Two more that stay: a program is not traced for fewer than two rows.
        more = torch.tensor([[-2.0, -2.0, -1.0, -1.0], [-4.0, -4.0, -3.0, -3.0]])
        apart = torch.cat((apart, more.to(apart)))
        present = torch.cat((there.flatten(), there.new_ones(2)))
        rows = present.nonzero().squeeze(1)
        # By rank within the image: the best candidate of each has the highest.
        ranks = torch.arange(p.candidates, 0, -1, device=boxes.device, dtype=torch.float64)
        rank = torch.cat((ranks.expand(count, -1).flatten(), ranks.new_ones(2)))
        stays = torch.ops.torchvision.nms(apart[rows], rank[rows], p.nms)
        kept = torch.zeros_like(present)
        kept = kept.index_put((rows[stays],), torch.ones_like(stays, dtype=torch.bool))
        return kept[:-2].view(there.shape)


class _Axis:
    """One side of the images and of the net's input; see onnx_parts._Axis. Sizes may be symbols."""

    def __init__(self, mode: str, length: int, other: int, side: int, other_side: int) -> None:
        self.length, self.side = length, side
        self.inner: Any = side
        self.offset: Any = 0
        if mode == "crop":
            more, less = torch.sym_max(length - side, 0), torch.sym_max(side - length, 0)
            half = more // 2
            self.inner, self.offset = length, less // 2 - half - (more % 2) * (half % 2)
        elif mode == "letterbox":
            halves = 2 * length * other_side + other
            up = halves // (2 * other)
            tie = 1 - torch.sym_min(halves % (2 * other), 1)
            even = up - tie * (up % 2)
            self.inner = torch.sym_max(torch.sym_min(even, side), 1)
            self.offset = (side - self.inner) // 2

    def weights(self, like: Tensor) -> Tensor:
        """(side, length): of the image's pixels for each of the input."""
        step: Any = self.length / self.inner
        reach = torch.sym_max(step, 1.0)
        places = torch.arange(self.side, device=like.device, dtype=torch.float64)
        centres = (places + 0.5 - self.offset) * step
        pixels = torch.arange(self.length, device=like.device, dtype=torch.float64) + 0.5
        weights = (1 - (pixels - centres[:, None]).abs() / reach).clamp(min=0)
        weights = weights * self.shown(like)[:, None]
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
        unit: Tensor = (LARGEST / weights.max()).log2().floor().clamp(max=MOST_BITS).exp2()
        whole: Tensor = (weights * unit + 0.5).floor()
        return (whole / unit).float()

    def shown(self, like: Tensor) -> Tensor:
        """(side,): whether pixels of the input show the image."""
        places: Tensor = torch.arange(self.side, device=like.device) - self.offset
        shown: Tensor = (places >= 0) & (places < self.inner)
        return shown


def program(detector: Detector, plan: Plan, *, flip: bool) -> torch.export.ExportedProgram:
    """The program; batch, height and width are dynamic."""
    width, height = plan.size
    example = torch.zeros(2, height + 3, width + 5, 3, dtype=torch.uint8)
    dims = {
        0: torch.export.Dim("batch", min=1, max=_BATCH),
        1: torch.export.Dim("height", min=1, max=_SIDE),
        2: torch.export.Dim("width", min=1, max=_SIDE),
    }
    module = copy.deepcopy(Program(detector, plan, flip=flip)).cpu().eval().requires_grad_(False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(module, (example,), dynamic_shapes={INPUT: dims})


def write(made: torch.export.ExportedProgram, path: Path, known: str) -> None:
    """Write the program with its metadata, an extra file inside."""
    torch.export.save(made, path, extra_files={KEY: known})
