"""The two phases of a training: the head on frozen features, then the thawed stages with it."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from frostbox import evaluation, planning, ranks
from frostbox.backbones import Backbone
from frostbox.backbones.stages import Stages
from frostbox.clock import Clock
from frostbox.data.annotations import DetectionSet
from frostbox.detector import Detector
from frostbox.errors import DivergedError, SettingsError
from frostbox.evaluation import Predictions
from frostbox.features.cache import FeatureCache
from frostbox.files import write_whole
from frostbox.heads import FeatureSpec, Head
from frostbox.loggers import RunLoggers
from frostbox.resuming import begun
from frostbox.schedule import NoTimeError, Schedule
from frostbox.selection import Settings
from frostbox.settings import TrainSettings
from frostbox.thawing import NONE, samples
from frostbox.training import FitResult, FitSettings, check_enough, fit

_NEVER = 10**9  # epochs; the last one is validated in any case
HEAD, THAW = "head", "thaw"
"""The phases by name; the second has a folder of that name in the run's."""


def feature_spec(backbone: Backbone, size: tuple[int, int]) -> FeatureSpec:
    """What a head will read from the backbone."""
    return FeatureSpec(backbone.strides, backbone.channels, backbone.map_sizes(size))


@dataclass
class Learner:
    """Everything that learning needs, once data, network and features are there.

    Attributes:
        caches: of train, and of val where there is one.
        run: the folder of the run.
        stages: of the backbone, those that are to be thawed.
        schedule: plans the epochs of each phase; None to take those of the settings.
        loggers: that have begun; None for none.
    """

    backbone: Backbone
    head: Head
    caches: Sequence[FeatureCache]
    train_set: DetectionSet
    val_set: DetectionSet | None
    settings: TrainSettings
    run: Path
    device: str
    stages: Stages | None = None
    schedule: Schedule | None = None
    loggers: RunLoggers | None = None

    def learn(self, clock: Clock, console: Console, *, resume: bool) -> dict[str, FitResult]:
        """Fit the head, then thaw where the settings say so; the better of both is kept.

        Args:
            resume: go on where an interrupted run stopped, in either phase.

        Returns:
            The result of each phase, by name.
        """
        results = {}
        stages = self.stages
        if self.settings.head_first or stages is None:
            again = ranks.from_first(lambda: resume and begun(self.run))
            results[HEAD] = self._phase(HEAD, None, clock, console, again)
        if stages is not None:
            before = [_copied(part.state_dict()) for part in (self.head, stages)]
            again = ranks.from_first(lambda: resume and begun(self._folder(THAW)))
            try:
                results[THAW] = self._phase(THAW, stages, clock, console, again)
            except NoTimeError:
                if HEAD not in results:
                    raise
                console.print("no time is left for thawing: the backbone stays frozen")
                return results
            except DivergedError as error:
                if error.kept is None:
                    self.head.cpu().eval().load_state_dict(before[0])
                    stages.cpu().freeze().load_state_dict(before[1])
                    error.kept = self.run if HEAD in results else None
                else:
                    self.backbone.retrained()
                raise
            if HEAD in results and not _better(results[THAW], results[HEAD]):
                console.print("thawing did not lower the validation loss: it is undone")
                self.head.load_state_dict(before[0])
                stages.load_state_dict(before[1])
                del results[THAW]
            else:
                self.backbone.retrained()
        return results

    def _folder(self, name: str) -> Path:
        return self.run if name == HEAD else self.run / name

    def _phase(
        self, name: str, stages: Stages | None, clock: Clock, console: Console, resume: bool
    ) -> FitResult:
        """One phase; from its start with batches of half the size where memory is not enough."""
        parts: list[nn.Module] = [self.head] if stages is None else [self.head, stages]
        states = [_copied(part.state_dict()) for part in parts]
        while True:
            try:
                return self._attempt(name, stages, clock, console, resume)
            except torch.OutOfMemoryError as error:
                failure = str(error).partition(". ")[0]
                if ranks.count() > 1:  # the others wait in the middle of a step
                    raise SettingsError(self._too_large(failure)) from error
            # Here the error holds the step's tensors no more.
            self._halve_batches(failure, console)
            for part, state in zip(parts, states, strict=True):
                part.cpu().load_state_dict(state)
            gc.collect()
            torch.cuda.empty_cache()
            resume = False

    def _halve_batches(self, failure: str, console: Console) -> None:
        before = self.settings.fit
        size = before.batch_size // 2
        if size < 2:
            raise SettingsError(self._too_large(failure))
        # As the noise of the gradient grows (AdamW: the square root, arXiv:2205.10287).
        fit = replace(before, batch_size=size, lr=before.lr * math.sqrt(0.5))
        thaw_lr = self.settings.thaw_lr * math.sqrt(0.5)
        self.settings = replace(self.settings, fit=fit, thaw_lr=thaw_lr)
        write_whole(self.run / "settings.json", self.settings.to_json())
        console.print(
            f"the memory of {self.device} is not enough for steps of {before.batch_size} images: "
            f"this phase begins again with {size}, and learning rates of 0.71 of what they were"
        )

    def _too_large(self, failure: str) -> str:
        width, height = self.settings.size
        smaller = "batches (--batch-size), " if ranks.count() > 1 else ""
        return (
            f"the memory of {self.device} is not enough for steps of "
            f"{self.settings.fit.batch_size} images of {width} x {height} ({failure}): choose "
            f"{smaller}a smaller size, or --device cpu"
        )

    def _attempt(
        self, name: str, stages: Stages | None, clock: Clock, console: Console, resume: bool
    ) -> FitResult:
        settings = self.settings.fit if stages is None else self.settings.thaw_fit()
        once = stages is None and self.settings.thaw != NONE and not settings.validate_every
        folder = self._folder(name)
        ranks.from_first(lambda: folder.mkdir(exist_ok=True))
        with clock.part("train" if stages is None else name):
            train = samples(
                self.caches[0], self.train_set, self.backbone, self.head, stages,
                difficult=self.settings.fit.difficult,
            )  # fmt: skip
            val = None
            if self.val_set is not None:
                val = samples(
                    self.caches[1], self.val_set, self.backbone, self.head, stages, drawn=False
                )
            check_enough(train, settings)
            step = None
            if once:  # what is best is decided by the phase that follows
                settings = replace(settings, validate_every=_NEVER)
            if self.schedule is not None:
                settings, step, reason = self.schedule.fit(
                    settings, self.head, train, val, stages, self.device, folder
                )
                console.print(reason)
                self._keep(settings, stages)
            estimate = planning.estimate_training(
                self.head, train, settings, stages, self.device, step=step
            )
            console.print(str(estimate))
            ranks.from_first(lambda: planning.check_space(folder, estimate))
            return fit(
                self.head, train, val, settings, folder,
                stages=stages, resume=resume, progress=clock.progress,
                loggers=self.loggers.of_phase(folder, name) if self.loggers is not None else (),
            )  # fmt: skip

    def _keep(self, planned: FitSettings, stages: Stages | None) -> None:
        """Write what was planned into settings.json: the run may be resumed and replayed."""
        if stages is None:
            fit = replace(planned, validate_every=self.settings.fit.validate_every)
            self.settings = replace(self.settings, fit=fit)
            if self.schedule is not None and self.settings.thaw != NONE:
                # Until it is planned itself, for a run that is interrupted before: as much time as
                # the plan leaves, at twice the cost of a step.
                times = (1 / self.schedule.share - 1) / 2
                self.settings = replace(
                    self.settings,
                    thaw_epochs=max(1, round(planned.epochs * times)),
                    thaw_epoch_images=planned.epoch_images,
                )
        else:
            self.settings = replace(
                self.settings,
                thaw_epochs=planned.epochs,
                thaw_epoch_images=planned.epoch_images,
            )
        ranks.from_first(lambda: write_whole(self.run / "settings.json", self.settings.to_json()))

    def detector(self) -> Detector:
        """Backbone and head as they are now."""
        s = self.settings
        settings = Settings(self.train_set.classes, s.size, s.resize, rename=s.rename)
        return Detector(self.backbone, self.head, s.head, settings)

    def predict(self, detector: Detector, limit: int | None = None) -> Predictions:
        """Predictions of the val split, from its cache as far as thawed stages leave it true.

        Args:
            limit: only so many images, to see how long it takes.
        """
        assert self.val_set is not None
        stages = self.stages
        if stages is not None and not stages.reads:
            wanted = self.val_set.subset(self.val_set.photos[:limit])
            return evaluation.predict_photos(detector, wanted)
        return evaluation.predict_cache(detector, self.caches[1], self.val_set, stages, limit)


def _better(thawed: FitResult, frozen: FitResult) -> bool:
    """Whether thawing is to be kept: always where nothing was validated."""
    after, before = (r.metrics.get("val_loss") for r in (thawed, frozen))
    return after is None or before is None or after <= before


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}
