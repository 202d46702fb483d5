"""One shard of a cache in use: its feature maps, mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostbox.errors import CacheError
from frostbox.untrusted import parse_json

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
        try:
            # The tensors keep the mapping alive after the file is closed.
            with safe_open(path, framework="pt", device="cpu") as file:
                for stride, depth, size in zip(strides, channels, sizes, strict=True):
                    tensor = file.get_tensor(tensor_name(stride))
                    shape = (len(shard.ids), views, depth, *size)
                    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                        raise damaged(
                            path, f"{tensor_name(stride)} is {tuple(tensor.shape)}, not {shape}"
                        )
                    scale = None
                    if dtype == torch.int8:
                        scales = file.get_tensor(scale_name(stride))
                        if tuple(scales.shape) != (depth,):
                            what = f"{scale_name(stride)} is {tuple(scales.shape)}"
                            raise damaged(path, what)
                        scale = scales.half()[:, None, None]
                    self.maps.append((tensor, scale))
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with this object)
            length = int.from_bytes(self._file.read(8), "little")
            header = parse_json(self._file.read(length))
        except (SafetensorError, OSError) as error:
            raise damaged(path, str(error)) from error
        begins = (header[tensor_name(stride)]["data_offsets"][0] for stride in strides)
        self._begins = [8 + length + begin for begin in begins]
        self._nbytes = [stored[0, 0].nbytes for stored, _ in self.maps]

    def announce(self, sample: int, columns: Sequence[int]) -> None:
        """Have the system read the maps of a sample ahead, at once and without waiting for it.

        A mapped file is else read a few pages at a time, whenever one is touched that is not there.

        Args:
            sample: number of image and view in the shard, view by view.
            columns: of `strides`.
        """
        if hasattr(os, "posix_fadvise"):  # not on macOS and Windows
            for k in columns:
                begin = self._begins[k] + sample * self._nbytes[k]
                os.posix_fadvise(
                    self._file.fileno(), begin, self._nbytes[k], os.POSIX_FADV_WILLNEED
                )


def damaged(path: Path, what: str) -> CacheError:
    """The error of a shard that cannot be used."""
    return CacheError(
        f"the shard {path} is damaged: {what}; delete it and run the same extract command again"
    )
