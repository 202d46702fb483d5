"""The order in which a training sees images and their views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Sampler

from frostbox import ranks

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


class BatchParts(Sampler[list[Row]]):
    """Batches to learn from: of each, the part of this process, which is all of it without others.

    The order is drawn as for one process, so the batches are the same for any number of them. Parts
    of a batch differ by one image at most.

    Args:
        rows: of all images, in order. size: images of a whole batch.
        least: images that the last batch must have, or it is left out.
    """

    def __init__(self, rows: Sampler[Row] | Sequence[Row], size: int, *, least: int = 1) -> None:
        self.sampler = rows  # the Trainer tells it the epoch by this name
        self.size, self.least = size, least

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.size)  # type: ignore[arg-type]
        return whole + (rest >= max(self.least, 1))

    def images(self, number: int) -> int:
        """How many images a whole batch has."""
        return min(self.size, len(self.sampler) - number * self.size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Row]]:
        rank, count = ranks.rank(), ranks.count()
        for batch in self.whole():
            yield batch[len(batch) * rank // count : len(batch) * (rank + 1) // count]

    def whole(self) -> Iterator[list[Row]]:
        """The batches with all their parts."""
        for batch in _batched(self.sampler, self.size):
            if len(batch) >= self.least:  # only the last can have fewer
                yield batch


class WholeBatches(Sampler[list[Row]]):
    """Batches to validate on: whole ones, which the processes take by turns.

    Who has none left takes one of the first again, so that all have the same number; that does not
    `count`.
    """

    def __init__(self, rows: Sequence[Row], size: int) -> None:
        self._batches = list(_batched(rows, size))

    def __len__(self) -> int:
        return -(-len(self._batches) // ranks.count())

    def counts(self, number: int) -> bool:
        """Whether this process's batch of that number is to be counted."""
        return number * ranks.count() + ranks.rank() < len(self._batches)

    def __iter__(self) -> Iterator[list[Row]]:
        for number in range(len(self)):
            place = number * ranks.count() + ranks.rank()
            yield self._batches[place % len(self._batches)]


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch
