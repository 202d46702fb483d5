"""One shard of a cache in use: its feature maps, mapped into memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostbox.errors import CacheError
from frostbox.untrusted import once, parse_json

if TYPE_CHECKING:
    from frostbox.features.index import Shard


def tensor_name(stride: int) -> str:
    """Name of a stride's tensor inside a shard."""
    return f"stride{stride}"


def scale_name(stride: int) -> str:
    """Name of the scales of a stride's int8 tensor."""
    return f"stride{stride}.scale"


class MappedShard:
    """The maps of a shard, backed by its file.

    Attributes:
        maps: for each stride (images, views, C, h, w), and the scales of those in int8, float16
            (C, 1, 1).

    Args:
        path: of the file. shard: what the index says of it.
        views: of each image. dtype: of the stored maps.
        strides, channels, sizes: of the maps, finest first; sizes are (h, w).

    Raises:
        CacheError: the file is damaged, or gone.
    """

    def __init__(
        self,
        path: Path,
        shard: Shard,
        views: int,
        dtype: torch.dtype,
        strides: Sequence[int],
        channels: Sequence[int],
        sizes: Sequence[tuple[int, int]],
    ) -> None:
        from safetensors import SafetensorError, safe_open

        self.maps: list[tuple[Tensor, Tensor | None]] = []
        self._begins: list[int] = []
        try:
            # It checks the header: that tensors lie within the file, and have the bytes they say.
            with safe_open(path, framework="pt", device="cpu") as file:
                self._memory = _mapped(path)
                length = int.from_bytes(self._memory[:8], "little")
                header = parse_json(self._memory[8 : 8 + length], once)
                for stride, depth, size in zip(strides, channels, sizes, strict=True):
                    stored = file.get_tensor(tensor_name(stride))
                    shape = (len(shard.ids), views, depth, *size)
                    if tuple(stored.shape) != shape or stored.dtype != dtype:
                        is_ = f"{tuple(stored.shape)} of {stored.dtype}"
                        raise damaged(
                            path, f"{tensor_name(stride)} is {is_}, not {shape} of {dtype}"
                        )
                    begin = 8 + length + header[tensor_name(stride)]["data_offsets"][0]
                    self._begins.append(begin)
                    tensor = stored
                    if stored.numel():
                        tensor = torch.frombuffer(
                            self._memory, dtype=dtype, count=stored.numel(), offset=begin
                        ).view(shape)
                    scale = None
                    if dtype == torch.int8:
                        scales = file.get_tensor(scale_name(stride))
                        if tuple(scales.shape) != (depth,):
                            what = f"{scale_name(stride)} is {tuple(scales.shape)}"
                            raise damaged(path, what)
                        scale = scales.half()[:, None, None]
                    self.maps.append((tensor, scale))
        except CacheError:
            raise
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise damaged(path, str(error)) from error
        per_place = dtype.itemsize * np.array(channels)
        self._nbytes = [int(n) for n in per_place * np.prod(sizes, axis=1)]

    def announce(self, sample: int, columns: Sequence[int]) -> None:
        """Have the system read the maps of a sample ahead, at once and without waiting for it.

        A mapped file is else read a few pages at a time, whenever one is touched that is not there.

        Args:
            sample: number of image and view in the shard, view by view.
            columns: of `strides`.
        """
        if hasattr(self._memory, "madvise"):  # not on Windows
            for k in columns:
                begin = self._begins[k] + sample * self._nbytes[k]
                first = begin // mmap.PAGESIZE * mmap.PAGESIZE
                length = begin + self._nbytes[k] - first
                self._memory.madvise(mmap.MADV_WILLNEED, first, length)


def _mapped(path: Path) -> mmap.mmap:
    """A file, of which the system reads what is touched or announced, and not around it.

    Around it would be up to 8 MB for a sample of 0.1 MB (`read_ahead_kb` of the disk): under a
    limit of memory that drives out what was announced.
    """
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if hasattr(memory, "madvise"):
        memory.madvise(mmap.MADV_RANDOM)
    return memory


def damaged(path: Path, what: str) -> CacheError:
    """The error of a shard that cannot be used."""
    return CacheError(
        f"the shard {path} is damaged: {what}; delete it and run the same extract command again"
    )
