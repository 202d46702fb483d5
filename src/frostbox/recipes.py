"""What a training is made of where its user leaves it open: by data set size, or by a time budget.

The choices come from the measurements in docs/results.md. Each is printed with its reason, and any
flag pins it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rich.console import Console

from frostbox import backbones, planning, ranks
from frostbox.clock import Clock
from frostbox.data.annotations import DetectionSet
from frostbox.data.views import PARTNERS, mosaics_among
from frostbox.errors import SettingsError
from frostbox.heads import FeatureSpec, head_class
from frostbox.learning import Learner, feature_spec
from frostbox.pace import Pace, measured_pace
from frostbox.schedule import Schedule
from frostbox.settings import DEFAULT_HEAD, TrainSettings
from frostbox.thawing import ALL, NONE
from frostbox.training import VALIDATIONS
from frostbox.units import counted, seconds_text, size_text

PLANNED = ("epochs", "epoch_images", "thaw_epochs", "thaw_epoch_images", "patience")
"""Settings that a budget decides."""
_SAMPLED, _WARM = 48, 8  # images that are predicted to measure it, and those before them
_LAST_SECONDS = 2.0  # for thresholds and files
_HEAD_SHARE = 0.4  # of the time for learning, where stages are thawed outside a recipe
_START_SECONDS = 15.0  # imports, reading of annotations, these measurements
_FIGURES = 0.0015  # seconds to score an image, with intervals
_SELECTION = 0.012  # seconds to select and score the boxes of an image
_VALIDATIONS = 1 + VALIDATIONS  # in both phases, each a forward pass
_SMALL = 1000  # images, up to which a data set is small
_FEWEST, _OF_BATCHES = 12000, 32  # images that the head alone sees at least, in such batches
_MOST_VIEWS = 8
_FROZEN_PASSES, _THAWED_PASSES = 7, 4  # for each view
_SPARE = 0.95  # share of a budget that a recipe's shortest schedule may fill
_ROOM = 0.9  # share of a disk's free space that features may fill


@dataclass(frozen=True)
class Recipe:
    """One way to train the pyramid head, and what it costs.

    Attributes:
        backbone, size, views, thaw: as in TrainSettings; `size` of both sides, `views` at least.
        passes, thaw_passes: over the images, of the head alone and with thawed stages; with fewer
            a cheaper recipe gives more. A small data set needs more of them: so many that the head
            alone makes as many steps as with _FEWEST images, and with thawed stages in the same
            proportion.
        view: what a view through the backbone costs, step: what the head's step costs an image, and
            thaw_step: one with thawed stages, each in units of the first recipe's.
        images: for data sets of so many, (least, most). gpu: True where only a GPU makes it worth
            it, False where a GPU has a better one.
        batch_size, lr: as in FitSettings.
    """

    backbone: str
    size: int
    views: int
    thaw: str
    passes: float
    thaw_passes: float
    view: float
    step: float
    thaw_step: float
    images: tuple[int, float] = (0, math.inf)
    gpu: bool | None = None
    batch_size: int = 32
    lr: float = 4e-3

    def meant_for(self, images: int, device: str) -> bool:
        """Whether it is for data sets of so many images, on such a device."""
        fewest, most = self.images
        return fewest <= images <= most and self.gpu in (None, device == "cuda")

    def enough(self, train: int) -> tuple[float, float]:
        """Passes over so many images, of the head alone and with thawed stages."""
        fewest = _FEWEST * self.batch_size / _OF_BATCHES
        factor = max(1.0, fewest / (self.passes * train))
        return self.passes * factor, self.thaw_passes * factor

    def enough_views(self, train: int) -> int:
        """Views of so many images, for the shortest schedule."""
        return self._views(sum(self.enough(train)))

    def views_within(self, budget: float, pace: Pace, train: int, val: int) -> int:
        """Views for as many passes over so many images as a budget leaves time for."""
        alone, thawed = self.enough(train)
        step = (alone * self.step + thawed * self.thaw_step) / (alone + thawed) * pace.step
        left = _SPARE * budget - self._besides(pace, val)
        # Every second view beyond the first two is a mosaic.
        view = self.view * pace.view + PARTNERS / 2 * pace.photo
        return self._views(left / (train * (step + view / self._passes_a_view)))

    def _views(self, passes: float) -> int:
        """Another for every few passes, so that they stay new; photos are seen anew each time."""
        if self.thaw == ALL:
            return self.views
        return min(_MOST_VIEWS, max(self.views, round(passes / self._passes_a_view)))

    @property
    def _passes_a_view(self) -> int:
        """Thawed stages learn images by heart sooner; the head alone loses by views at first."""
        return _FROZEN_PASSES if self.thaw == NONE else _THAWED_PASSES

    def seconds(self, pace: Pace, train: int, val: int) -> float:
        """Of its shortest schedule that is worth it, for so many images."""
        alone, thawed = self.enough(train)
        views = self.enough_views(train)
        partners = PARTNERS * mosaics_among(views)
        extraction = train * (views * self.view * pace.view + partners * pace.photo)
        learning = train * (alone * self.step + thawed * self.thaw_step) * pace.step
        return self._besides(pace, val) + extraction + learning

    def _besides(self, pace: Pace, val: int) -> float:
        """The start, and what the images to validate on cost."""
        checks = _VALIDATIONS * self.step * pace.step / 3 + _SELECTION
        return _START_SECONDS + val * (self.view * pace.view + checks)

    def head_share(self) -> float:
        """Of the time for learning that the head alone gets."""
        alone = self.passes * self.step
        return alone / (alone + self.thaw_passes * self.thaw_step)


# The cheapest first: its costs are the units. Costs and the passes that are worth it were measured
# on two cores (docs/results.md).
RECIPES = (
    Recipe("efficientnet_lite0", 320, 2, "none", 4, 0, 1.0, 1.0, 1.9),
    # Few images: small objects gain more from pixels, and the head from steps, than from thawing.
    Recipe(
        "efficientnet_lite0", 416, 4, "none", 30, 0, 1.8, 1.7, 3.1,
        images=(0, _SMALL), batch_size=16, lr=3e-3,
    ),
    Recipe("efficientnet_lite0", 320, 2, "1", 3, 5, 1.0, 1.0, 1.9, images=(_SMALL + 1, math.inf)),
    Recipe("efficientnet_lite2", 384, 2, "1", 4, 6, 2.1, 1.4, 3.2),
    # Where there is time for it: small objects gain most from pixels.
    Recipe(
        "efficientnet_lite2", 512, 2, "1", 7, 13, 3.6, 2.3, 5.7,
        images=(_SMALL + 1, math.inf), gpu=False,
    ),
    # From photos, everything: on a CPU it costs ten times as much (docs/results.md). One run on one
    # GPU is behind it; the costs are in what the head alone is thought to cost there.
    Recipe(
        "efficientnet_lite2", 512, 2, "all", 8, 15, 2.6, 1.0, 3.0,
        images=(_SMALL + 1, math.inf), gpu=True, batch_size=64,
    ),
)  # fmt: skip


def chosen(
    settings: TrainSettings,
    given: Mapping[str, Any],
    train_set: DetectionSet,
    val_set: DetectionSet | None,
    budget: float | None,
    device: str,
    console: Console,
    room: planning.Room | None = None,
) -> TrainSettings:
    """The settings with what was left open, each choice printed with its reason.

    Args:
        given: what the user, a replayed run or a detector to start from decides; it stays.
        budget: seconds for everything; None to choose by the number of images.
        room: for features; None for no end of it. A budget is spent on what fits into it.

    Raises:
        SettingsError: a budget, and one of the settings that it decides.
    """
    images = len(train_set.photos)
    if budget is None:
        return _by_size(settings, given, images, device, console)
    clash = next((name for name in PLANNED if name in given), None)
    if clash is not None:
        raise SettingsError(f"a budget decides {clash}: give one of the two")
    if settings.head != DEFAULT_HEAD:
        return settings
    fitting = [r for r in RECIPES if _agrees(r, settings, given, images, device)]
    if not fitting:
        console.print("epochs are planned for the settings that were given")
        return settings
    first = RECIPES[0]
    pace = measured_pace(
        train_set, first.backbone, (first.size, first.size), device, settings.fit.precision
    )
    validated = len(val_set.photos) if val_set is not None else 0
    needs = {recipe: recipe.seconds(pace, images, validated) for recipe in fitting}
    room = room or planning.Room()
    held = {r: _views_held(r, settings, given, images, validated, room) for r in fitting}
    least = {r: given.get("views", r.enough_views(images)) for r in fitting}
    quick = [r for r in fitting if needs[r] <= _SPARE * budget]
    affordable = [r for r in quick if held[r] >= least[r]]
    recipe = affordable[-1] if affordable else fitting[0]
    wanted = recipe.views_within(budget, pace, images, validated)
    views = int(max(min(wanted, held[recipe]), recipe.views))
    changed = _applied(recipe, settings, {"views": views, **given}, images)
    why = (
        f"the best recipe whose shortest useful schedule fits for {images} images (it needs "
        if recipe in quick
        else f"the cheapest recipe, cut short: it should have more time for {images} images ("
    )
    console.print(
        f"budget {seconds_text(budget)}: {_described(changed)}; {why}"
        f"{seconds_text(needs[recipe])}; measured here: {1 / pace.view:.0f} views/s, "
        f"{1 / pace.step:.0f} images/s in training)"
    )
    best = quick[-1] if quick else recipe
    most = best.views_within(budget, pace, images, validated)
    better = _applied(best, settings, {"views": most, **given}, images)
    if best is not recipe or better.views > changed.views:
        console.print(
            f"the disk decides: {size_text(int(room.free))} are free for features; with more "
            f"(--cache on another disk, `frostbox cache prune`) it would be {_described(better)}"
        )
    dearer = [r for r in fitting if r not in (recipe, *quick) and held[r] >= least[r]]
    if dearer:
        more = dearer[0]
        console.print(
            f"with {seconds_text(needs[more] / _SPARE)} and more it would be "
            f"{_described(_applied(more, settings, given, images))}"
        )
    return changed


def _views_held(
    recipe: Recipe,
    settings: TrainSettings,
    given: Mapping[str, Any],
    train: int,
    val: int,
    room: planning.Room,
) -> float:
    """Views of so many images to learn from, beside one of each to validate on, that fit."""
    applied = _applied(recipe, settings, given, train)
    strides = head_class(settings.head).strides_for(settings.head_settings)
    name = backbones.full_name(applied.backbone)
    view = planning.feature_bytes(_spec(name, strides, applied.size), applied.features)
    there = room.bytes_for(name, applied.size, applied.features)
    return (_ROOM * there / view - val) / train


@cache
def _spec(backbone: str, strides: tuple[int, ...], size: tuple[int, int]) -> FeatureSpec:
    """What the maps of a backbone are like, whatever its weights."""
    return feature_spec(backbones.create(backbone, strides, "random"), size)


def scheduled(learner: Learner, budget: float, clock: Clock) -> Learner:
    """The learner with a schedule that ends within the budget, once the features are there."""
    head = learner.head
    recipe = next((r for r in RECIPES if _is(r, learner)), None)
    share = 1.0
    if learner.settings.thaw != NONE:
        share = recipe.head_share() if recipe is not None else _HEAD_SHARE
    reserve = _LAST_SECONDS
    if learner.val_set is not None:
        predicting = ranks.from_first(lambda: _prediction_seconds(learner, clock))
        reserve += (predicting + _FIGURES) * len(learner.caches[1])
    head.train()
    return replace(learner, schedule=Schedule(budget, clock, reserve, share))


def _prediction_seconds(learner: Learner, clock: Clock) -> float:
    """Of an image of val."""
    detector = learner.detector()
    count = min(_SAMPLED, len(learner.caches[1]))
    learner.predict(detector, limit=_WARM)
    started = clock.elapsed()
    learner.predict(detector, limit=count)
    return (clock.elapsed() - started) / count


def _applied(
    recipe: Recipe, settings: TrainSettings, given: Mapping[str, Any], images: int
) -> TrainSettings:
    """What the recipe says, where nothing is given."""
    fit = replace(
        settings.fit,
        batch_size=given.get("batch_size", recipe.batch_size),
        lr=given.get("lr", recipe.lr),
    )
    return replace(
        settings,
        backbone=given.get("backbone", recipe.backbone),
        size=given.get("size", (recipe.size, recipe.size)),
        views=given.get("views", recipe.enough_views(images)),
        thaw=given.get("thaw", recipe.thaw),
        fit=fit,
    )


def _agrees(
    recipe: Recipe, settings: TrainSettings, given: Mapping[str, Any], images: int, device: str
) -> bool:
    """Whether a recipe is meant for this, and its costs hold for what is given.

    Of the stages that begin at the photo, a GPU's recipe alone knows the costs.
    """
    size = (recipe.size, recipe.size)
    strides = head_class(settings.head).strides_for(settings.head_settings)
    return (
        recipe.meant_for(images, device)
        and (recipe.thaw in (NONE, ALL) or int(recipe.thaw) < len(strides))
        and backbones.full_name(given.get("backbone", recipe.backbone)) == recipe.backbone
        and given.get("size", size) == size
        and given.get("thaw", recipe.thaw) == recipe.thaw
    )


def _is(recipe: Recipe, learner: Learner) -> bool:
    """Whether its shares of the time hold for what is learned here."""
    settings = learner.settings
    name = backbones.full_name(settings.backbone)
    kind = (recipe.backbone, (recipe.size, recipe.size), recipe.thaw)
    return kind == (name, settings.size, settings.thaw) and recipe.meant_for(
        len(learner.train_set.photos), learner.device
    )


def _described(settings: TrainSettings) -> str:
    width, height = settings.size
    thaw = "frozen backbone" if settings.thaw == NONE else f"thawed stages: {settings.thaw}"
    return f"{settings.backbone}, {width} x {height}, {settings.views} views, {thaw}"


def _by_size(
    settings: TrainSettings, given: Mapping[str, Any], images: int, device: str, console: Console
) -> TrainSettings:
    """Without a budget: the schedules that were measured, by the number of images.

    Few images: the small recipe, long. More: the head first, then the last stage with it; on a GPU
    all stages. Whoever gives `epochs` or a detector to start from gets no thawing that was not
    asked for.
    """
    if settings.head != DEFAULT_HEAD:
        return settings
    small = images <= _SMALL
    recipe = RECIPES[1] if small else RECIPES[2]
    if device == "cuda":
        better = [r for r in RECIPES if r.gpu and _agrees(r, settings, given, images, device)]
        recipe = better[-1] if better else recipe
    changed = _applied(recipe, settings, given, images)
    asked = "thaw" in given
    known = _agrees(recipe, settings, {**given, "size": changed.size}, images, device)
    if not asked and ("epochs" in given or "start" in given or not known):
        changed = replace(changed, thaw=NONE)
    if "epochs" not in given:
        seen = _FEWEST if changed.thaw == NONE else _FEWEST * 1.5
        low, high = (40, 100) if changed.thaw == NONE and small else (4, 40)
        epochs = min(high, max(low, math.ceil(seen / images)))
        if changed.thaw == NONE and not small:
            epochs = 20
        if changed.thaw == ALL and recipe.gpu:
            epochs = round(recipe.passes)
        changed = replace(changed, fit=replace(changed.fit, epochs=epochs))
    if "thaw_epochs" not in given:
        low, high, seen = (12, 50, 125_000) if recipe.gpu else (6, 16, 3 * _FEWEST)
        changed = replace(changed, thaw_epochs=max(low, min(high, math.ceil(seen / images))))
    if changed == settings:  # nothing was left open
        return settings
    console.print(
        f"{images} images: {_described(changed)}"
        + (f", {counted(changed.fit.epochs, 'epoch')}" if changed.head_first else "")
        + ("" if changed.thaw == NONE else f" and {changed.thaw_epochs} with thawed stages")
        + "; what was measured to suit "
        + (f"up to {_SMALL} images" if small else f"more than {_SMALL} images")
    )
    return changed
