"""What the processes of a training do together; distributed.py starts and connects them.

All of them run the same program. The one with rank 0 prints and writes; the others follow it
through the functions here, which every process calls in the same order. In a training on one device
there is rank 0 alone, and all of them do nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from frostbox.distributed import ALONE, Ranks, open_ranks
from frostbox.errors import SettingsError
from frostbox.progress import Progress

T = TypeVar("T")
_AGAIN = "the same command with --resume goes on from the last checkpoint"
_EXCHANGES = 3  # that are timed
_STATISTICS, _MESSAGES = 200, 3  # numbers, and messages, of a batch norm: two there and one back
_LOG = logging.getLogger("frostbox")

_open = ALONE
_level = logging.NOTSET  # of the log, before others than rank 0 are hushed
_rank = 0  # stays after the training: what follows it is printed once, too
_sharing = False


def opened() -> Ranks:
    """The processes of this training."""
    return _open


def rank() -> int:
    """Of this process; 0 without others."""
    return _rank


def first() -> bool:
    """Whether this is the process that prints and writes."""
    return _rank == 0


def count() -> int:
    """Processes of the training, one a device; 1 outside of one on several devices."""
    return _open.size


def on_this_machine() -> int:
    """Processes of the training on this machine."""
    return _open.local_size


def trainer_options() -> dict[str, Any]:
    """What Lightning's Trainer must be told."""
    if count() == 1:
        return {"devices": 1}
    from lightning.pytorch.strategies import DDPStrategy

    strategy = DDPStrategy(cluster_environment=_open.environment, gradient_as_bucket_view=True)
    return {
        "devices": _open.local_size, "num_nodes": _open.nodes, "strategy": strategy,
        "use_distributed_sampler": False,  # see sampling.py
    }  # fmt: skip


@contextmanager
def started(devices: int | None, nodes: int | None, device: str) -> Iterator[None]:
    """The processes of a training, from here to the end of the block; see distributed.open_ranks.

    An error in one ends them all.

    Args:
        device: cpu, cuda or mps.

    Raises:
        SettingsError: numbers that do not fit, or a program that cannot be started again.
        RankError: a process does not come, fails, or is lost.
        SystemExit: in all processes but the first, for one device after a training on several.
    """
    global _open, _rank, _level
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    with open_ranks(devices, nodes, device, backend=backend, again=_AGAIN) as ranks:
        if ranks.size == 1 and not first():
            raise SystemExit(0)
        _open, _rank = ranks, ranks.rank
        Progress.hushed = not first()
        _level = _LOG.level
        if not first():
            _LOG.setLevel(logging.ERROR)
        try:
            with ranks.explained():
                yield
        finally:
            _open = ALONE


@contextmanager
def aloud() -> Iterator[None]:
    """Inside, every process says what it meets, and not rank 0 alone."""
    level = _LOG.level
    _LOG.setLevel(_level)
    try:
        yield
    finally:
        _LOG.setLevel(level)


def watched() -> AbstractContextManager[None]:
    """Around steps that exchange gradients: see distributed.Ranks.watched."""
    return _open.watched()


def gathered(value: T) -> list[T]:
    """What each process has, by rank. Any object that can be pickled."""
    return _open.gather(value)


def from_first(work: Callable[[], T]) -> T:
    """What rank 0 computes, in every process. An error there is raised there, and ends the others.

    Raises:
        RankError: in the other processes, where rank 0 has failed.
    """
    return _open.broadcast(work() if first() else cast(T, None))


def in_turn(work: Callable[[], T]) -> T:
    """What each process computes for itself: rank 0 before the others, which find what it left.

    Raises:
        RankError: where another process has failed.
    """
    with _open.main_first():
        found = work()
    _open.barrier()
    return found


def raised_by_first(error: Exception) -> NoReturn:
    """Raise in rank 0 an error that every process has; the others end with it, without a word.

    Raises:
        RankError: in the others.
    """
    if not first():
        _open.barrier()
    raise error


def check_same(value: Any, what: str) -> None:
    """Raise SettingsError in rank 0, and end the others, where a process has another value."""
    values = gathered(value)
    other = next((k for k, found in enumerate(values) if found != values[0]), None)
    if other is not None:
        text = f"process {other} of {count()} has other {what} than process 0: give every node"
        raised_by_first(SettingsError(f"{text} the same"))


@contextmanager
def global_batch() -> Iterator[None]:
    """Inside, what every process computes is its part of one batch: sums are those of all parts."""
    global _sharing
    before, _sharing = _sharing, count() > 1
    try:
        yield
    finally:
        _sharing = before


def sharing() -> bool:
    """Whether this is inside of `global_batch`, with other processes."""
    return _sharing


def normaliser(total: Tensor) -> Tensor:
    """What the sums of a loss are divided by, from this batch's number of what is summed.

    In a `global_batch`, the number in all parts divided by the parts: data-parallel training takes
    the mean of the parts' gradients, which is then the gradient of the whole batch. At least 1 in
    the whole batch.
    """
    if not _sharing:
        return total.clamp(min=1)
    kind = total.dtype if total.is_floating_point() else torch.float32
    whole = total.detach().to(kind, copy=True)
    dist.all_reduce(whole)
    return whole.clamp(min=1) / count()


def of_parts(value: T) -> list[T]:
    """What each process has of a global batch: faster than `gathered`, for who is in step.

    Without others, `value` alone.
    """
    if not _sharing:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value)
    return found


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, within a step; `values` as they are without others."""
    if count() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def kept_of_highest(values: Tensor, most: int) -> int:
    """How many of this part's values are among the `most` highest of a global batch.

    Args:
        values: (n,), falling.
    """
    parts = of_parts(values.detach().cpu())
    chosen = torch.cat(parts).topk(min(most, sum(map(len, parts)))).indices
    begin = sum(len(part) for part in parts[: rank()]) if _sharing else 0
    return int(((chosen >= begin) & (chosen < begin + len(values))).sum())


def exchange_seconds(weights: int, norms: int, device: str) -> float:
    """What a step takes to exchange so many gradients, and statistics of norms; 0 if alone."""
    if count() == 1:
        return 0.0
    gradients = torch.zeros(weights, device=device)
    statistics = torch.zeros(_STATISTICS, device=device)
    seconds = []
    with watched():
        for _ in range(_EXCHANGES):
            started = time.perf_counter()
            dist.all_reduce(gradients)
            for _ in range(_MESSAGES * norms):
                dist.all_reduce(statistics)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return max(gathered(min(seconds)))
