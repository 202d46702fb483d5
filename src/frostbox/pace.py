"""How fast this machine learns, from a few seconds of measurement: what a budget is planned by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from frostbox import backbones, planning, ranks
from frostbox.data.annotations import DetectionSet
from frostbox.features.engine import create_engine
from frostbox.features.index import views_for
from frostbox.heads import FeatureSpec, Head, create_head, head_class
from frostbox.learning import feature_spec
from frostbox.sampling import Row
from frostbox.settings import DEFAULT_HEAD, TrainSettings
from frostbox.steps import Batch
from frostbox.training import Samples

_SAMPLED = 48  # images that are measured


@dataclass(frozen=True)
class Pace:
    """Seconds that this machine takes for an image, with the cheapest recipe.

    Attributes:
        view: to decode it, bring it to one view and run it through the backbone.
        step: to learn from it with the head alone.
        photo: to decode one more for a mosaic and bring it to its place.
    """

    view: float
    step: float
    photo: float


def measured_pace(
    dataset: DetectionSet, name: str, size: tuple[int, int], device: str, precision: str
) -> Pace:
    """How fast this machine is, from a few seconds with this backbone and the default head."""
    backbone = backbones.create(name, head_class(DEFAULT_HEAD).strides)
    step = max(1, len(dataset.photos) // _SAMPLED)
    sample = dataset.subset(dataset.photos[::step][:_SAMPLED])

    def extraction_seconds() -> float:
        engine = create_engine("auto", backbone, size, device, precision=precision)
        return planning.estimate_extraction([(sample, 1)], backbone, engine, size, "shrink").seconds

    extraction = ranks.from_first(extraction_seconds)
    fit = TrainSettings.create({"precision": precision}).fit
    with torch.random.fork_rng(devices=[]):
        head = create_head(DEFAULT_HEAD, feature_spec(backbone, size), len(dataset.classes))
    zeros = _Zeros(head, feature_spec(backbone, size))
    seconds, _ = planning.time_steps(head, zeros, fit, None, device)
    one_view = views_for(backbone, 1)
    loading = ranks.from_first(lambda: planning.load_seconds(sample, "shrink", size, one_view))
    photo = loading / (os.cpu_count() or 1)
    return Pace(extraction / len(sample.photos), seconds / fit.batch_size, photo)


class _Zeros(Samples):
    """Maps of zeros with one object: what a step costs, before there are features."""

    views = 1

    def __init__(self, head: Head, spec: FeatureSpec) -> None:
        self.objects = [1] * 64
        self._head, self._spec = head, spec

    def __len__(self) -> int:
        return len(self.objects)

    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        maps = [
            torch.zeros(len(rows), channels, *size)
            for channels, size in zip(self._spec.channels, self._spec.sizes, strict=True)
        ]
        target = {
            "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]),
            "labels": torch.zeros(1, dtype=torch.int64),
            "difficult": torch.zeros(1, dtype=torch.bool),
        }
        return maps, self._head.encode([target] * len(rows))
