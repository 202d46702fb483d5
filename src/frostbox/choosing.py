"""What a training is made of where its user leaves it open: by data set size, or by a time budget.

The choices are among the recipes that were measured. Each is printed with its reason, and any flag
pins it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from rich.console import Console

from frostbox import backbones, planning, ranks
from frostbox.clock import Clock
from frostbox.data.annotations import DetectionSet
from frostbox.errors import SettingsError
from frostbox.heads import FeatureSpec, head_class
from frostbox.learning import Learner, feature_spec
from frostbox.pace import measured_pace
from frostbox.recipes import (
    FEW,
    FEW_FROZEN,
    FEW_QUICK,
    FEWEST,
    MANY,
    RECIPES,
    SMALL,
    SPARE,
    Recipe,
)
from frostbox.schedule import Schedule
from frostbox.settings import DEFAULT_HEAD, TrainSettings
from frostbox.thawing import ALL, NONE
from frostbox.units import counted, seconds_text, size_text

PLANNED = ("epochs", "epoch_images", "thaw_epochs", "thaw_epoch_images", "patience")
"""Settings that a budget decides."""
_SAMPLED, _WARM = 48, 8  # images that are predicted to measure it, and those before them
_LAST_SECONDS = 2.0  # for thresholds and files
_HEAD_SHARE = 0.4  # of the time for learning, where stages are thawed outside a recipe
_FIGURES = 0.0015  # seconds to score an image, with intervals
_SEEN_OF_FEW = 6000  # images, in each phase, where few have no budget
_ROOM = 0.9  # share of a disk's free space that features may fill


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
    quick = [r for r in fitting if needs[r] <= SPARE * budget]
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
        more = min(dearer, key=lambda r: needs[r])
        console.print(
            f"with {seconds_text(needs[more] / SPARE)} and more it would be "
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
    head_settings = settings.head_settings
    # A replayed run, or a detector to start from, has all of them.
    if recipe.dropout and not ({"dropout", "head_settings"} & given.keys()):
        head_settings = {**head_settings, "dropout": recipe.dropout}
    return replace(
        settings,
        head_settings=head_settings,
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
    dropout = settings.head_settings.get("dropout")
    return f"{settings.backbone}, {width} x {height}, {settings.views} views, {thaw}" + (
        f", dropout {dropout}" if dropout else ""
    )


def _by_size(
    settings: TrainSettings, given: Mapping[str, Any], images: int, device: str, console: Console
) -> TrainSettings:
    """Without a budget: the schedules that were measured, by the number of images.

    The head first, then the last stage with it; on a GPU all stages, but for few images. Whoever
    gives `epochs` or a detector to start from gets no thawing that was not asked for.
    """
    if settings.head != DEFAULT_HEAD:
        return settings
    few = images <= SMALL
    choices = [r for r in RECIPES if r.gpu] + ([FEW, FEW_FROZEN, FEW_QUICK] if few else [MANY])
    fitting = [r for r in choices if _agrees(r, settings, given, images, device)]
    # What was not measured keeps the schedule of the cheapest.
    recipe = fitting[0] if fitting else replace(choices[-1], dropout=0.0)
    changed = _applied(recipe, settings, given, images)
    if "thaw" not in given and ("epochs" in given or "start" in given or not fitting):
        changed = replace(changed, thaw=NONE)
    alone, thawed = _epochs_by_size(recipe, changed.thaw, images)
    # Not of the epochs that are given: a longer run should find the features of a shorter one.
    views = recipe.views_for(alone + (thawed if changed.thaw != NONE else 0))
    changed = replace(
        changed,
        fit=replace(changed.fit, epochs=given.get("epochs", alone)),
        thaw_epochs=given.get("thaw_epochs", thawed),
        views=given.get("views", views),
    )
    if changed == settings:  # nothing was left open
        return settings
    console.print(
        f"{images} images: {_described(changed)}"
        + (f", {counted(changed.fit.epochs, 'epoch')}" if changed.head_first else "")
        + ("" if changed.thaw == NONE else f" and {changed.thaw_epochs} with thawed stages")
        + ("; what was measured to suit " if fitting else "; epochs that suit ")
        + (f"up to {SMALL} images" if few else f"more than {SMALL} images")
    )
    return changed


def _epochs_by_size(recipe: Recipe, thaw: str, images: int) -> tuple[int, int]:
    """Epochs of the head alone and with thawed stages, where there is no budget."""

    def seeing(seen: float, least: int, most: int) -> int:
        return max(least, min(most, math.ceil(seen / images)))

    if images <= SMALL:
        alone = seeing(FEWEST, 40, 100) if thaw == NONE else seeing(_SEEN_OF_FEW, 12, 100)
        return alone, seeing(_SEEN_OF_FEW, 12, 50)
    if thaw == NONE:
        alone = 20
    else:
        alone = round(recipe.passes) if recipe.gpu else seeing(1.5 * FEWEST, 4, 40)
    return alone, seeing(125_000, 12, 50) if recipe.gpu else seeing(3 * FEWEST, 6, 16)
