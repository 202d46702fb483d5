"""The processes of a training on several devices: one each, and what they do together.

Lightning starts and connects them (or torchrun, SLURM or Kubernetes do, and Lightning reads what
those say). All of them run the same program. The one with rank 0 prints and writes; the others
follow it through the functions here, which every process calls in the same order. In a training on
one device there is rank 0 alone, and all of them do nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from frostbox.errors import FrostboxError, SettingsError
from frostbox.progress import Progress

T = TypeVar("T")
# How long the others wait while rank 0 extracts or evaluates. Where a process ends meanwhile they
# hear of it at once; only a machine that vanishes from the network is waited for.
_PATIENCE = timedelta(days=7)
_STEP = timedelta(minutes=30)  # for the exchange of a step
_EXCHANGES = 3  # that are timed
_STATISTICS, _MESSAGES = 200, 3  # numbers, and messages, of a batch norm: two there and one back


@dataclass(frozen=True)
class _Group:
    """The processes that are running. `control`: what they talk through beside the gradients."""

    devices: int
    nodes: int
    control: Any


_group: _Group | None = None
_rank = 0  # stays after the training: what follows it is printed once, too
_sharing = False


def rank() -> int:
    """Of this process; 0 without others."""
    return _rank


def first() -> bool:
    """Whether this is the process that prints and writes."""
    return _rank == 0


def count() -> int:
    """Processes of the training, one a device; 1 outside of one on several devices."""
    return 1 if _group is None else _group.devices * _group.nodes


def on_this_machine() -> int:
    """Processes of the training on this machine."""
    return 1 if _group is None else _group.devices


def trainer_options() -> dict[str, Any]:
    """What Lightning's Trainer must be told."""
    if _group is None:
        return {"devices": 1}
    from lightning.pytorch.strategies import DDPStrategy

    # Every process computes the same buffers, those of batch norm from the batches of all.
    strategy = DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True)
    return {
        "devices": _group.devices, "num_nodes": _group.nodes, "strategy": strategy,
        "use_distributed_sampler": False,
    }  # fmt: skip


def asked(devices: int | None, nodes: int | None) -> tuple[int, int]:
    """How many devices a node and nodes: what is given, else what torchrun has started, else 1.

    Raises:
        SettingsError: below 1, or not what has been started.
    """
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for name, value in (("devices", devices), ("nodes", nodes)):
        if value is not None and value < 1:
            raise SettingsError(f"{name} is {value}: it must be at least 1")
    if TorchElasticEnvironment.detect():
        here, every = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        started = (here, every // here)
        given = (devices or started[0], nodes or started[1])
        if given != started:
            raise SettingsError(
                f"torchrun has started {started[0]} processes on each of {started[1]} nodes, and "
                f"{given[0]} devices on {given[1]} nodes are asked for: give it the same numbers, "
                "or leave them out here"
            )
        return started
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    found = (devices or 1, nodes or 1)
    if tasks > 1 and tasks != found[0] * found[1]:
        raise SettingsError(
            f"srun has started {tasks} tasks, and {found[0]} devices on {found[1]} nodes are asked "
            "for: give --devices (tasks of a node) and --nodes of the job"
        )
    return found


@contextmanager
def started(devices: int, nodes: int, device: str) -> Iterator[None]:
    """The processes of a training, started here unless torchrun, SLURM or Kubernetes has.

    An error ends them all.

    Args:
        devices: of each node; nodes: machines.
        device: cpu, cuda or mps.

    Raises:
        SettingsError: more devices than there are, or a program that cannot be started again.
    """
    global _group, _rank
    if devices * nodes == 1:
        yield
        return
    _check(devices, device)
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="gpu" if device == "cuda" else device, devices=devices, num_nodes=nodes,
        strategy=DDPStrategy(timeout=_STEP),
    )  # fmt: skip
    try:
        fabric.launch()
    except ValueError as error:  # Lightning's words on what SLURM was told
        raise SettingsError(f"{error}") from error
    control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    _group, _rank = _Group(devices, nodes, control), dist.get_rank()
    Progress.hushed = not first()
    if _rank:
        logging.getLogger("frostbox").setLevel(logging.ERROR)
    try:
        yield
        gathered(None)  # rank 0 keeps the connection until all are done
    except BaseException as error:
        for child in getattr(fabric.strategy.launcher, "procs", ()):
            child.terminate()
        if isinstance(error, RuntimeError) and "gloo" in str(error):
            raise FrostboxError(
                f"process {_rank} of {devices * nodes} has lost the connection to another, which "
                f"says why it ended ({str(error).splitlines()[0]})"
            ) from error
        raise
    finally:
        _group = None


def _check(devices: int, device: str) -> None:
    if device == "mps":
        raise SettingsError("there is one mps device: leave --devices out, or choose --device cpu")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise SettingsError(
            f"devices is {devices} and this machine has {torch.cuda.device_count()} CUDA devices: "
            "give at most so many"
        )
    if not dist.is_available():
        raise SettingsError("this PyTorch is built without torch.distributed: train on one device")
    external = "LOCAL_RANK" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ
    main = sys.modules["__main__"]
    again = getattr(main, "__spec__", None) is not None or Path(sys.argv[0]).is_file()
    if not external and (hasattr(sys, "ps1") or "ipykernel" in sys.modules or not again):
        raise SettingsError(
            "a training on several devices starts this program again for each: write it into a "
            "file and run that, or use `frostbox train` (a notebook cannot)"
        )


def gathered(value: T) -> list[T]:
    """What each process has, by rank. Any object that can be pickled."""
    if _group is None:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value, group=_group.control)
    return found


def from_first(work: Callable[[], T]) -> T:
    """What rank 0 computes, in every process. An error there is raised there, and ends the others.

    Raises:
        SystemExit: in the other processes, where rank 0 has an error to tell.
    """
    if _group is None:
        return work()
    sent: list[Any] = [None, True]
    failure: Exception | None = None
    if first():
        try:
            sent = [work(), False]
        except (FrostboxError, OSError) as error:
            failure = error
    dist.broadcast_object_list(sent, src=0, group=_group.control)
    if failure is not None:
        raise failure
    if sent[1]:
        raise SystemExit(0)
    found: T = sent[0]
    return found


def in_turn(work: Callable[[], T]) -> T:
    """What each process computes for itself: rank 0 before the others, which find what it left.

    Raises:
        SettingsError: in rank 0, where another process has an error; it names that.
        SystemExit: in the others, where any has an error to tell.
    """
    if _group is None:
        return work()
    found: list[T] = []
    from_first(lambda: found.append(work()))
    failure = ""
    if not first():
        try:
            found.append(work())
        except (FrostboxError, OSError) as error:
            failure = f"process {_rank} of {count()}, on {socket.gethostname()}: {error}"
    failures = [text for text in gathered(failure) if text]
    if failures and first():
        raise SettingsError(failures[0])
    if failures:
        raise SystemExit(0)
    return found[0]


def check_same(value: Any, what: str) -> None:
    """Raise SettingsError in rank 0, and end the others, where a process has another value."""
    values = gathered(value)
    other = next((k for k, found in enumerate(values) if found != values[0]), None)
    if other is None:
        return
    if not first():
        raise SystemExit(0)
    raise SettingsError(
        f"process {other} of {count()} has other {what} than process 0: give every node the same"
    )


@contextmanager
def global_batch() -> Iterator[None]:
    """Inside, what every process computes is its part of one batch: sums are those of all parts."""
    global _sharing
    before, _sharing = _sharing, _group is not None
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


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in every process; `values` as they are if alone."""
    if _group is None:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def kept_of_highest(values: Tensor, most: int) -> int:
    """How many of this part's values are among the `most` highest of a global batch.

    Args:
        values: (n,), falling.
    """
    parts = gathered(values.detach().cpu())
    chosen = torch.cat(parts).topk(min(most, sum(map(len, parts)))).indices
    begin = sum(len(part) for part in parts[: rank()])
    return int(((chosen >= begin) & (chosen < begin + len(values))).sum())


def exchange_seconds(weights: int, norms: int, device: str) -> float:
    """What a step takes to exchange so many gradients, and statistics of norms; 0 if alone."""
    if _group is None:
        return 0.0
    gradients = torch.zeros(weights, device=device)
    statistics = torch.zeros(_STATISTICS, device=device)
    seconds = []
    for _ in range(_EXCHANGES):
        started = time.perf_counter()
        dist.all_reduce(gradients)
        for _ in range(_MESSAGES * norms):
            dist.all_reduce(statistics)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return max(gathered(min(seconds)))
