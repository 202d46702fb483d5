"""What `predict` takes as a picture -> pixels, one by one or many ahead of use."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frostbox.data.annotations import ImageAnnotation
from frostbox.data.photos import read_enough, rgb_array
from frostbox.data.remote_sets import ahead
from frostbox.errors import DataError, NotFoundError, SettingsError
from frostbox.fetch import Remote
from frostbox.threads import helping_threads

_LOG = logging.getLogger("frostbox")
_DECODERS = 4
T = TypeVar("T")
Source = str | Path | Remote | Image.Image | NDArray[np.uint8] | Tensor | ImageAnnotation


def pixels(
    source: Source, share: Callable[[tuple[int, int]], float] = lambda _: 1.0
) -> tuple[Tensor, tuple[int, int]]:
    """Any accepted picture as uint8 (3, H, W), RGB, and its (width, height).

    Args:
        share: of the sides that is enough, given (width, height): a photo may then come with fewer
            pixels, see photos.read_enough.

    Raises:
        NotFoundError, DataError: a path that does not exist or cannot be decoded, an address
            that cannot be fetched.
        SettingsError: no picture.
    """
    if isinstance(source, ImageAnnotation):
        if source.photo is None:
            raise NotFoundError(f"{source.image_id} has no photo: there is nothing to predict on")
        return read_enough(source.photo, source.exif, share)
    if isinstance(source, (str, Path)):
        return read_enough(source, True, share)
    if isinstance(source, Remote):
        with source.file() as path:
            return read_enough(path, True, share)
    picture = _given(source)
    return picture, (int(picture.shape[2]), int(picture.shape[1]))


def _given(source: Image.Image | NDArray[np.uint8] | Tensor) -> Tensor:
    """A picture that is in memory already."""
    if isinstance(source, Image.Image):
        return torch.from_numpy(rgb_array(source, "the PIL image")).permute(2, 0, 1)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3):
            raise SettingsError(
                f"an array of {source.dtype} {source.shape} is no image: "
                "give uint8 of shape (height, width, 3), RGB"
            )
        if source.ndim == 3 and source.shape[2] == 3 and source.flags.writeable:
            return torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)
        return torch.from_numpy(np.array(Image.fromarray(source).convert("RGB"))).permute(2, 0, 1)
    if isinstance(source, Tensor) and source.ndim == 3 and source.shape[0] == 3:
        if source.dtype == torch.uint8:
            return source.cpu()
        if source.is_floating_point():
            return (source.cpu().float() * 255).round().clamp(0, 255).to(torch.uint8)
    what = f"{source.dtype} {tuple(source.shape)}" if isinstance(source, Tensor) else repr(source)
    raise SettingsError(
        f"{what} is no image: give a path, a PIL image, a uint8 array (height, width, 3), or a "
        "tensor (3, height, width) of uint8 or of floats in [0, 1]"
    )


def read_ahead(
    sources: Iterable[Source], prepare: Callable[[Source], T], batch: int, *, skip: bool
) -> Iterator[tuple[list[int], list[T]]]:
    """Batches of prepared pictures, in order; decoded in threads, ahead of use.

    Args:
        prepare: called in a thread for each source.
        skip: leave out a picture that cannot be decoded, with a warning that names it.

    Yields:
        Positions in `sources`, and what was prepared; no batch is empty.

    Raises:
        DataError, NotFoundError: a picture that cannot be decoded; with `skip` when all cannot.
    """
    with helping_threads(_DECODERS, "decode") as pool:
        source = ahead(sources, _photo)
        waiting: deque[Future[T]] = deque()
        waiting += [pool.submit(prepare, x) for x in islice(source, 2 * batch)]
        first_broken: DataError | NotFoundError | None = None
        row, good = 0, 0
        while waiting:
            rows: list[int] = []
            ready: list[T] = []
            while waiting and len(ready) < batch:
                future = waiting.popleft()
                waiting += [pool.submit(prepare, x) for x in islice(source, 1)]
                try:
                    ready.append(future.result())
                    rows.append(row)
                except (DataError, NotFoundError) as error:
                    if not skip:
                        raise
                    _LOG.warning("left out: %s", error)
                    first_broken = first_broken or error
                row += 1
            if ready:
                good += len(ready)
                yield rows, ready
        if first_broken is not None and not good:
            raise first_broken


def _photo(source: Source) -> str | Path | None:
    """The path of what is a file."""
    if isinstance(source, ImageAnnotation):
        return source.photo
    return source if isinstance(source, (str, Path)) else None


def one_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items; a thread has the next one made while the caller is busy with one."""
    over = object()
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming: Future[T | object] = pool.submit(next, items, over)
        while (item := coming.result()) is not over:
            coming = pool.submit(next, items, over)
            yield cast(T, item)
