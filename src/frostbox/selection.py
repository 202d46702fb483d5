"""Selection: how dense predictions become detections, and the default that a detector stores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from frostbox.boxes import select
from frostbox.errors import SettingsError

_EDGE = 1e-6  # scores are kept this far from 0 and 1, where the logit has no value


@dataclass(frozen=True)
class Selection:
    """Threshold, non-maximum suppression, and what scores are reported.

    Attributes:
        threshold: lowest score that is kept.
        nms: IoU above which the lower-scored box of a class is suppressed; None keeps all.
        max_detections: at most so many in an image.
        class_thresholds: one threshold a class, in label order, instead of `threshold`: those of
            the best F1 on val. They refer to scores before calibration.
        temperature: fitted on val (metrics/calibration.py); None when nothing was fitted.
        calibrated: divide the scores' logits by the temperature; `threshold` then refers to the
            calibrated scores.
    """

    threshold: float = 0.2
    nms: float | None = 0.5
    max_detections: int = 300
    class_thresholds: tuple[float, ...] | None = None
    temperature: float | None = None
    calibrated: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise SettingsError(f"threshold is {self.threshold}: it must lie between 0 and 1")
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise SettingsError(f"nms is {self.nms}: it must lie between 0 and 1, or be none")
        if self.calibrated and self.temperature is None:
            raise SettingsError(
                "this detector has no fitted temperature: scores are calibrated on a val split, so "
                "train with one"
            )
        if self.temperature is not None and not self.temperature > 0:
            raise SettingsError(f"temperature is {self.temperature}: it must be above 0")

    def changed(self, **values: Any) -> Self:
        """The same with other values; a `threshold` replaces those of the classes."""
        if "threshold" in values:
            values = {"class_thresholds": None, **values}
        return replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """As the detector's file stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Back from `to_dict`; what an older file lacks takes its default."""
        known = dict(values)
        if known.get("class_thresholds") is not None:
            known["class_thresholds"] = tuple(known["class_thresholds"])
        return cls(**known)

    def choose(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detections of one image by descending score.

        Args:
            boxes: (A, 4) xyxy in any unit; scores: (A, K) in [0, 1].

        Returns:
            boxes (N, 4), scores (N,), labels int64 (N,).
        """
        threshold: float | Tensor = self.threshold
        temperature = self.temperature if self.calibrated else None
        if self.class_thresholds is not None:
            threshold = scores.new_tensor(self.class_thresholds)
            if temperature is not None:
                threshold = _scale(threshold, temperature)
        if temperature is not None:
            scores = _scale(scores, temperature)
        return select(
            boxes,
            scores,
            threshold=threshold,
            nms=self.nms,
            max_detections=self.max_detections,
        )


def _scale(scores: Tensor, temperature: float) -> Tensor:
    return torch.sigmoid(torch.logit(scores, eps=_EDGE) / temperature)
