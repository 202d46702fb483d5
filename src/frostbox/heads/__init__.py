"""Heads: what turns the backbone's feature maps into boxes. The unit of growth.

To add one, write one file here with a class that derives from `Head` and put its name into
`_HEADS`. Training, evaluation, prediction and export know only the five methods of `Head`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from frostbox.errors import SettingsError

Targets = Mapping[str, Tensor]
Encoded = dict[str, Tensor]
Raw = dict[str, Tensor]

_LARGEST, _LONGEST, _DEEPEST = 4096, 256, 64  # of numbers, lists and depths in a file's settings
_HEADS = {
    "single": "frostbox.heads.single:SingleHead",
    "grid": "frostbox.heads.grid:GridHead",
    "anchors": "frostbox.heads.anchors:AnchorsHead",
    "pyramid": "frostbox.heads.pyramid:PyramidHead",
}


@dataclass(frozen=True)
class FeatureSpec:
    """The feature maps that a head receives, finest first, known before any run.

    Attributes:
        strides: input pixels a cell; channels: of each map; sizes: (rows, columns) of each map.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


class Head(nn.Module, ABC):
    """Five things and nothing else: forward, encode, loss, decode, metrics.

    `targets` of one image are a mapping of `boxes` float32 (n, 4) normalised (cx, cy, w, h),
    `labels` int64 (n,) and `difficult` bool (n,).
    """

    strides: ClassVar[tuple[int, ...]]
    """The strides of the feature maps that the head asks the backbone for."""
    Settings: ClassVar[type]
    """The dataclass of the head's settings, every field with a default that works."""
    whole: ClassVar[bool] = False
    """Whether it learns from what an image shows as a whole, and so from no mosaics of several."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Fields of TrainSettings and FitSettings that suit this head better than the general ones."""

    settings: Any
    """An instance of `Settings`."""

    @classmethod
    def fitted_settings(
        cls, settings: Mapping[str, Any], targets: Iterable[Targets]
    ) -> Mapping[str, Any]:
        """The settings with what they leave to the training boxes, before the head is built.

        Most heads leave nothing, and then the targets are not even read.
        """
        return settings

    @classmethod
    def strides_for(cls, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """The strides that a head with these settings asks the backbone for."""
        return cls.strides

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Raw:
        """Raw outputs, each with leading dimension B, of float32 maps (B, C, rows, columns)."""

    @abstractmethod
    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """What can be computed once for each image: tensors with leading dimension N."""

    @abstractmethod
    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Weighted scalars; their sum is what training minimises."""

    @abstractmethod
    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Dense boxes (B, A, 4) normalised xyxy and scores (B, A, K) in [0, 1]. Traceable."""

    @abstractmethod
    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Figures for people, each a 1-D tensor of one value a counted thing; take the mean."""


def head_names() -> tuple[str, ...]:
    """The registered names."""
    return tuple(_HEADS)


def head_class(name: str) -> type[Head]:
    """The class behind a name. SettingsError for an unknown one."""
    if not isinstance(name, str) or name not in _HEADS:
        raise SettingsError(f"unknown head '{name}': choose one of {', '.join(_HEADS)}")
    module, _, attribute = _HEADS[name].partition(":")
    cls: type[Head] = getattr(importlib.import_module(module), attribute)
    return cls


def check_types(settings: Any) -> None:
    """Raise SettingsError for a field whose value has another type than its default."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    for field in fields(settings):
        value, kind = getattr(settings, field.name), type(field.default)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if kind in words and not fits:
            raise SettingsError(f"{field.name} is {value!r}: it must be {words[kind]}")


def check_sizes(settings: Any) -> None:
    """Raise SettingsError for head settings of a file that would build layers without end."""
    if not isinstance(settings, Mapping):
        raise SettingsError("the settings of the head are no mapping")
    depth = settings.get("depth")
    if isinstance(depth, int) and depth > _DEEPEST:
        raise SettingsError(f"depth is {depth}, and at most {_DEEPEST}")
    values = list(settings.values())
    while values:
        value = values.pop()
        if isinstance(value, (list, tuple)):
            if len(value) > _LONGEST:
                raise SettingsError(f"a setting of the head has {len(value):,} values")
            values += value
        elif isinstance(value, int) and abs(value) > _LARGEST:
            raise SettingsError(f"a setting of the head is {value:,}, and at most {_LARGEST:,}")


def check_share(settings: Any, *names: str) -> None:
    """Raise SettingsError for a field outside [0, 1)."""
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise SettingsError(f"{name} is {getattr(settings, name)}: it must be in [0, 1)")


def check_gamma(settings: Any) -> None:
    """Raise SettingsError for a negative `focal_gamma`."""
    if not settings.focal_gamma >= 0:
        raise SettingsError(f"focal_gamma is {settings.focal_gamma}: it must be 0 or more")


def check_choice(settings: Any, name: str, choices: Sequence[str]) -> None:
    """Raise SettingsError for a field that is none of the choices."""
    value = getattr(settings, name)
    if value not in choices:
        raise SettingsError(f"{name} is '{value}': choose one of {', '.join(choices)}")


def create_head(
    name: str,
    features: FeatureSpec,
    num_classes: int,
    settings: Mapping[str, Any] | None = None,
) -> Head:
    """Build a head for the given feature maps.

    Raises:
        SettingsError: unknown head, or a setting that it does not have.
    """
    cls = head_class(name)
    known = {f.name for f in fields(cls.Settings)}
    unknown = sorted(set(settings or {}) - known)
    if unknown:
        raise SettingsError(
            f"head '{name}' has no setting '{unknown[0]}': it has {', '.join(sorted(known))}"
        )
    head: Head = cls(features, num_classes, cls.Settings(**(settings or {})))  # type: ignore[call-arg]
    return head


def settings_of(head: Head) -> dict[str, Any]:
    """The head's settings as a plain dictionary, as a checkpoint stores them."""
    return asdict(head.settings)
