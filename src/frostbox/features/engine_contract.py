"""What an engine is, and what the engines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

PRECISION_NAMES = {"32": "float32", "bf16": "bfloat16"}
Done = Callable[[list[Tensor]], None]


class Engine(Protocol):
    """A backbone made ready for pictures of one size. Not to be used from several threads at once.

    Attributes:
        kind: "torch", "compile" or "openvino".
        precision: "32" or "bf16", inside; what comes out is float16.
        batch_size: pictures that `submit` handles best at a time.
    """

    kind: str
    precision: str
    batch_size: int

    @property
    def name(self) -> str:
        """What executes the net: program, version, precision, device. The same in every run."""

    def describe(self) -> str:
        """The same, how it is tuned, and why it was chosen, in one line."""

    def run(self, images: Tensor) -> list[Tensor]:
        """Feature maps of any number of pictures, waiting for them.

        Args:
            images: uint8 (B, 3, H, W); channels-last in memory saves a copy.

        Returns:
            On the CPU, one float16 (B, C, h, w) map per stride, finest first; or what else the
            executed `Pictures` give.
        """

    def submit(self, images: Tensor, done: Done) -> None:
        """Start 1 to `batch_size` pictures, and call `done(maps)` when they are ready.

        `done` may run in another thread, one call at a time for each submission; its maps are
        valid during the call only, so it copies what it keeps. An exception that it raises comes
        out of a later `submit` or of `wait`.
        """

    def wait(self) -> None:
        """Return when every submitted picture is done."""


def failure_line(error: Exception) -> str:
    """The first line of what an error says, or the error itself."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def checked(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The pictures; ValueError where they are not uint8 (B, 3, height, width)."""
    width, height = size
    if images.dtype != torch.uint8 or images.shape[1:] != (3, height, width):
        raise ValueError(
            f"the engine takes uint8 (B, 3, {height}, {width}) pictures, not {images.dtype} "
            f"{tuple(images.shape)}"
        )
    return images


def parts(images: Tensor, size: int) -> Iterator[Tensor]:
    """So many at a time, and the rest."""
    for start in range(0, len(images), size):
        yield images[start : start + size]
