"""The work of an extraction: photos decoded in threads, run through the engine, written as shards.

A photo is decoded once for all of its views. Decoding, the engine and writing run side by side;
what is written does not depend on which of them is faster.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frostbox.data.annotations import ImageAnnotation
from frostbox.data.colour import apply_colour
from frostbox.data.photos import read_enough
from frostbox.data.remote_sets import ahead
from frostbox.data.transforms import Geometry, apply_image, enough
from frostbox.data.views import View
from frostbox.errors import CacheError, DataError, NotFoundError
from frostbox.features.engine_contract import Engine
from frostbox.features.index import INT8, CacheIndex, Shard, shard_file
from frostbox.features.mapped import scale_name, tensor_name
from frostbox.files import write_parts
from frostbox.threads import helping_threads, one_thread

_LOG = logging.getLogger("frostbox")
_TYPES = {np.dtype(np.float16): "F16", np.dtype(np.float32): "F32", np.dtype(np.int8): "I8"}
_FLOAT16_LIMIT = 0x7BFF  # bits of 65504; infinity and NaN lie above

Picture = tuple[tuple[int, int], list[Tensor]]


@dataclass
class _Filling:
    """A shard in memory while the engine fills it."""

    number: int
    maps: list[np.ndarray]  # per stride, (images * views, C, h, w) float16
    ids: list[str]
    sizes: list[tuple[int, int]]
    skipped: dict[str, str]


@dataclass
class _Sample:
    """A picture on its way to a row of a shard."""

    row: int
    photo: Path | None
    pixels: Tensor  # uint8 (3, H, W)


class ShardWriter:
    """One run of an extraction: the photos of the missing shards, in order, to files."""

    def __init__(
        self,
        folder: Path,
        index: CacheIndex,
        engine: Engine,
        photos: Sequence[ImageAnnotation],
        strict: bool,
        told: Callable[[int], None],
        keep: Callable[[Shard], None],
    ) -> None:
        """`told` gets the images done in this run; `keep` a shard whose file is whole."""
        self._folder = folder
        self._index = index
        self._engine = engine
        self._photos = photos
        self._strict = strict
        self._told = told
        self._keep = keep

    def run(self, missing: Sequence[int], workers: int) -> None:
        """Write the shards of these numbers. Raises CacheError, OSError, under strict DataError."""
        wanted = [k for number in missing for k in self._index.images_of(number)]
        done = 0
        request = self._index.request
        self._told(done)
        with (
            one_thread(self._engine.kind == "openvino"),
            helping_threads(workers, "decode") as decoders,
            ThreadPoolExecutor(1, "write") as writer,
        ):
            pictures = _ahead(
                decoders,
                lambda k: load_views(
                    self._photos[k], request.mode, request.size, request.views, self._photos
                ),
                ahead(wanted, lambda k: self._photos[k].photo),
                # Two batches of decoded views, whether they come from many photos or from few.
                window=4 * workers + -(-2 * self._engine.batch_size // len(request.views)),
            )
            writing: Future[None] | None = None
            for number in missing:
                filling = self._empty(number)
                pending: list[_Sample] = []
                for k in self._index.images_of(number):
                    pending += self._take(filling, self._photos[k], next(pictures))
                    while len(pending) >= self._engine.batch_size:
                        self._submit(filling, pending[: self._engine.batch_size])
                        del pending[: self._engine.batch_size]
                    done += 1
                    self._told(done)
                if pending:
                    self._submit(filling, pending)
                self._engine.wait()
                if writing:
                    writing.result()
                writing = writer.submit(self._write, filling)
            if writing:
                writing.result()

    def _empty(self, number: int) -> _Filling:
        rows = len(self._index.images_of(number)) * len(self._index.request.views)
        maps = [
            np.empty((rows, channels, *size), dtype=np.float16)
            for channels, size in zip(self._index.channels, self._index.map_sizes, strict=True)
        ]
        return _Filling(number, maps, [], [], {})

    def _take(
        self, filling: _Filling, image: ImageAnnotation, loaded: Future[Picture]
    ) -> list[_Sample]:
        """Every view of a decoded photo; none when it is broken."""
        try:
            size, views = loaded.result()
        except (DataError, NotFoundError) as error:
            if self._strict:
                raise
            _LOG.warning("%s (skipped)", error)
            filling.skipped[image.image_id] = str(error)
            return []
        first = len(filling.ids) * len(views)
        filling.ids.append(image.image_id)
        filling.sizes.append(size)
        return [_Sample(first + k, image.photo, pixels) for k, pixels in enumerate(views)]

    def _submit(self, filling: _Filling, batch: list[_Sample]) -> None:
        first = batch[0].row

        def store(maps: list[Tensor]) -> None:
            for target, features in zip(filling.maps, maps, strict=True):
                values = features.numpy()
                if _beyond_float16(values):
                    raise self._too_large(batch, values)
                target[first : first + len(batch)] = values

        # Decoded pixels lie channels-last in memory; stacked as such they stay it.
        pixels = torch.stack([sample.pixels.permute(1, 2, 0) for sample in batch])
        self._engine.submit(pixels.permute(0, 3, 1, 2), store)

    def _too_large(self, batch: list[_Sample], values: np.ndarray) -> CacheError:
        photo = next(s.photo for s, one in zip(batch, values, strict=True) if _beyond_float16(one))
        return CacheError(
            f"a feature of {photo} by {self._index.request.backbone} is beyond float16's 65504 or "
            "not a number; check the backbone's weights or choose another backbone"
        )

    def _write(self, filling: _Filling) -> None:
        count, views = len(filling.ids), len(self._index.request.views)
        tensors: dict[str, np.ndarray] = {}
        for stride, maps in zip(self._index.request.strides, filling.maps, strict=True):
            stored = maps[: count * views]
            if self._index.request.dtype == INT8:
                stored, tensors[scale_name(stride)] = quantised(stored)
            tensors[tensor_name(stride)] = stored.reshape(count, views, *maps.shape[1:])
        file = shard_file(filling.number)
        nbytes, sha256 = write_tensors(self._folder / file, tensors)
        self._keep(
            Shard(
                file=file,
                ids=tuple(filling.ids),
                sizes=tuple(filling.sizes),
                skipped=filling.skipped,
                nbytes=nbytes,
                sha256=sha256,
                engine=self._engine.name,
            )
        )


def load_views(
    image: ImageAnnotation,
    mode: str,
    size: tuple[int, int],
    views: Sequence[View],
    photos: Sequence[ImageAnnotation] = (),
) -> Picture:
    """Decode a photo once and bring it to every view.

    Args:
        photos: of the data set, from which mosaics take the others; without any, their places stay
            empty.

    Returns:
        (width, height) as decoded, and one uint8 (3, H, W) picture a view.

    Raises:
        DataError: the photo cannot be read.
        NotFoundError: it has gone since the data set was read.
    """
    assert image.photo is not None

    def geometries(original: tuple[int, int]) -> list[Geometry]:
        return [view.geometry(image.image_id, mode, original, size) for view in views]

    picture, original = read_enough(image.photo, image.exif, lambda o: enough(geometries(o)))
    upright: dict[Geometry, Tensor] = {}
    result: list[Tensor] = []
    for view, geometry in zip(views, geometries(original), strict=True):
        plain = replace(geometry, flip=False)  # views that differ in the flip share the rest
        if plain not in upright:
            upright[plain] = apply_image(picture, plain, reduced=True)
        seen = upright[plain].flip(2) if geometry.flip else upright[plain]
        colour = view.colour(image.image_id)
        seen = apply_colour(seen, colour, geometry.shown()) if colour else seen
        partners = view.partners(image.image_id, len(photos))
        seen = seen.clone() if partners else seen  # views may share their pixels
        for part, k in enumerate(partners, start=1):
            _put_partner(seen, photos[k], (view, image.image_id, mode, size, part))
        result.append(seen)
    return original, result


def _put_partner(
    seen: Tensor,
    partner: ImageAnnotation,
    place: tuple[View, str, str, tuple[int, int], int],
) -> None:
    """Put another photo into its place in a view; nothing where it cannot be read.

    That photo is named and skipped in its own turn, and has no boxes in a mosaic either.
    """
    view, image_id, mode, size, part = place

    def geometry(original: tuple[int, int]) -> Geometry:
        return view.geometry(image_id, mode, original, size, part)

    assert partner.photo is not None
    try:
        picture, original = read_enough(
            partner.photo, partner.exif, lambda o: enough([geometry(o)])
        )
    except (DataError, NotFoundError):
        return
    moved = geometry(original)
    left, top, right, bottom = moved.shown()
    shown = apply_image(picture, moved, reduced=True)
    seen[:, top:bottom, left:right] = shown[:, top:bottom, left:right]


def quantised(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps as int8 with one scale a channel, symmetric: value = int8 * scale.

    Args:
        maps: float16 (N, C, h, w).

    Returns:
        int8 (N, C, h, w), and float32 (C,): the largest magnitude of each channel over 127.
    """
    peak = np.zeros(maps.shape[1], dtype=np.float32)
    if maps.size:
        peak = np.maximum(maps.max(axis=(0, 2, 3)), -maps.min(axis=(0, 2, 3))).astype(np.float32)
    scale = np.where(peak > 0, peak / 127, np.float32(1))
    stored = np.empty(maps.shape, dtype=np.int8)
    for one, target in zip(maps, stored, strict=True):
        np.rint(one / scale[:, None, None], out=target, casting="unsafe")
    return stored, scale


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """Write a safetensors file; its bytes, and their SHA-256 in hexadecimal. Raises OSError."""
    parts = safetensors_parts(tensors)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    # An ordinary write: its OSError says when the disk is full. On the disk, not only in its
    # queue: the index will name it, and memory is there for other pages.
    write_parts(path, parts)
    return sum(part.nbytes for part in parts), digest.hexdigest()


def safetensors_parts(tensors: Mapping[str, np.ndarray]) -> list[memoryview]:
    """The bytes of a safetensors file, as the arrays' own memory behind a header.

    What `safetensors.numpy.save` gives, which copies all of it twice; `save_file` copies nothing,
    but writes by a name of its own, which a killed process would leave.

    Args:
        tensors: by name; C-contiguous, of a type in _TYPES.
    """
    # The widest types first, so that all lie at multiples of their width; then by name.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    entries, begin = {}, 0
    for name in order:
        end = begin + tensors[name].nbytes
        entries[name] = {
            "dtype": _TYPES[tensors[name].dtype],
            "shape": tensors[name].shape,
            "data_offsets": (begin, end),
        }
        begin = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    first = len(header).to_bytes(8, "little") + header
    return [memoryview(first), *(tensors[name].reshape(-1).view(np.uint8).data for name in order)]


def _beyond_float16(values: np.ndarray) -> bool:
    """Whether an array holds infinity, NaN, or the largest float16 (where a cast may saturate)."""
    bits = values.view(np.uint16) & 0x7FFF
    return bool(bits.size and bits.max() >= _FLOAT16_LIMIT)


def _ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[int], Picture],
    items: Iterable[int],
    window: int,
) -> Iterator[Future[Picture]]:
    """The futures of `work` over the items, in order, with `window` of them under way."""
    queue: deque[Future[Picture]] = deque()
    try:
        for item in items:
            queue.append(pool.submit(work, item))
            if len(queue) > window:
                yield queue.popleft()
        while queue:
            yield queue.popleft()
    finally:
        for future in queue:
            future.cancel()
