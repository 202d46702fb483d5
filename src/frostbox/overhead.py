"""What a training takes besides its computations: the loop, averaged weights, checkpoints.

Measured by a training that computes next to nothing, as `fit` runs it: a share of a fast step on a
small data set, and different by a factor of two from machine to machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from frostbox import ranks
from frostbox.heads import Encoded, Head, Raw, Targets
from frostbox.sampling import Row
from frostbox.steps import Batch
from frostbox.training import FitSettings, Samples, fit

_STEPS, _EPOCHS = 25, 4  # the first epoch warms up


@dataclass(frozen=True)
class Overhead:
    """Seconds besides the computations: of each step, and of each epoch."""

    step: float
    epoch: float


def measured_overhead(
    parameters: Iterable[nn.Parameter], settings: FitSettings, device: str
) -> Overhead:
    """Of a training with these settings of parameters of these shapes; the slowest process counts.

    The generators of random numbers stay as they were.
    """
    idle = _Idle([p.shape for p in parameters])
    nothing = _Nothing(2 * ranks.count())
    plain = replace(
        settings, epochs=_EPOCHS, batch_size=2 * ranks.count(), epoch_images=0, shuffle_window=0,
        patience=0, empty=True, device=device,
    )  # fmt: skip
    with (
        torch.random.fork_rng(devices=[]),
        tempfile.TemporaryDirectory(prefix="frostbox-") as folder,
    ):
        fit(idle, nothing, None, plain, Path(folder))
    step, epoch = (max(each) for each in zip(*ranks.gathered(nothing.figures()), strict=True))
    return Overhead(step, epoch)


class _Idle(Head):
    """Parameters of these shapes, and a loss that is their mean."""

    def __init__(self, shapes: Sequence[torch.Size]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """Their mean."""
        return {"mean": torch.cat([w.flatten() for w in self.weights]).mean()}

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """Nothing is encoded: see _Nothing."""
        raise NotImplementedError

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """As many as most heads have."""
        return {"class_loss": raw["mean"], "box_loss": 0 * raw["mean"]}

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Nothing is predicted."""
        raise NotImplementedError

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """As many as most heads have."""
        return {"accuracy": encoded["number"], "mean_iou": encoded["number"]}


class _Nothing(Samples):
    """Batches that are there at once, and when they were asked for.

    Args:
        size: images in a batch.
    """

    views = 1

    def __init__(self, size: int) -> None:
        self.size = size
        self.ids = [str(k) for k in range(size * _STEPS)]
        self.objects = [1] * len(self.ids)
        self.asked: list[list[float]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def follow(self, rows: Iterable[Row]) -> None:
        """An epoch begins, or the training has ended."""
        self.asked.append([time.perf_counter()])

    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        """The next batch; it is read while the one before is learned from."""
        self.asked[-1].append(time.perf_counter())
        return [torch.zeros(len(rows), 1, 1, 1)], {"number": torch.zeros(len(rows))}

    def figures(self) -> tuple[float, float]:
        """Seconds of a step, and of what comes with an epoch besides its steps."""
        epochs = self.asked[1:_EPOCHS]
        step = median(b - a for times in epochs for a, b in pairwise(times[1:]))
        begins = [times[0] for times in self.asked[1:]]
        whole = median(b - a for a, b in pairwise(begins))
        return step, max(0.0, whole - _STEPS * step)
