"""Batches for a training: which process reads them, and that the next is there in time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from frostbox import ranks
from frostbox.sampling import Row
from frostbox.steps import Batch
from frostbox.threads import helping_threads

if TYPE_CHECKING:
    from frostbox.training import Samples


def batches(samples: Samples, rows: Iterable[list[Row]], device: str) -> DataLoader[Batch]:
    """The batches of these rows, the next ones read while one is learned from.

    Photos for a GPU are decoded in processes, one a core; all else is read in a thread.
    """
    count = reading_processes(samples, device)
    return _Ahead(
        samples, batch_sampler=rows, collate_fn=_as_is,
        num_workers=count, persistent_workers=count > 0, pin_memory=device == "cuda",
    )  # fmt: skip


def reading_processes(samples: Samples, device: str) -> int:
    """In how many processes of their own batches are read; 0 for this one."""
    cores = (os.cpu_count() or 1) // ranks.on_this_machine()
    return max(1, cores - 1) if samples.decodes and device == "cuda" and cores > 1 else 0


class _Ahead(DataLoader[Batch]):
    """Reads the next batch in a thread while this one is learned from: disks are slow to answer."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.dataset.follow(row for batch in self.batch_sampler for row in batch)  # type: ignore
        source = super().__iter__()
        with helping_threads(1, "read") as pool:
            coming = pool.submit(next, source, None)
            while (batch := coming.result()) is not None:
                coming = pool.submit(next, source, None)
                yield batch


def _as_is(batch: Any) -> Any:
    """`__getitems__` gives whole batches; there is nothing left to collate."""
    return batch
