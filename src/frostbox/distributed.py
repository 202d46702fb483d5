"""The processes of one run: how many there are, which one this is, how they wait for each other.

Lightning Fabric starts and connects them (launching.py). What is added here is that nobody waits
for a process that has failed: while a rank waits it reads a board (a TCPStore in rank 0's process)
on which every rank writes how far it is, or why it ends.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from frostbox import launching
from frostbox.errors import FrostboxError, RankError, one_line

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

TIMEOUT = timedelta(minutes=30)  # torch's own for a process group
_FOR_EVER = timedelta(days=30)
_INTERVAL = 0.5  # seconds between two looks at the board; Fabric looks at its processes every five
_LOOKS = 10
_WATCH, _GRACE = 2.0, 15.0  # seconds between looks of who cannot wait, and to go by oneself
_LAST_WORDS = 5.0  # seconds that rank 0 gives the others to read why it ends, and to end
_FAILED, _READ, _WAITING = "failed", "read", " waiting"
_LOG = logging.getLogger("frostbox")
_AGAIN = "run the same command again, it goes on where it stopped"
_EXCHANGE = ("gloo", "NCCL")  # as their bare RuntimeErrors name themselves
T = TypeVar("T")


class Ranks:
    """One process that works alone; `open_ranks` gives those that do not.

    Attributes:
        rank: number of this process, from 0.
        size: processes in all.
        local_size: of them on this machine.
        environment: by which Lightning finds its processes; None where there is one.
    """

    environment: ClusterEnvironment | None = None

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

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Around what ranks exchange by other ways: a lost connection is a RankError."""
        yield

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around what ranks exchange by other ways: who waits there for a lost one is ended.

        Gloo notices by itself when a process ends, and this process has its time to go. NCCL waits.
        """
        yield


ALONE = Ranks()


class _Connected(Ranks):
    """One of several processes."""

    def __init__(
        self,
        launched: launching.Launched,
        timeout: timedelta,
        again: str,
    ) -> None:
        super().__init__(launched.rank, launched.size, launched.local_size)
        self.environment, self._again = launched.environment, again
        self._children = launched.children
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
                raise RankError(f"process {k} of this machine {what}; {self._again}")

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
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> RankError:
        """Why a connection broke: what a rank has written, if one has."""
        try:
            for _ in range(_LOOKS):  # a child's end is known a moment after its connections'
                self._check()
                time.sleep(0.1)
        except RankError as written:
            return written
        except RuntimeError as gone:
            _LOG.debug("rank 0 is gone, and the board with it: %s", gone)
        return RankError(
            f"a process of this run was lost; {self._again} "
            f"({self._here()}: {one_line(error)[:99]})"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            ours = isinstance(error, FrostboxError)
            named = isinstance(error, dist.DistError) or any(n in str(error) for n in _EXCHANGE)
            if ours or not named:
                raise
            raise self._lost(error) from error

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()
        watching = threading.Thread(target=self._watch, args=(over,), daemon=True, name="ranks")
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_WATCH):
            try:
                with self._explained():
                    self._check()
            except RankError as error:
                if not over.wait(_GRACE):
                    _LOG.error("%s", error)
                    os._exit(1)  # the main thread is in a collective that nothing ends
                return

    def _silent(self, states: Sequence[str]) -> RankError:
        late = [str(k) for k, state in enumerate(states) if not state.endswith(_WAITING)]
        return RankError(
            f"rank {', '.join(late)} was not heard of for {self._silence:.0f} seconds; see to its "
            f"machine and {self._again}"
        )

    def _here(self) -> str:
        return f"rank {self.rank} of {self.size}"

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank ends; the first reason stands."""
        what = one_line(error) if isinstance(error, FrostboxError) else repr(error)
        if not isinstance(error, RankError):
            stopped = isinstance(error, KeyboardInterrupt)
            what = f"{self._here()} " + ("was interrupted" if stopped else f"has failed: {what}")
        try:
            self._board.compare_set(_FAILED, "", what)
            self._note_read()
            until = time.monotonic() + _LAST_WORDS
            # The board ends with rank 0: let the others read it, but for those that have ended.
            while self.main and time.monotonic() < until:
                if self._board.add(_READ, 0) + self._ended() >= self.size:
                    break
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

    def _ended(self) -> int:
        return sum(child.poll() is not None for child in self._children)

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
    again: str = _AGAIN,
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
        again: what a person is told to do where a process was lost.

    Raises:
        SettingsError: numbers that do not fit what was started, or to this machine.
        RankError: a process does not come, fails, or is lost.
    """
    environment = launching.environment()
    devices, nodes = launching.layout(environment, devices, nodes)
    if devices * nodes == 1:
        yield ALONE
        return
    launched = launching.connect(environment, devices, nodes, device, backend, timeout)
    try:
        ranks = _Connected(launched, timeout, again)
    except RuntimeError as error:  # gloo raises bare ones
        raise RankError(
            f"the {launched.size} processes of this run {launching.lost(error)}"
        ) from error
    try:
        yield ranks
    except BaseException as error:
        ranks.fail(error)
        raise
    ranks.close()
