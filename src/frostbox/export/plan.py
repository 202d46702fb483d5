"""What an exported file does besides running the net, in numbers: the same for all formats."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frostbox._version import __version__
from frostbox.data.transforms import Geometry, geometry
from frostbox.detector import Detector
from frostbox.errors import SettingsError
from frostbox.heads import settings_of
from frostbox.metrics.calibration import scale
from frostbox.selection import Selection

FORMAT_VERSION = 1
"""Of the metadata in an exported file."""
KEY = "frostbox"
"""The name under which a file holds its metadata."""
INPUT, OUTPUTS = "images", ("boxes", "scores", "labels", "counts")
CANDIDATES = 3000  # as boxes.select: only so many of the best enter the suppression
IN_GRAPH = ("nms", "agnostic")


@dataclass(frozen=True)
class Plan:
    """Sizes, thresholds and rules of one export.

    Attributes:
        classes: names in label order.
        size: (width, height) of the net's input; resize: shrink, crop or letterbox.
        fill: value of input pixels that the picture does not cover.
        thresholds: lowest score of each class, before calibration.
        temperature: divides the scores' logits at the end; None to leave them.
        nms: IoU above which boxes count as of one object; None keeps all.
        agnostic: whether boxes of different classes suppress each other too.
        candidates, detections: at most so many in an image before and after the suppression.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    resize: str
    fill: int
    thresholds: tuple[float, ...]
    temperature: float | None
    nms: float | None
    agnostic: bool
    candidates: int
    detections: int

    @classmethod
    def create(cls, detector: Detector, selection: Selection) -> Plan:
        """The plan for a detector with a selection.

        Raises:
            SettingsError: a resize mode or a suppression that cannot be part of a graph.
        """
        s = detector.settings
        if s.resize == "none":
            raise SettingsError(
                "this detector takes pictures of any size as they are (resize none): a graph has "
                "one size inside; train with resize shrink, crop or letterbox"
            )
        if selection.suppression not in IN_GRAPH and selection.nms is not None:
            raise SettingsError(
                f"suppression {selection.suppression} cannot be part of a graph: choose one of "
                f"{', '.join(IN_GRAPH)} or none with --suppression"
            )
        count = _dense(detector, selection) * len(s.classes)
        temperature = selection.temperature if selection.calibrated else None
        thresholds = selection.class_thresholds or (selection.threshold,) * len(s.classes)
        if temperature is not None and selection.class_thresholds is None:
            # The threshold of calibrated scores is this one of the scores before.
            lowest = float(scale(selection.threshold, 1 / temperature))
            thresholds = (0.0 if selection.threshold == 0 else lowest,) * len(s.classes)
        candidates = min(CANDIDATES, count)
        return cls(
            classes=s.classes,
            size=s.size,
            resize=s.resize,
            fill=_fill(geometry(s.resize, (2 * s.size[0], s.size[1]), s.size)),
            thresholds=thresholds,
            temperature=temperature,
            nms=selection.nms,
            agnostic=selection.suppression == "agnostic",
            candidates=candidates,
            detections=min(selection.max_detections, candidates),
        )


def _fill(g: Geometry) -> int:
    assert isinstance(g.fill, int)
    return g.fill


def _dense(detector: Detector, selection: Selection) -> int:
    """Number of dense boxes an image."""
    width, height = detector.settings.size
    black = torch.zeros(1, 3, height, width, device=next(detector.parameters()).device)
    with torch.inference_mode():
        boxes, _ = Dense(detector, flip=selection.flip)(black)
    return int(boxes.shape[1])


class Dense(nn.Module):
    """Normalisation, backbone, head and decoding.

    Attributes:
        flip: whether the mirrored picture is looked at too; its boxes are added.
    """

    def __init__(self, detector: Detector, *, flip: bool) -> None:
        super().__init__()
        self.backbone, self.head, self.flip = detector.backbone, detector.head, flip

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, A, 4) normalised xyxy and scores (B, A, K) of float (B, 3, h, w), 0 to 255."""
        boxes, scores = self._decoded(pictures)
        if not self.flip:
            return boxes, scores
        mirrored, more = self._decoded(pictures.flip(3))
        x1, y1, x2, y2 = mirrored.unbind(-1)
        back = torch.stack((1 - x2, y1, 1 - x1, y2), -1)
        return torch.cat((boxes, back), 1), torch.cat((scores, more), 1)

    def _decoded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.head.decode(
            self.head(self.backbone(self.backbone.normalise(pictures)))
        )
        return found


def metadata(detector: Detector, selection: Selection, precision: str) -> str:
    """What stands in the file beside the graph, as JSON."""
    s, b = detector.settings, detector.backbone
    known: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "frostbox_version": __version__,
        "classes": s.classes,
        "input": {"name": INPUT, "layout": "batch, height, width, RGB", "type": "uint8"},
        "outputs": {
            "boxes": "float32 (batch, detections, 4): xmin, ymin, xmax, ymax, pixels of the image",
            "scores": "float32 (batch, detections), descending",
            "labels": "int64 (batch, detections), indices into classes; -1 where there is nothing",
            "counts": "int64 (batch,): so many of the detections are there",
        },
        "preprocessing": {"size": s.size, "resize": s.resize, "mean": b.mean, "std": b.std},
        "selection": selection.to_dict(),
        "precision": precision,
        "backbone": b.name,
        "head": {"name": detector.head_name, "settings": settings_of(detector.head)},
    }
    return json.dumps(known)
