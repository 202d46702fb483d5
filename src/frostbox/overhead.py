"""What a training takes besides its computations: the loop, its callbacks, checkpoints.

Measured by a training that computes nothing, as `fit` runs it without loggers: a share of a fast
step on a small data set, and different by a factor of two from machine to machine.
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
_KEPT = 10_000_000  # numbers in a checkpoint that is written to measure it; more take longer
_COPIES = 4  # of the weights, in a checkpoint: those of now, averaged, and AdamW's two moments


@dataclass(frozen=True)
class Overhead:
    """Seconds besides the computations: of each step, and of each epoch."""

    step: float
    epoch: float


def measured_overhead(
    weights: int, settings: FitSettings, device: str, folder: Path, *, validated: bool
) -> Overhead:
    """Of a training with these settings; the slowest process counts.

    What steps do with the weights, such as to average them, is not in it.

    Args:
        weights: how many are trained: checkpoints are as large.
        folder: of the run, on whose disk checkpoints lie; it is left as it was.
        validated: whether the training has images to validate on; without, it keeps two
            checkpoints of an epoch.
    """
    idle = _Idle(min(weights * _COPIES, _KEPT))
    nothing = _Nothing(idle, 2 * ranks.count())
    plain = replace(
        settings, epochs=_EPOCHS, batch_size=2 * ranks.count(), epoch_images=0, shuffle_window=0,
        patience=0, empty=True, validate_every=_EPOCHS, device=device,
    )  # fmt: skip
    disk = folder if ranks.first() else None  # others write nothing
    with (
        torch.random.fork_rng(devices=[]),
        tempfile.TemporaryDirectory(dir=disk, prefix=".overhead-") as place,
    ):
        val = _Nothing(idle, 1) if validated else None
        fit(idle, nothing, val, plain, Path(place))
    step, epoch = (max(each) for each in zip(*ranks.gathered(nothing.figures()), strict=True))
    return Overhead(step, epoch * max(1.0, weights * _COPIES / _KEPT))


class _Idle(Head):
    """One weight, which is the loss, and so many numbers in every checkpoint."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        # The weights stand in a checkpoint twice, as they are and averaged; this does too.
        self._half = kept // 2

    def get_extra_state(self) -> Tensor:
        """What a checkpoint holds besides the weight."""
        return torch.zeros(self._half)

    def set_extra_state(self, state: Tensor) -> None:
        """It tells nothing."""

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """The weight, for each image."""
        return {"mean": self.weight.mean().expand(len(features[0]))}

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """A number for each image."""
        return {"number": torch.zeros(len(targets))}

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """As many as most heads have."""
        mean = raw["mean"].mean()
        return {"class_loss": mean, "box_loss": 0 * mean}

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """No box, and no score, of as many images as were seen."""
        images = len(raw["mean"])
        return torch.zeros(images, 0, 4), torch.zeros(images, 0, 1)

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """As many as most heads have."""
        return {"accuracy": encoded["number"], "mean_iou": encoded["number"]}


class _Nothing(Samples):
    """Batches that are there at once, and when they were asked for.

    Args:
        head: that takes them. size: images in a batch.
    """

    views = 1

    def __init__(self, head: Head, size: int) -> None:
        self._head = head
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
        return [torch.zeros(len(rows), 1, 1, 1)], self._head.encode([{}] * len(rows))

    def figures(self) -> tuple[float, float]:
        """Seconds of a step, and of what comes with an epoch besides its steps.

        Of the epochs between the first, which warms up, and the last, which is validated.
        """
        between = self.asked[1 : _EPOCHS - 1]
        step = median(b - a for times in between for a, b in pairwise(times[1:]))
        begins = [times[0] for times in self.asked[1:_EPOCHS]]
        whole = median(b - a for a, b in pairwise(begins))
        return step, max(0.0, whole - _STEPS * step)
