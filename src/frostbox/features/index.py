"""The index of a feature cache: what is in it, for which request it may be used, and its JSON.

The index holds no labels and no boxes: they come from the data set at training time, so corrected
labels need no new extraction. It holds no time and no random value either: the same request
gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from frostbox.data.annotations import LARGEST_SIDE, DetectionSet
from frostbox.data.views import MAX_VIEWS, View, first_views, view_from_json
from frostbox.errors import CacheError, SettingsError, one_line
from frostbox.features.fingerprint import fingerprint
from frostbox.features.remote_cache import content, hand_over
from frostbox.files import write_whole
from frostbox.untrusted import is_plain, once, parse_json, shown

if TYPE_CHECKING:
    from frostbox.backbones import Backbone

FORMAT_VERSION = 4
"""1: views are original and flip. 2: they may also be drawn (`data.views.DrawnView`). 3: features
may be int8, with a scale a channel. 4: views may be mosaics."""
FLOAT16, INT8 = "float16", "int8"
DTYPES = {FLOAT16: 2, INT8: 1}
"""How features may be stored, and the bytes of one."""
INDEX_FILE = "index.json"
_MOST_SHARDS = 1_000_000


def canvas(backbone: Backbone) -> tuple[int, int, int]:
    """Red, green and blue of the backbone's mean colour: what lies around a zoomed-out picture."""
    red, green, blue = (round(255 * value) for value in backbone.mean)
    return red, green, blue


def views_for(backbone: Backbone, count: int) -> tuple[View, ...]:
    """The first `count` views, on a canvas of the backbone's mean colour."""
    return first_views(count, fill=canvas(backbone))


class DamagedIndexError(CacheError):
    """An index that does not say what was written into it."""


@dataclass(frozen=True)
class CacheRequest:
    """What decides whether a cache holds the features that are asked for.

    Attributes:
        backbone: name of the backbone.
        weights_hash: of the cut that gives `strides`.
        size: (width, height) of the pictures that the backbone sees, in pixels.
        mode: resize mode of data/transforms.py.
        strides: of the maps, finest first.
        views: in the order in which they are stored.
        fingerprint: of the photos, see `fingerprint`.
        dtype: of the stored features: "float16", or "int8" with a scale a channel and shard.
        precision: that was asked for, see features.create_engine; "auto" is served by any.
    """

    backbone: str
    weights_hash: str
    size: tuple[int, int]
    mode: str
    strides: tuple[int, ...]
    views: tuple[View, ...]
    fingerprint: str
    dtype: str = field(default=FLOAT16, repr=False)
    precision: str = field(default="auto", repr=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SettingsError(
                f"features are stored as {' or '.join(DTYPES)}, not as {self.dtype!r}"
            )

    @classmethod
    def of(
        cls,
        dataset: DetectionSet,
        backbone: Backbone,
        *,
        size: tuple[int, int],
        mode: str = "shrink",
        views: int = 1,
        dtype: str = FLOAT16,
        precision: str = "auto",
    ) -> CacheRequest:
        """The request that `extract` with the same arguments fulfils.

        Raises SettingsError for an unknown dtype.
        """
        return cls(
            backbone=backbone.name,
            weights_hash=backbone.weights_hash,
            size=(int(size[0]), int(size[1])),
            mode=mode,
            strides=backbone.strides,
            views=views_for(backbone, views),
            fingerprint=fingerprint(dataset),
            dtype=dtype,
            precision=precision,
        )

    def mismatch(self, held: CacheRequest) -> str | None:
        """Why a cache made for `held` cannot serve this request; None when it can.

        A cache with more views serves, as long as the first ones are those asked for.
        """
        if held.views[: len(self.views)] == self.views:
            held = replace(held, views=self.views)
        if self.precision == "auto":
            held = replace(held, precision="auto")
        reasons = [
            _redrawn(held.views, self.views)
            if name == "views" and _shown(have) == _shown(want)
            else f"{_LABELS[name]} is {_shown(have)}, not {_shown(want)}"
            for name in _LABELS
            if (have := getattr(held, name)) != (want := getattr(self, name))
        ]
        return "; ".join(reasons) or None


_LABELS = {
    "backbone": "backbone",
    "strides": "strides",
    "weights_hash": "hash of the backbone's weights",
    "size": "image size (width, height)",
    "mode": "resize mode",
    "views": "views",
    "fingerprint": "fingerprint of the photos",
    "dtype": "type of the stored features",
    "precision": "precision",
}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(v.name if isinstance(v, View) else str(v) for v in value) + ")"
    text = str(value)
    # Hashes are shortened: the first digits tell two of them apart.
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _redrawn(held: Sequence[View], wanted: Sequence[View]) -> str:
    """How the first of two lists' views that differ, and have the same name, was drawn."""
    have, want = next(pair for pair in zip(held, wanted, strict=True) if pair[0] != pair[1])
    asked = asdict(want)
    changed = [f"{k} {v}, not {asked[k]}" for k, v in asdict(have).items() if v != asked[k]]
    return f"view '{have.name}' was drawn with {'; '.join(changed)}"


@dataclass(frozen=True)
class Shard:
    """One file of a cache. Row r of its tensors is image `ids[r]` in all views.

    Attributes:
        file: name inside the cache's folder.
        ids: image ids, in order.
        sizes: (width, height) of each image as decoded, in pixels.
        skipped: image id to the reason why it is not in here.
        nbytes: size of the file.
        sha256: of the file.
        engine: what computed the features: program, version, precision, device.
    """

    file: str
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    skipped: dict[str, str]
    nbytes: int
    sha256: str
    engine: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The shard of an entry of the index; raises KeyError, TypeError or ValueError."""
        sizes = tuple((int(width), int(height)) for width, height in data["sizes"])
        shard = cls(**{**data, "ids": tuple(data["ids"]), "sizes": sizes})
        if type(shard.skipped) is not dict or type(data["ids"]) is not list:
            raise ValueError(f"skipped of shard {shown(shard.file)} is no object, or ids no list")
        if len(shard.ids) != len(sizes):
            raise ValueError(
                f"shard {shown(shard.file)} has {len(shard.ids)} ids and {len(sizes)} sizes"
            )
        return shard


def _digest(data: dict[str, Any]) -> str:
    """sha256, in hex, of what an index says."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def shard_file(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


@dataclass(frozen=True)
class CacheIndex:
    """Everything that `index.json` says.

    Attributes:
        request: what the cache was made for.
        channels: of each map, finest first.
        map_sizes: (height, width) of each map.
        dataset, split, classes: where the photos came from; for people, never checked.
        images: photos of the data set, with those that had to be skipped.
        shard_images: photos a shard.
        shards: the files that are complete, in order.
        complete: False while the extraction is running or interrupted.
        boundary: None: stages that are thawed start from one of the maps, see backbones.stages.
        created_by: package and version that wrote it.
        format_version: of this format.
    """

    request: CacheRequest
    channels: tuple[int, ...]
    map_sizes: tuple[tuple[int, int], ...]
    dataset: str
    split: str
    classes: tuple[str, ...]
    images: int
    shard_images: int
    shards: tuple[Shard, ...]
    complete: bool
    boundary: str | None
    created_by: str
    format_version: int = FORMAT_VERSION

    @property
    def shard_count(self) -> int:
        """How many shards the whole cache has."""
        return -(-self.images // self.shard_images)

    @property
    def image_nbytes(self) -> int:
        """Bytes of features of one image in all views."""
        maps = zip(self.channels, self.map_sizes, strict=True)
        size = DTYPES[self.request.dtype] * len(self.request.views)
        return size * sum(c * h * w for c, (h, w) in maps)

    def images_of(self, number: int) -> range:
        """Which photos of the data set a shard is made from."""
        start = number * self.shard_images
        return range(start, min(start + self.shard_images, self.images))

    def missing_shards(self) -> list[int]:
        """Numbers of the shards that are not there yet."""
        there = {shard.file for shard in self.shards}
        return [number for number in range(self.shard_count) if shard_file(number) not in there]

    def with_shards(self, shards: Sequence[Shard]) -> CacheIndex:
        """The index with these shards, in the order of their files; complete when all are there."""
        ordered = tuple(sorted(shards, key=lambda shard: shard.file))
        return replace(self, shards=ordered, complete=len(ordered) == self.shard_count)

    def write(self, folder: Path) -> None:
        """Replace the folder's index in one step. Raises OSError, RemoteError."""
        data = asdict(self)
        data = {"format_version": data.pop("format_version"), **data.pop("request"), **data}
        data["sha256"] = _digest(data)
        write_whole(folder / INDEX_FILE, json.dumps(data, ensure_ascii=False))
        hand_over(folder, INDEX_FILE)

    @classmethod
    def read(cls, folder: Path) -> CacheIndex:
        """Read a folder's index.

        A reader takes every format version up to its own, `FORMAT_VERSION`, and fills what an
        older version lacks; it refuses newer ones.

        Raises:
            CacheError: no index there, not JSON, fields missing, or of a newer version.
        """
        path = folder / INDEX_FILE
        try:
            data = parse_json(content(folder, INDEX_FILE), once)
        except OSError as error:
            raise CacheError(
                f"{folder} is no feature cache: {INDEX_FILE} cannot be read ({error.strerror}); "
                "give the folder that frostbox extract wrote"
            ) from error
        except ValueError as error:
            raise DamagedIndexError(
                f"{path} is damaged ({error}); delete the folder and extract again"
            ) from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise CacheError(f"{path} has no format_version: it is no index of a feature cache")
        if version > FORMAT_VERSION:
            raise CacheError(
                f"{path} has format_version {version}, and this frostbox reads up to "
                f"{FORMAT_VERSION}; upgrade frostbox or extract again"
            )
        if data.pop("sha256", None) not in (None, _digest(data)):  # older ones have none
            raise DamagedIndexError(
                f"{path} is damaged (its own sha256 is another); delete the folder and extract "
                "again"
            )
        try:
            return cls._from_json(data)
        except (KeyError, TypeError, ValueError, OverflowError, SettingsError) as error:
            raise DamagedIndexError(
                f"{path} is damaged ({type(error).__name__}: {one_line(error)[:300]}); delete the "
                "folder and extract again"
            ) from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> CacheIndex:
        width, height = data["size"]
        request = CacheRequest(
            **{
                # Before precision was recorded, features were always float32.
                **{"precision": "32"},
                **{one.name: data[one.name] for one in fields(CacheRequest) if one.name in data},
                "size": (int(width), int(height)),
                "strides": tuple(data["strides"]),
                "views": tuple(view_from_json(view) for view in data["views"]),
            }
        )
        own = [one.name for one in fields(cls) if one.name != "request"]
        index = cls(
            **{
                **{name: data[name] for name in own},
                "request": request,
                "channels": tuple(data["channels"]),
                "map_sizes": tuple((int(h), int(w)) for h, w in data["map_sizes"]),
                "classes": tuple(data["classes"]),
                "shards": tuple(Shard.from_json(shard) for shard in data["shards"]),
            }
        )
        index._check()
        return index

    def _check(self) -> None:
        """Raise ValueError for what would lead out of the folder or beyond the end of a file."""
        r = self.request
        _check_all(str, [r.backbone, r.weights_hash, r.mode, r.fingerprint, r.precision])
        _check_all(str, [self.dataset, self.split, *self.classes, self.created_by])
        _check_counts([*r.strides, *self.channels, *chain(*self.map_sizes), self.shard_images])
        if not len(r.strides) == len(self.channels) == len(self.map_sizes) > 0:
            raise ValueError("strides, channels and map_sizes differ in length")
        if len(set(r.strides)) < len(r.strides) or not 1 <= len(r.views) <= MAX_VIEWS:
            raise ValueError("a stride stands twice, or there are no views")
        if not all(1 <= side <= LARGEST_SIDE for side in r.size):
            raise ValueError(f"no picture is brought to {r.size}")
        _check_all(int, [self.images, *(shard.nbytes for shard in self.shards)])
        numbers = {shard_file(k): k for k in range(min(self.shard_count, _MOST_SHARDS))}
        names = [shard.file for shard in self.shards]
        if not set(names) <= numbers.keys() or names != sorted(set(names)):
            raise ValueError(f"its shards are {shown(names)}, not {shard_file(0)} and so on")
        if type(self.complete) is not bool or (self.complete and len(names) != self.shard_count):
            raise ValueError(f"complete is {shown(self.complete)} with {len(names)} shards")
        _check_all(
            str,
            chain(
                *(
                    (s.engine, s.sha256, *s.ids, *s.skipped, *s.skipped.values())
                    for s in self.shards
                )
            ),
        )
        odd = next((k for shard in self.shards for k in shard.ids if not is_plain(k)), None)
        if odd is not None:
            raise ValueError(f"{shown(odd)} is no id of an image")
        for shard in self.shards:
            sides = [side for size in shard.sizes for side in size]
            if not all(1 <= side <= LARGEST_SIDE for side in sides):
                raise ValueError(f"{shard.file} has a picture without size")
            if len(shard.ids) + len(shard.skipped) > len(self.images_of(numbers[shard.file])):
                raise ValueError(f"{shard.file} has too many ids")
            if shard.nbytes < len(shard.ids) * self.image_nbytes:
                raise ValueError(f"{shard.file} is too small for its maps")


def _check_all(kind: type, values: Iterable[Any]) -> None:
    for value in values:
        if type(value) is not kind:  # None too
            raise ValueError(f"{shown(value)} stands where {kind.__name__} belongs")


def _check_counts(values: Sequence[Any]) -> None:
    _check_all(int, values)
    if not all(1 <= value <= LARGEST_SIDE for value in values):
        raise ValueError(f"a number of {shown(list(values))} is out of range")
