"""The processes of one run: how many there are, which one this is, how they wait for each other.

Lightning Fabric finds out who started them (torchrun, SLURM, Kubernetes), or starts those of one
machine itself, and connects them. What is added here is that nobody waits for a process that has
failed: while a rank waits it reads a board (a TCPStore in rank 0's process) on which every rank
writes how far it is, or why it ends.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from frostbox.errors import FrostboxError, RankError, SettingsError, one_line

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

TIMEOUT = timedelta(minutes=30)  # torch's own for a process group
_FOR_EVER = timedelta(days=30)
_INTERVAL = 0.5  # seconds between two looks at the board; Fabric looks at its processes every five
_LAST_WORDS = 5.0  # seconds that rank 0 gives the others to read why it ends, and to end
_FAILED, _READ, _WAITING = "failed", "read", " waiting"
_SERVICE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_BY_HAND = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_LOG = logging.getLogger("frostbox")
_LAUNCHER = "lightning.fabric.strategies.launchers.subprocess_script"
_AGAIN = "run the same command again, it goes on where it stopped"
T = TypeVar("T")


class Ranks:
    """One process that works alone; `open_ranks` gives those that do not.

    Attributes:
        rank: number of this process, from 0.
        size: processes in all.
        local_size: of them on this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1) -> None:
        self.rank, self.size, self.local_size = rank, size, local_size

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes what is written once, and that speaks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.size // self.local_size

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """What of `items` is this rank's: every `size`-th."""
        return items[self.rank :: self.size]

    def tell(self, done: int) -> int:
        """Say how much of its work this rank has done.

        Returns:
            In rank 0 the sum over all ranks, read twice a second.

        Raises:
            RankError: another rank has failed.
        """
        return done

    def barrier(self, progress: Callable[[int], None] | None = None) -> None:
        """Wait until every rank is here. Raises RankError when one has failed or fallen silent.

        Args:
            progress: called again and again with the sum of what all ranks have done.
        """

    def broadcast(self, value: T) -> T:
        """Rank 0's value, in every rank. Raises RankError as `barrier` does."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, in every rank. Raises RankError as `barrier`."""
        return [value]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let rank 0 go through the block before the others: it may download, or make files."""
        yield


ALONE = Ranks()


class _Connected(Ranks):
    """One of several processes."""

    def __init__(
        self,
        rank: int,
        size: int,
        local_size: int,
        children: list[subprocess.Popen[bytes]],
        timeout: timedelta,
    ) -> None:
        super().__init__(rank, size, local_size)
        self._children = children
        self._silence = timeout.total_seconds()
        # A rank may be hours behind the others: what ends the waiting is failure or silence.
        group = dist.new_group(backend="gloo", timeout=_FOR_EVER)
        assert isinstance(group, dist.ProcessGroup)  # as every rank is in it
        self._group = group
        self._board = self._open_board(timeout)
        self._done, self._others, self._looked, self._knows = 0, 0, 0.0, False

    def _open_board(self, timeout: timedelta) -> Any:
        """The store in rank 0's process, in which one key is each rank's and one tells of failure.

        One of our own: that of the process group may be torchrun's, and outlive rank 0.
        """
        host, port = os.environ["MASTER_ADDR"], [0]
        store = functools.partial(
            dist.TCPStore,  # type: ignore[attr-defined]
            host, timeout=timeout, wait_for_workers=False,
        )  # fmt: skip
        if self.main:
            board = store(port=0, is_master=True)
            board.set(_FAILED, "")
            for rank in range(self.size):
                board.set(str(rank), "0")
            port = [board.port]
        dist.broadcast_object_list(port, 0, self._group)
        return board if self.main else store(port=port[0], is_master=False)

    def tell(self, done: int) -> int:
        self._done = done
        now = time.monotonic()
        if done == 0 or now - self._looked >= _INTERVAL:
            self._looked = now
            self._look(str(done))
        return done + self._others

    def barrier(self, progress: Callable[[int], None] | None = None) -> None:
        waiting = f"{self._done}{_WAITING}"
        seen = self._look(waiting)
        with self._explained():
            work = dist.barrier(group=self._group, async_op=True)
            assert work is not None  # as this rank is in the group
        since, pause = time.monotonic(), 0.01
        while not work.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, _INTERVAL)
            states = self._look(waiting)
            now = time.monotonic()
            if states != seen:
                seen, since = states, now
            elif self.main and now - since > self._silence:
                raise self._silent(states)
            if progress:
                progress(self._done + self._others)
        with self._explained():
            work.wait()
        self._look(str(self._done))
        if progress:
            progress(self._done + self._others)

    def broadcast(self, value: T) -> T:
        self.barrier()
        values = [value]
        with self._explained():
            dist.broadcast_object_list(values, 0, self._group)
        return values[0]

    def gather(self, value: T) -> list[T]:
        self.barrier()
        values = [value] * self.size
        with self._explained():
            dist.all_gather_object(values, value, self._group)
        return values

    @contextmanager
    def main_first(self) -> Iterator[None]:
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def _look(self, state: str) -> list[str]:
        """Write this rank's state on the board, and read it: all of it in rank 0."""
        with self._explained():
            self._board.set(str(self.rank), state)
            self._check()
            if not self.main:
                return []
            states = [v.decode() for v in self._board.multi_get([*map(str, range(self.size))])]
        self._others = sum(int(state.split()[0]) for state in states[1:])
        return states

    def _check(self) -> None:
        """Raise RankError when a rank has written why it ends, or one started here was killed."""
        if failed := self._board.get(_FAILED).decode():
            self._note_read()
            raise RankError(f"{failed} ({self._here()} ends with it)", told=True)
        for k, child in enumerate(self._children, start=1):
            if status := child.poll():
                what = f"was killed ({signal.strsignal(-status)})" if status < 0 else "has failed"
                raise RankError(f"process {k} of this machine {what}; {_AGAIN}")

    def _note_read(self) -> None:
        if not self._knows:
            self._knows = True
            self._board.add(_READ, 1)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """An error of the connection, as a sentence: what a rank has written, if one has."""
        try:
            yield
        except FrostboxError:
            raise
        except RuntimeError as error:  # gloo raises bare ones
            lost = RankError(
                f"a process of this run was lost; {_AGAIN} ({self._here()}: {one_line(error)[:99]})"
            )
            try:
                self._check()
            except RuntimeError:  # rank 0 is gone, and the board with it
                raise lost from error
            raise lost from error

    def _silent(self, states: Sequence[str]) -> RankError:
        late = [str(k) for k, state in enumerate(states) if not state.endswith(_WAITING)]
        return RankError(
            f"rank {', '.join(late)} was not heard of for {self._silence:.0f} seconds; see to its "
            f"machine and {_AGAIN}"
        )

    def _here(self) -> str:
        return f"rank {self.rank} of {self.size}"

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank ends; the first reason stands."""
        what = one_line(error) if isinstance(error, FrostboxError) else repr(error)
        if not isinstance(error, RankError):
            what = f"{self._here()} has failed: {what}"
        try:
            self._board.compare_set(_FAILED, "", what)
            self._note_read()
            until = time.monotonic() + _LAST_WORDS
            # The board ends with rank 0: let the others read it.
            while self.main and self._board.add(_READ, 0) < self.size and time.monotonic() < until:
                time.sleep(0.05)
        except RuntimeError as lost:
            _LOG.debug("rank 0 is gone, nobody can be told: %s", lost)
        # Taken from Fabric's observer, which would kill this process before it has said why; with
        # it ends the observer, so that one that is stuck is ended here.
        children = list(self._children)
        self._children.clear()
        for child in children:
            try:
                child.wait(_LAST_WORDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def close(self) -> None:
        """Wait for all and disconnect."""
        self.barrier()
        dist.destroy_process_group()


@contextmanager
def open_ranks(
    devices: int | None = None,
    nodes: int | None = None,
    device: str = "cpu",
    *,
    backend: str = "gloo",
    timeout: timedelta = TIMEOUT,
) -> Iterator[Ranks]:
    """This process as one of those that share a run, from here to the end of the block.

    Where torchrun, SLURM or Kubernetes has started several, they are connected. Where nobody has,
    the other `devices - 1` of this machine are started now: the same command with the same
    arguments, in which everything before this call happens too. An exception that leaves the block
    in one rank ends the block in all of them.

    Args:
        devices: processes a machine, one a GPU; None for as many as were started.
        nodes: machines; None for as many as take part.
        device: "cpu" or "cuda"; on GPUs, each process gets its own as torch's current one.
        backend: of torch's process group. "gloo" serves all methods of Ranks; what moves tensors
            between GPUs needs "cpu:gloo,cuda:nccl".
        timeout: how long to wait for processes that start, or that nothing is heard of.

    Raises:
        SettingsError: numbers that do not fit what was started, or to this machine.
        RankError: a process does not come, fails, or is lost.
    """
    environment = _environment()
    devices, nodes = _layout(environment, devices, nodes)
    if devices * nodes == 1:
        yield ALONE
        return
    ranks = _connect(environment, devices, nodes, device, backend, timeout)
    try:
        yield ranks
    except BaseException as error:
        ranks.fail(error)
        raise
    ranks.close()


def _environment() -> ClusterEnvironment | None:
    """Who started this process as one of several; None when Fabric is to, or has."""
    from lightning.fabric.plugins.environments.kubeflow import KubeflowEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect():
        try:
            return SLURMEnvironment()
        except RuntimeError as error:
            raise SettingsError(one_line(error)) from error
    if all(name in os.environ for name in _SERVICE) and "LOCAL_RANK" not in os.environ:
        return KubeflowEnvironment()
    return None


def _layout(
    environment: ClusterEnvironment | None, devices: int | None, nodes: int | None
) -> tuple[int, int]:
    """Processes a machine, and machines."""
    for name, count in (("devices", devices), ("nodes", nodes)):
        if count is not None and count < 1:
            raise SettingsError(f"{name} is {count}: give 1 or more")
    if environment is None:
        lacking = [name for name in _BY_HAND if name not in os.environ]
        if nodes is not None and nodes > 1 and lacking:
            raise SettingsError(
                f"{nodes} machines were asked for, and nothing says which they are: start the "
                f"command by torchrun or srun on each, or set {', '.join(lacking)}"
            )
        return devices or 1, nodes or 1
    size = environment.world_size()
    local = devices or _local_size(size, nodes)
    machines = nodes or -(-size // local)
    if local * machines != size:
        raise SettingsError(
            f"{size} processes were started, and {local} on each of {machines} machines were asked "
            "for: leave out devices and nodes, or give those that were started"
        )
    return local, machines


def _local_size(size: int, nodes: int | None) -> int:
    """Processes a machine, by the variables of who started them."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        if name in os.environ:
            return int(os.environ[name])
    return size // nodes if nodes else 1


def _connect(
    environment: ClusterEnvironment | None,
    devices: int,
    nodes: int,
    device: str,
    backend: str,
    timeout: timedelta,
) -> _Connected:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # But not what it says when it ends all processes because one was killed.
    logging.getLogger(_LAUNCHER).setLevel(logging.INFO)
    strategy = DDPStrategy(
        cluster_environment=environment, process_group_backend=backend, timeout=timeout
    )
    try:
        fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy)
    except (ValueError, RuntimeError, MisconfigurationException) as error:  # in Fabric's words
        raise SettingsError(one_line(error)) from error
    try:
        fabric.launch()
        children = getattr(fabric.strategy.launcher, "procs", [])
        return _Connected(fabric.global_rank, fabric.world_size, devices, children, timeout)
    except ValueError as error:
        raise SettingsError(one_line(error)) from error
    except RuntimeError as error:
        raise RankError(
            f"the {devices * nodes} processes of this run do not find each other "
            f"({one_line(error)[:200]}); see that all were started, that MASTER_ADDR and "
            "MASTER_PORT are of the first, and that GLOO_SOCKET_IFNAME names the network between "
            "them where there are several"
        ) from error
