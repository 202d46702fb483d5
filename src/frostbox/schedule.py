"""A training that ends in time: how many epochs each phase may have, planned before it begins.

Every phase is measured on its own real batches just before it starts, and planned from the time
that is really left then, so what an earlier part took too long a later one makes up for. A phase
that has begun is not cut: its learning rate runs through its whole schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from frostbox import ranks
from frostbox.backbones.stages import Stages
from frostbox.clock import Clock
from frostbox.errors import SettingsError
from frostbox.heads import Head
from frostbox.overhead import measured_overhead
from frostbox.planning import time_steps
from frostbox.training import VALIDATIONS, FitSettings, Samples
from frostbox.units import counted, seconds_text

_LEAST_STEPS = 5
_AIM = 0.97  # share of the budget that is planned: an end a little early beats one too late


class NoTimeError(SettingsError):
    """The budget leaves no time for a phase."""


@dataclass
class Schedule:
    """The time of one training.

    Attributes:
        budget: seconds for everything. clock: running since the start.
        reserve: seconds that are needed after the last phase.
        share: of the time left for learning that the head alone gets, before thawing.
    """

    budget: float
    clock: Clock
    reserve: float
    share: float = 1.0

    def left(self) -> float:
        """Seconds for the phases that are still to come, by the clock of rank 0."""
        return ranks.from_first(lambda: self.budget * _AIM - self.clock.elapsed() - self.reserve)

    def fit(
        self,
        settings: FitSettings,
        head: Head,
        train: Samples,
        val: Samples | None,
        stages: Stages | None,
        device: str,
        folder: Path,
    ) -> tuple[FitSettings, float, str]:
        """As many epochs as fit: a phase's settings, seconds of a step, and a sentence on it.

        Args:
            folder: of the phase, in which checkpoints will lie.

        Raises:
            NoTimeError: not even a few steps do; in all ranks.
        """
        images = max(1, sum(1 for n in train.objects if n or settings.empty))
        parts = [head] if stages is None else [head, stages]
        weights = sum(p.numel() for part in parts for p in part.parameters())
        loop = measured_overhead(weights, settings, device, folder, validated=val is not None)
        step, checked_batch = time_steps(head, train, settings, stages, device, loop.step)
        each, check = step / settings.batch_size, checked_batch / settings.batch_size
        seconds = max(0.0, self.left()) * (self.share if stages is None else 1.0)
        passes = seconds / (images * each)
        validations = _validations(settings, max(1, math.ceil(passes)))
        checked = 0.0 if val is None else validations * len(val) * check
        passes = max(seconds - checked, seconds / 2) / (images * each + loop.epoch)
        epochs = max(1, math.ceil(passes - 0.05))
        if passes * images < settings.batch_size * _LEAST_STEPS:
            raise NoTimeError(
                f"the budget leaves {seconds_text(seconds)} for this part of the training, not "
                f"even {_LEAST_STEPS} steps: the features that were extracted are kept, run the "
                "same command again with a longer budget"
            )
        length = min(images, max(settings.batch_size, round(passes * images / epochs)))
        planned = replace(settings, epochs=epochs, epoch_images=0 if length == images else length)
        return (
            planned,
            step,
            f"{counted(epochs, 'epoch')} of {counted(length, 'image')}: {seconds_text(seconds)} "
            f"are left for them, {step * 1000:.0f} ms for a step of {settings.batch_size} images",
        )


def _validations(settings: FitSettings, epochs: int) -> int:
    """At most so many, also when there turn out to be fewer epochs."""
    if settings.validate_every:
        return -(-epochs // settings.validate_every)
    return min(epochs, VALIDATIONS)
