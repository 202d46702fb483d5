"""The order in which a training sees images and their views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

Row = tuple[int, int]
"""Image index and view index in a cache."""


class ViewSampler(Sampler[Row]):
    """A new order and a new random view of each image in every epoch, by seed and epoch alone.

    Args:
        length: images in an epoch; 0 for all.
        window: images among which the order is drawn; 0 for all. Blocks of `block` images that
            follow each other come in an order of their own, and only those of one window mix.
    """

    def __init__(
        self,
        images: Sequence[int],
        views: int,
        seed: int,
        length: int = 0,
        *,
        window: int = 0,
        block: int = 1,
    ) -> None:
        self.images, self.views, self.seed, self.epoch = images, views, seed, 0
        self.length = min(length, len(images)) or len(images)
        self.window, self.block = window, block
        self._behind = (0, 0)

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def go_on(self, epoch: int, rows: int) -> None:
        """Leave out the first rows of this epoch: they were seen before an interruption."""
        self._behind = (epoch, rows)

    def __iter__(self) -> Iterator[Row]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = self._order(generator)[: self.length]
        view = torch.randint(self.views, (len(order),), generator=generator).tolist()
        rows = [(self.images[k], v) for k, v in zip(order, view, strict=True)]
        epoch, behind = self._behind
        return iter(rows[behind:] if epoch == self.epoch else rows)

    def _order(self, generator: torch.Generator) -> list[int]:
        count = len(self.images)
        if not 0 < self.window < count:
            found: list[int] = torch.randperm(count, generator=generator).tolist()
            return found
        blocks = -(-count // self.block)
        together = max(1, self.window // self.block)
        order: list[int] = []
        shuffled: list[int] = torch.randperm(blocks, generator=generator).tolist()
        for first in range(0, blocks, together):
            places = torch.cat(
                [
                    torch.arange(k * self.block, min((k + 1) * self.block, count))
                    for k in shuffled[first : first + together]
                ]
            )
            order += places[torch.randperm(len(places), generator=generator)].tolist()
        return order
