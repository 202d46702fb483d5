"""What a prediction depends on besides weights: classes, input, and which boxes are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from frostbox.boxes import select
from frostbox.data.transforms import MODES
from frostbox.errors import SettingsError
from frostbox.metrics.calibration import scale
from frostbox.suppression import RESCORING, SUPPRESSIONS
from frostbox.untrusted import shown

_LARGEST = 1 << 14  # pixels of a side
_MOST_PIXELS = 1 << 24  # of both, whose feature maps take gigabytes


@dataclass(frozen=True)
class Selection:
    """Threshold, suppression of duplicates, and what scores are reported.

    Attributes:
        threshold: lowest score that is kept.
        nms: IoU above which boxes count as of one object; None keeps all.
        max_detections: at most so many in an image.
        class_thresholds: one threshold a class, in label order, instead of `threshold`: those of
            the best F1 on val. They refer to scores before calibration.
        temperature: fitted on val (metrics/calibration.py); None when nothing was fitted.
        calibrated: divide the scores' logits by the temperature; `threshold` then refers to the
            calibrated scores.
        suppression: nms, agnostic, soft-linear, soft-gaussian or wbf: see `suppression.suppress`.
        flip: predict on the mirrored picture too; its boxes are added before the suppression.
    """

    threshold: float = 0.2
    nms: float | None = 0.5
    max_detections: int = 300
    class_thresholds: tuple[float, ...] | None = None
    temperature: float | None = None
    calibrated: bool = False
    suppression: str = "nms"
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise SettingsError(f"threshold is {self.threshold}: it must lie between 0 and 1")
        if type(self.max_detections) is not int or self.max_detections < 1:
            raise SettingsError(
                f"max_detections is {shown(self.max_detections)}: it must be a whole number above 0"
            )
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise SettingsError(f"nms is {self.nms}: it must lie between 0 and 1, or be none")
        if self.suppression not in SUPPRESSIONS:
            raise SettingsError(
                f"suppression is '{self.suppression}': choose one of {', '.join(SUPPRESSIONS)}"
            )
        if self.suppression == "soft-gaussian" and self.nms == 0:
            raise SettingsError("nms is 0: it is soft-gaussian's sigma and must be above 0")
        if self.calibrated and self.temperature is None:
            raise SettingsError(
                "no temperature was fitted for these scores: training fits one on its val split, "
                "for the score that the head was trained with"
            )
        if not all(0 <= t <= 1 for t in self.class_thresholds or ()):
            raise SettingsError(
                f"class_thresholds is {self.class_thresholds}: each must lie between 0 and 1"
            )
        if self.temperature is not None and not self.temperature > 0:
            raise SettingsError(f"temperature is {self.temperature}: it must be above 0")

    def changed(self, **values: Any) -> Self:
        """The same with other values.

        A `threshold` replaces those of the classes; None leaves the thresholds as they are. Those
        of the classes and the temperature were fitted to scores: a suppression that changes scores
        goes without them.
        """
        ways = {self.suppression, values.get("suppression", self.suppression)}
        if len(ways) == 2 and ways & set(RESCORING):
            values = {"class_thresholds": None, "temperature": None, **values}
        if values.get("threshold") is not None:
            values = {"class_thresholds": None, **values}
        else:
            values.pop("threshold", None)
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

        Raises:
            SettingsError: not one threshold for each of the K classes.
        """
        temperature = self.temperature if self.calibrated else None
        threshold: float | Tensor = self.threshold
        if self.class_thresholds is not None:
            if len(self.class_thresholds) != scores.shape[1]:
                raise SettingsError(
                    f"class_thresholds has {len(self.class_thresholds)} values for "
                    f"{scores.shape[1]} classes: give one for each"
                )
            threshold = scores.new_tensor(self.class_thresholds)
        elif temperature is not None:
            # Order and suppression stay those of the scores before calibration, which floating
            # point may make equal.
            scores = torch.where(_scaled(scores, temperature) >= threshold, scores, -1.0)
            threshold = 0.0
        boxes, scores, labels = select(
            boxes,
            scores,
            threshold=threshold,
            nms=self.nms,
            suppression=self.suppression,
            max_detections=self.max_detections,
        )
        if temperature is None:
            return boxes, scores, labels
        calibrated = _scaled(scores, temperature)
        if self.class_thresholds is None:
            keep = calibrated >= self.threshold  # what the suppression lowered may be below it
            return boxes[keep], calibrated[keep], labels[keep]
        return boxes, calibrated, labels


@dataclass(frozen=True)
class Settings:
    """What a prediction depends on besides weights.

    Attributes:
        classes: names in label order; rename: what the data's names were changed to, by the old.
        size: (width, height) of the network's input in pixels.
        resize: shrink, crop, letterbox or none (see data/transforms.py).
        selection: the default thresholds.
        training: what is known of the training, for people.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    resize: str = "shrink"
    selection: Selection = field(default_factory=Selection)
    training: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = all(type(side) is int and 1 <= side <= _LARGEST for side in self.size)
        if len(self.size) != 2 or not numbers or self.size[0] * self.size[1] > _MOST_PIXELS:
            raise SettingsError(
                f"size is {shown(self.size)}: it must be width and height, each of 1 to {_LARGEST} "
                f"pixels and {_MOST_PIXELS:,} in all"
            )
        if self.resize not in MODES:
            raise SettingsError(f"resize is {self.resize!r}: choose one of {', '.join(MODES)}")
        thresholds = self.selection.class_thresholds
        if thresholds is not None and len(thresholds) != len(self.classes):
            raise SettingsError(
                f"class_thresholds has {len(thresholds)} values for {len(self.classes)} classes"
            )

    def to_header(self, **preprocessing: Any) -> dict[str, Any]:
        """As the detector's file stores it; `preprocessing`: what else is done to a picture."""
        return {
            "classes": self.classes,
            "rename": dict(self.rename),
            "preprocessing": {"size": self.size, "resize": self.resize, **preprocessing},
            "selection": self.selection.to_dict(),
            "training": dict(self.training),
        }

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self:
        """Back from `to_header`.

        Raises:
            KeyError, TypeError: a field is missing, or of another kind.
            SettingsError: a value out of range.
        """
        training, rename = header["training"], header.get("rename", {})
        if not isinstance(training, Mapping) or not isinstance(rename, Mapping):
            raise TypeError("training or rename")
        return cls(
            classes=tuple(header["classes"]),
            size=tuple(header["preprocessing"]["size"]),
            resize=header["preprocessing"]["resize"],
            selection=Selection.from_dict(header["selection"]),
            training=training,
            rename={str(old): str(new) for old, new in rename.items()},
        )


def _scaled(scores: Tensor, temperature: float) -> Tensor:
    return torch.from_numpy(scale(scores.numpy(force=True), temperature)).to(scores)
