"""The settings of a training: what settings.json holds and --config replays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from frostbox.data.views import first_views
from frostbox.errors import NotFoundError, SettingsError, one_line
from frostbox.features.index import DTYPES, FLOAT16
from frostbox.heads import check_types, head_class
from frostbox.loggers import logger_names
from frostbox.thawing import stage_count
from frostbox.training import FitSettings
from frostbox.untrusted import once, parse_json, shown

SETTINGS_VERSION = 1
"""Of settings.json. A reader accepts its own version and older ones, which lack fields that then
take their defaults; a newer one is refused."""


DEFAULT_HEAD = "pyramid"
RESIZE_MODES = ("shrink", "crop", "letterbox")  # what gives every picture the same size


@dataclass(frozen=True)
class TrainSettings:
    """Everything that a training depends on besides the data. `settings.json` holds it.

    Attributes:
        head: name of the head. head_settings: what differs from its defaults.
        backbone: name. weights: auto, random:SEED, or a file.
        size: (width, height) of the network's input. resize: shrink, crop or letterbox.
        views: of each training image in the cache, see data.views.first_views.
        features: how the cache stores them: float16, or int8 for half of the disk.
        train_split, val_split: names of lists; "none" for val selects and measures nothing.
        classes: class names to keep, in label order; None for all of the data set.
        rename: new name of a class by its old one, applied before `classes`.
        strict: a broken photo is an error, not skipped.
        start: a detector whose weights are the start, or "" for none.
        head_first: train the head on frozen features before stages are thawed.
        thaw: after the head, also train the last so many stages of the backbone ("1", ...), "all"
            from the photo on, or "none". thaw_epochs, thaw_lr, thaw_epoch_images: of
            that second phase, which otherwise follows `fit`.
        logger: where the curves go: names of loggers.LOGGERS with commas between them, or "none".
        fit: see FitSettings.
    """

    head: str = DEFAULT_HEAD
    head_settings: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = "efficientnet_lite0"
    weights: str = "auto"
    size: tuple[int, int] = (224, 224)
    resize: str = "shrink"
    views: int = 2
    features: str = FLOAT16
    train_split: str = "train"
    val_split: str = "val"
    classes: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    start: str = ""
    head_first: bool = True
    thaw: str = "none"
    thaw_epochs: int = 8
    thaw_lr: float = 2e-3
    thaw_epoch_images: int = 0
    logger: str = "tensorboard"
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        check_types(self)
        if self.resize not in RESIZE_MODES:
            raise SettingsError(
                f"resize is '{self.resize}': choose one of {', '.join(RESIZE_MODES)}"
            )
        if self.features not in DTYPES:
            raise SettingsError(
                f"features are stored as {' or '.join(DTYPES)}, not as {self.features!r}"
            )
        first_views(self.views, fill=(0, 0, 0))
        if self.thaw_epochs < 1:
            raise SettingsError(f"thaw_epochs is {self.thaw_epochs}: it must be at least 1")
        if not self.thaw_lr > 0:
            raise SettingsError(f"thaw_lr is {self.thaw_lr}: it must be greater than 0")
        stage_count(self.thaw, len(head_class(self.head).strides_for(self.head_settings)))
        logger_names(self.logger)
        head_class(self.head).Settings(**self.head_settings)  # says what is wrong before any work

    def thaw_fit(self) -> FitSettings:
        """Of the second phase."""
        return replace(
            self.fit,
            epochs=self.thaw_epochs,
            lr=self.thaw_lr,
            epoch_images=self.thaw_epoch_images,
        )

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> TrainSettings:
        """From flat names: fields of this class, of FitSettings, and of the head's settings.

        Raises:
            SettingsError: a name that none of them has, or a value out of range.
        """
        head = head_class(given.get("head", DEFAULT_HEAD))
        own = {f.name for f in fields(cls)} - {"fit", "head_settings"}
        fit_names = {f.name for f in fields(FitSettings)}
        own_settings = given.get("head_settings", {})
        if not isinstance(own_settings, Mapping):
            raise SettingsError(f"head_settings is {shown(own_settings)}: it must be an object")
        odd = [name for name in own_settings if name not in _names(head.Settings)]
        if odd:
            raise SettingsError(
                f"head_settings has {shown(odd[0])}: there are "
                f"{', '.join(sorted(_names(head.Settings)))}"
            )
        head_settings = dict(own_settings)
        head_settings |= {k: v for k, v in given.items() if k in _names(head.Settings)}
        known = own | fit_names | _names(head.Settings) | {"head_settings"}
        unknown = [name for name in given if name not in known]
        if unknown:
            raise SettingsError(
                f"unknown setting '{unknown[0]}': there are {', '.join(sorted(known))}"
            )
        chosen = {**head.defaults, **given}
        fit_values = {k: v for k, v in chosen.items() if k in fit_names}
        values = {k: v for k, v in chosen.items() if k in own}
        return cls(**values, head_settings=head_settings, fit=FitSettings(**fit_values))

    def to_json(self) -> str:
        """Text for settings.json."""
        return json.dumps({"version": SETTINGS_VERSION, **asdict(self)}, indent=2)

    def flat(self) -> dict[str, Any]:
        """By flat names, as `create` takes them, in the types of JSON."""
        known: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**known.pop("fit"), **known}

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The flat settings of a settings.json, to be passed to `create`.

        Raises:
            NotFoundError, SettingsError: no such file, or not one of ours.
        """
        if not path.exists():
            raise NotFoundError(f"{path} does not exist: give the settings.json of a run")
        try:
            stored = parse_json(path.read_bytes(), once)
            version = stored.pop("version")
            flat = {**stored.pop("fit"), **stored}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"{path} is not a settings.json of frostbox: {one_line(repr(error))[:300]}"
            ) from error
        if not isinstance(version, int) or version < 1:
            raise SettingsError(
                f"{path} has version {version!r}: it is no settings.json of frostbox"
            )
        if version > SETTINGS_VERSION:
            raise SettingsError(
                f"{path} has version {version}; this frostbox reads up to {SETTINGS_VERSION}: "
                "upgrade frostbox"
            )
        for name in ("size", "classes"):
            if flat.get(name) is not None:
                if not isinstance(flat[name], list):
                    raise SettingsError(f"{path}: {name} is {shown(flat[name])}: it must be a list")
                flat[name] = tuple(flat[name])
        return flat


def _names(settings: type) -> set[str]:
    return {f.name for f in fields(settings)}
