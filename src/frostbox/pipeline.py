"""What `train` does from end to end; extraction.py has `extract`, inference.py what comes after.

Called by the command line and from Python alike; it prints what a person should know through one
console.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from frostbox import backbones, choosing, evaluation, planning, ranks, suite
from frostbox.backbones.stages import Stages
from frostbox.card import write_card
from frostbox.clock import Clock
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load_training, recognise
from frostbox.data.photos import check_photo_sizes
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.detector import Detector
from frostbox.diagnosis import check_before_training, check_loaded
from frostbox.errors import DataError, DivergedError, SettingsError, told
from frostbox.extraction import ensure_caches
from frostbox.features.store import cache_root
from frostbox.files import write_whole
from frostbox.heads import Head, create_head, head_class, settings_of
from frostbox.learning import Learner, feature_spec
from frostbox.loggers import NONE as NO_LOGGER
from frostbox.loggers import RunLoggers, check_installed, logging_to
from frostbox.progress import Progress
from frostbox.resuming import command_to_resume
from frostbox.run_folder import SETTINGS, check_free, folder_of, opened_run
from frostbox.selection import Settings
from frostbox.settings import TrainSettings
from frostbox.summary import for_header, summarise
from frostbox.thawing import NONE, stage_count
from frostbox.training import FitResult, resolve_device

_RESAMPLES = 200  # a fifth of what `evaluate` takes: a training should not wait for its intervals


@dataclass(frozen=True)
class Trained:
    """What `train_run` leaves. `summary` is what summary.json holds."""

    detector: Detector
    run: Path
    summary: dict[str, Any]


def train(data: Any, **options: Any) -> Detector:
    """Train a detector: extract features (or reuse them), fit the head, keep the best weights.

    Args:
        data: a folder or file in any known format, a name such as "coco2017", or an object; see
            data/formats.py.
        options: `out` (folder of the run), `cache` (folder of caches), `budget` (seconds for
            everything; None for no limit), `resume`, `overwrite`, `config` (a settings.json to
            replay), `devices` (of this machine, or of each) and `nodes` (machines), and any field
            of TrainSettings, FitSettings or of the head's settings by its name, such as
            `head="single", epochs=30, pooled=True`. With several devices the program is started
            again for each of them, up to here, and goes on in all of them; only the first prints
            and writes.

    Returns:
        The detector, which is also saved as best.safetensors in the run's folder.
    """
    return train_run(data, **options).detector


def train_run(
    data: Any,
    *,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    budget: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | Path | None = None,
    devices: int | None = None,
    nodes: int | None = None,
    console: Console | None = None,
    **options: Any,
) -> Trained:
    """`train`, with all that it leaves; see there."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    clock = Clock(Progress(console))
    if resume and overwrite:
        raise SettingsError("--resume goes on with a run, --overwrite replaces it: give one")
    replayed = TrainSettings.read(Path(config)) if config else {}
    if budget is not None:
        if resume:
            raise SettingsError("a run that is resumed has been planned: leave --budget out")
        replayed = {k: v for k, v in replayed.items() if k not in choosing.PLANNED}
    given = {**replayed, **options}
    if resume:
        given = resumed_settings(out, given)
    origin = Detector.load(given["start"]) if given.get("start") else None
    if origin is not None:
        given = continued_settings(origin, given)
    settings = TrainSettings.create(given)
    device = resolve_device(settings.fit.device)
    check_installed(settings.logger)
    # Names that a person typed must be there; those of a replayed run or a detector need not.
    absent = {*(settings.classes or ()), *settings.rename}
    absent -= {*(options.get("classes") or ()), *options.get("rename", {})}
    with ranks.started(devices, nodes, device), ExitStack() as held:
        console.quiet = console.quiet or not ranks.first()
        with clock.part("read"):
            if out is not None:  # before any work
                named = Path(out)
                ranks.from_first(lambda: check_free(named, resume=resume, overwrite=overwrite))
            train_set, val_set = ranks.in_turn(lambda: _read(data, settings, absent, console))
            settings = replace(settings, classes=train_set.classes)
            room = None
            if budget is not None:
                room = ranks.from_first(lambda: planning.room(cache_root(cache), train_set.name))
            settings = choosing.chosen(
                settings, given, train_set, val_set, budget, device, console, room
            )
            ranks.check_same((settings, _outline(train_set), _outline(val_set)), "data or settings")
            run = folder_of(out, train_set.name, settings.head)
            if origin is not None and not resume:
                _check_kept(settings.start, run)
            opening = opened_run(run, resume=resume, overwrite=overwrite)
            ranks.from_first(lambda: held.enter_context(opening))
            ranks.from_first(lambda: _write_settings(run, settings, val_set, budget))
            backbone, head = ranks.in_turn(lambda: _network(settings, train_set, origin))
            count = stage_count(settings.thaw, len(backbone.strides))
            stages = Stages(backbone, count) if count else None  # says what cannot be cut at once
        planned = choosing.PLANNED if budget is not None else ()
        known = {k: v for k, v in settings.flat().items() if k not in planned}
        names = settings.logger if ranks.first() else NO_LOGGER
        with (
            _with_a_way_on(data, run, console, cache=cache, devices=devices, nodes=nodes),
            logging_to(names, run, known, resume=resume) as loggers,
        ):
            with clock.part("extract"):
                # Where all stages learn from photos at once, the cache only knows which can be
                # read.
                photos_only = not settings.head_first and count == len(backbone.strides)
                wanted = [(train_set, 1 if photos_only else settings.views)]
                wanted += [(val_set, 1)] if val_set else []
                with ranks.aloud():  # a broken photo is named by who meets it
                    caches = ensure_caches(
                        wanted, backbone, settings, cache, console, clock.progress, device,
                        ranks.opened(),
                    )  # fmt: skip
            learner = Learner(
                backbone, head, caches, train_set, val_set, settings, run, device, stages,
                loggers=loggers,
            )  # fmt: skip
            if budget is not None:
                with clock.part("plan"):
                    learner = choosing.scheduled(learner, budget, clock)
            try:
                fitted = learner.learn(clock, console, resume=resume)
            except DivergedError as error:  # in all processes
                ranks.raised_by_first(ranks.from_first(partial(_kept_before, learner, error)))
            detector = learner.detector()
            detector.settings, summary = ranks.from_first(
                lambda: _concluded(learner, detector, fitted, clock, loggers)
            )
    return Trained(detector, run, summary)


def _check_kept(start: str, run: Path) -> None:
    """Raise SettingsError where the run would replace the detector that it starts from."""
    if Path(start).resolve() in (run.resolve(), (run / "best.safetensors").resolve()):
        raise SettingsError(
            f"the run would replace {start}, from which it starts: name another folder with --out"
        )


def _outline(dataset: DetectionSet | None) -> int | None:
    """By which processes see whether they have read the same."""
    if dataset is None:
        return None
    rows = [(image.image_id, [(o.name, o.box) for o in image.objects]) for image in dataset.images]
    return zlib.crc32(repr(rows).encode())


def _write_settings(
    run: Path, settings: TrainSettings, val_set: DetectionSet | None, budget: float | None
) -> None:
    """What the run is begun with."""
    if budget is None:
        write_whole(run / SETTINGS, settings.to_json())
    else:  # written when it is planned: what is not planned cannot be resumed
        (run / SETTINGS).unlink(missing_ok=True)
    if val_set is not None and val_set.made is not None:
        write_whole(run / "splits.json", val_set.made.read_bytes())


def _concluded(
    learner: Learner,
    detector: Detector,
    fitted: Mapping[str, FitResult],
    clock: Clock,
    loggers: RunLoggers,
) -> tuple[Settings, dict[str, Any]]:
    """Measure the detector and write all that the run leaves; its settings and summary.json."""
    run, val_set = learner.run, learner.val_set
    measured = calibration = None
    with clock.part("evaluate"):
        if val_set:
            predictions = learner.predict(detector)
            measured = suite.measure(predictions, val_set, bootstrap=_RESAMPLES, brief=True).figures
            selection, calibration = evaluation.fitted_selection(
                detector.settings.selection, predictions, val_set
            )
            detector.settings = replace(detector.settings, selection=selection)
    summary = summarise(learner, fitted, measured, calibration, clock.seconds)
    detector.settings = replace(detector.settings, training=for_header(summary))
    detector.save(run / "best.safetensors")
    write_whole(run / "summary.json", json.dumps(summary, indent=2))
    write_card(run, summary, learner.settings, detector.settings.selection)
    loggers.final(learner.settings.flat(), measured)
    return detector.settings, summary


@contextmanager
def _with_a_way_on(data: Any, run: Path, console: Console, **options: Any) -> Iterator[None]:
    """Where Ctrl-C ends the work inside, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        way = "the same command begins again, with the features that are cached"
        if (run / SETTINGS).exists():
            way = f"go on with: {command_to_resume(data, run, options)}"
        console.print(f"stopped; {way}", soft_wrap=True)
        raise


def _kept_before(learner: Learner, error: DivergedError) -> DivergedError:
    """Save the weights from before a loss that is no number, and say so."""
    way = "choose a smaller --lr, or look at the boxes of these images"
    if error.kept is not None:
        path = learner.detector().save(learner.run / "best.safetensors")
        way = (
            f"{path} has the weights from before; to go on from them, give --start {learner.run} "
            f"with another --out, and {way}"
        )
    return DivergedError(f"{error}: {way}")


def _read(
    data: Any, settings: TrainSettings, absent: Collection[str], console: Console
) -> tuple[DetectionSet, DetectionSet | None]:
    """The images to learn from, and those that choose the best weights."""
    source = recognise(data)
    val = None if settings.val_split == "none" else settings.val_split
    names = tuple(settings.rename) if settings.classes is None else None
    check_before_training(source, [settings.train_split, *([val] if val else [])], names, console)
    found = load_training(
        source, settings.train_split, val, settings.classes, settings.rename, absent=absent
    )
    sets = [check_photo_sizes(one) for one in found if one is not None]
    check_loaded(data, source, sets, names, console)
    for one in sets:
        console.print(source.seen(one), soft_wrap=True)
    train_set = sets[0]
    # Said here, and not by the training alone, which comes after hours of extraction.
    if all(obj.crowd for image in train_set.images if image.photo for obj in image.objects):
        raise DataError(
            f"{source.root}: no photo of {train_set.split!r} has an object to learn from: annotate "
            "some, or look at what is left out above."
        )
    console.print(
        f"{len(train_set.classes)} classes from {told(train_set.classes_from)}: "
        f"{', '.join(train_set.classes)}"
    )
    return train_set, sets[1] if len(sets) > 1 else None


def _network(
    settings: TrainSettings, train_set: DetectionSet, origin: Detector | None
) -> tuple[backbones.Backbone, Head]:
    """Backbone and head, with the weights of `origin` where there is one."""
    if origin is not None:
        return origin.backbone, origin.head
    torch.manual_seed(settings.fit.seed)
    head_type = head_class(settings.head)
    strides = head_type.strides_for(settings.head_settings)
    backbone = backbones.create(settings.backbone, strides, settings.weights)
    boxes = (
        targets(
            image,
            train_set,
            geometry(settings.resize, (image.width, image.height), settings.size),
            difficult=settings.fit.difficult,
        )
        for image in train_set.photos
    )
    head_settings = head_type.fitted_settings(settings.head_settings, boxes)
    spec = feature_spec(backbone, settings.size)
    return backbone, create_head(settings.head, spec, len(train_set.classes), head_settings)


def resumed_settings(out: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that is resumed; what is given may not contradict them.

    Raises:
        SettingsError: no folder named, or a setting that differs from the run's.
    """
    if out is None:
        raise SettingsError("--resume needs the folder of the run: name it with --out")
    if not (Path(out) / SETTINGS).exists():
        raise SettingsError(
            f"{out} has no run to resume ({SETTINGS} is missing): leave --resume out"
        )
    stored = TrainSettings.read(Path(out) / SETTINGS)
    known = {**stored, **stored["head_settings"]}
    for name, value in given.items():
        if known.get(name) != value:
            raise SettingsError(
                f"{name} is {value!r} and the run in {out} was started with {known.get(name)!r}: "
                "leave it out to resume, or start another run"
            )
    return stored


def continued_settings(origin: Detector, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that starts from a detector; what is given may not contradict it.

    Raises:
        SettingsError: a setting that the detector's weights decide, given otherwise.
    """
    known = {
        "head": origin.head_name,
        "backbone": origin.backbone.name,
        "size": origin.settings.size,
        "resize": origin.settings.resize,
        "classes": origin.settings.classes,
        "rename": {**origin.settings.rename, **given.get("rename", {})},
    }
    for old, new in given.get("rename", {}).items():
        if origin.settings.rename.get(old, new) != new:
            raise SettingsError(
                f"rename maps {old} to {new} and the detector to start from maps it to "
                f"{origin.settings.rename[old]}: leave it out, or train from the start"
            )
    own = settings_of(origin.head)
    for name, value in given.items():
        if name == "rename":
            continue
        same = tuple(value) if isinstance(value, list) else value
        same = backbones.full_name(value) if name == "backbone" else same
        if (known | own).get(name, same) != same:
            raise SettingsError(
                f"{name} is {value!r} and the detector to start from has "
                f"{(known | own)[name]!r}: leave it out, or train from the start"
            )
    if given.get("weights", "auto") != "auto":
        raise SettingsError("a detector brings its own weights: leave weights out")
    # The head comes trained: it is trained alone only where epochs are asked for.
    head_first = given.get("thaw", NONE) == NONE or "epochs" in given
    return {"head_first": head_first, **given, **known, "head_settings": own}
