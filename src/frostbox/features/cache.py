"""Reading a feature cache: a folder of safetensors shards and one index.

The shards are mapped into memory, never loaded: what training reads stays in the system's page
cache and can be dropped by it. Writing is extract.py's part, the index format index.py's.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostbox.data.views import View
from frostbox.errors import CacheError
from frostbox.features.fingerprint import fingerprint
from frostbox.features.index import (
    FORMAT_VERSION,
    INDEX_FILE,
    INT8,
    CacheIndex,
    CacheRequest,
    Shard,
)
from frostbox.features.mapped import MappedShard, damaged
from frostbox.features.records import read_records
from frostbox.features.remote_cache import RemoteShards, remote_of, shown, stand_in
from frostbox.remote import kept_bytes
from frostbox.untrusted import parse_json

if TYPE_CHECKING:
    from frostbox.data.transforms import Geometry

__all__ = [
    "FORMAT_VERSION",
    "INDEX_FILE",
    "CacheIndex",
    "CacheRequest",
    "FeatureCache",
    "Shard",
    "fingerprint",
]


VERIFIED_AT_ONCE = 20_000_000_000
"""Bytes of a cache that is verified as a whole before a training: some ten seconds of reading."""
_MOST_MAPPED = 400  # shards at a time, each with an open file: systems allow a thousand
_LONGEST_HEADER = 100_000_000  # bytes; safetensors refuses a longer one


class FeatureCache:
    """A complete cache, open for reading. Cheap to send to another process: files stay files.

    `len()` is the number of images. A sample is a pair (image index, view index).

    Attributes:
        path: its folder; of one on a remote path what stands for it here.
        remote: its shards, where that is so.
        index: what the index file says.
        ids: image ids, in the order of the data set, without the skipped ones.
        original_sizes: (width, height) of each image as decoded, in pixels.
        skipped: image id to reason, of photos that could not be read.
    """

    def __init__(self, path: Path, index: CacheIndex) -> None:
        self.path = path
        self.index = index
        self.ids = [image_id for shard in index.shards for image_id in shard.ids]
        self._rows = {image_id: row for row, image_id in enumerate(self.ids)}
        self.original_sizes = [size for shard in index.shards for size in shard.sizes]
        self.skipped = {k: v for shard in index.shards for k, v in shard.skipped.items()}
        # First image index of every shard, and the end of the last.
        self._starts = np.cumsum([0, *(len(shard.ids) for shard in index.shards)])
        self._mapped: OrderedDict[int, MappedShard] = OrderedDict()  # the last used one last
        self._verified: set[int] = set()
        remote = remote_of(path)
        self.remote = RemoteShards(remote) if remote is not None else None
        self._most = _MOST_MAPPED
        if remote is not None and index.shards:  # those that are in use take disk as well
            largest = max(shard.nbytes for shard in index.shards)
            self._most = max(2, min(_MOST_MAPPED, kept_bytes() // 2 // largest))

    @classmethod
    def open(cls, path: str | Path) -> FeatureCache:
        """Open the cache in a folder, checking index and shards without reading the features.

        Raises:
            CacheError: no cache, an interrupted one, of a newer version, or with a shard that is
                missing or has another size than the index says.
        """
        folder = stand_in(path)
        index = CacheIndex.read(folder)
        if not index.complete:
            whole = {shard.file: shard for shard in (*read_records(folder), *index.shards)}
            done = sum(len(shard.ids) + len(shard.skipped) for shard in whole.values())
            raise CacheError(
                f"the feature cache {shown(folder)} is incomplete: {done} of {index.images} "
                "images; run the same extract command again, it goes on where it stopped"
            )
        cache = cls(folder, index)
        for shard in index.shards:
            if cache.remote is None:
                check_shard(folder, shard)
            else:
                cache.remote.check(shard)
        return cache

    @classmethod
    def complete(cls, path: str | Path) -> bool:
        """Whether `open` would succeed."""
        try:
            cls.open(path)
        except CacheError:
            return False
        return True

    @classmethod
    def whole(cls, path: str | Path, at_most: int = sys.maxsize) -> bool:
        """Whether `open` and `verify` would succeed: reads the whole cache, at a GB/s or so.

        Args:
            at_most: bytes of a cache that is read for that; a larger one is only opened, and each
                of its shards is verified when it is first read.
        """
        try:
            cache = cls.open(path)
            if cache.nbytes <= at_most:
                cache.verify()
        except CacheError:
            return False
        return True

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": OrderedDict()}

    @property
    def views(self) -> tuple[View, ...]:
        """The views in which every image is stored."""
        return self.index.request.views

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the maps, finest first."""
        return self.index.request.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map, finest first."""
        return self.index.channels

    @property
    def map_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each map, finest first."""
        return self.index.map_sizes

    @property
    def nbytes(self) -> int:
        """Size of all shards on disk."""
        return sum(shard.nbytes for shard in self.index.shards)

    def check(self, request: CacheRequest) -> None:
        """Raise CacheError with the reason when this cache does not serve the request."""
        reason = request.mismatch(self.index.request)
        if reason:
            raise CacheError(
                f"the feature cache {shown(self.path)} does not match: its {reason}; extract into "
                "another folder or delete this one"
            )

    def geometry(self, image_index: int, view_index: int = 0) -> Geometry:
        """How the pixels and boxes of an image were moved in a view."""
        request = self.index.request
        original = self.original_sizes[image_index]
        return self.views[view_index].geometry(
            self.ids[image_index], request.mode, original, request.size
        )

    def partners(
        self, image_index: int, view_index: int, ids: Sequence[str]
    ) -> list[tuple[str, Geometry]]:
        """The other images that a view shows, and how their pixels and boxes were moved.

        Args:
            ids: of the data set's photos, in order.
        """
        view, image_id, request = self.views[view_index], self.ids[image_index], self.index.request
        found = []
        for part, k in enumerate(view.partners(image_id, len(ids)), start=1):
            row = self._rows.get(ids[k])
            if row is not None:  # else it could not be read, and its place is empty
                original = self.original_sizes[row]
                moved = view.geometry(image_id, request.mode, original, request.size, part)
                found.append((ids[k], moved))
        return found

    def read(
        self,
        samples: Sequence[tuple[int, int]] | np.ndarray | Tensor,
        strides: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Feature maps of samples.

        Args:
            samples: (B, 2) integers: image index and view index of each.
            strides: a part of the cache's strides; None for all.

        Returns:
            One float16 (B, C, h, w) tensor per stride, finest first, in memory of its own.

        Raises:
            CacheError: a shard is damaged, or a stride is not in the cache.
            IndexError: an image or view index outside the cache.
        """
        rows = np.asarray(samples, dtype=np.int64).reshape(-1, 2)
        wanted = self._columns(strides)
        limits = (len(self.ids), len(self.views))
        if len(rows) and ((rows < 0) | (rows >= limits)).any():
            raise IndexError(f"samples {rows.tolist()} reach outside {limits} images and views")
        out = [
            torch.empty((len(rows), self.channels[k], *self.map_sizes[k]), dtype=torch.float16)
            for k in wanted
        ]
        shard_of = np.searchsorted(self._starts, rows[:, 0], side="right") - 1
        local = rows[:, 0] - self._starts[shard_of]
        places = list(zip(shard_of.tolist(), local.tolist(), rows[:, 1].tolist(), strict=True))
        views = len(self.views)
        for shard, row, view in places:
            self._shard(shard).announce(row * views + view, wanted)
        for place, (shard, row, view) in enumerate(places):
            maps = self._shard(shard).maps
            for target, k in zip(out, wanted, strict=True):
                stored, scale = maps[k]
                if scale is None:
                    target[place].copy_(stored[row, view])
                else:
                    torch.mul(stored[row, view], scale, out=target[place])
        return out

    def verify(self) -> None:
        """Read every shard and compare its sha256. Raises CacheError naming a damaged file.

        Of a cache on a remote path nothing is read: each shard is compared when it comes.
        """
        if self.remote is not None:
            return
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "verify") as pool:
            checks = [pool.submit(verify_shard, self.path, shard) for shard in self.index.shards]
            for check in checks:
                check.result()

    def _columns(self, strides: Sequence[int] | None) -> list[int]:
        if strides is None:
            return list(range(len(self.strides)))
        missing = [stride for stride in strides if stride not in self.strides]
        if missing:
            raise CacheError(
                f"the feature cache {self.path} has strides {self.strides}, not {missing}; extract "
                "again with these"
            )
        return [self.strides.index(stride) for stride in strides]

    def _shard(self, number: int) -> MappedShard:
        """A shard in use; the one that was not used for longest is let go where there are many."""
        if number not in self._mapped:
            shard = self.index.shards[number]
            if len(self._mapped) >= self._most:
                self._mapped.popitem(last=False)
            if self.remote is not None:
                with self.remote.held(shard) as path:  # mapped, it needs no name
                    self._mapped[number] = self._map(path, shard)
            else:
                if self.nbytes > VERIFIED_AT_ONCE and number not in self._verified:
                    verify_shard(self.path, shard)
                    self._verified.add(number)
                self._mapped[number] = self._map(self.path / shard.file, shard)
        self._mapped.move_to_end(number)
        return self._mapped[number]

    def _map(self, path: Path, shard: Shard) -> MappedShard:
        kind = torch.int8 if self.index.request.dtype == INT8 else torch.float16
        views, maps = len(self.views), (self.strides, self.channels, self.map_sizes)
        return MappedShard(path, shard, views, kind, *maps)

    def follow(self, images: Iterable[int]) -> None:
        """Have the shards of a cache on a remote path fetched before these images are read.

        Args:
            images: image indices in the order in which they will be read; of others the shards are
                fetched when they are.
        """
        if self.remote is not None:
            numbers = np.searchsorted(self._starts, np.asarray(list(images)), side="right") - 1
            order = dict.fromkeys(numbers.tolist())
            self.remote.follow([self.index.shards[number] for number in order])


def check_shard(folder: Path, shard: Shard) -> None:
    """Check that a shard is there, has its size, and starts with a safetensors header."""
    path = folder / shard.file
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length < min(size, _LONGEST_HEADER) else b""
    except OSError as error:
        raise CacheError(
            f"the shard {path} cannot be read ({error.strerror}); run the same extract "
            "command again"
        ) from error
    if size != shard.nbytes:
        raise damaged(path, f"it has {size} bytes, not {shard.nbytes}")
    try:
        parse_json(header)
    except ValueError as error:
        raise damaged(path, "its header is no safetensors header") from error


def verify_shard(folder: Path, shard: Shard) -> None:
    """`check_shard`, and the sha256 of the whole file. Raises CacheError."""
    check_shard(folder, shard)
    path = folder / shard.file
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
            raise damaged(path, "its sha256 is not the index's")
