"""Threads beside those in which torch computes, and why they must not compute like it.

Torch shares the work of an operation among a pool of helpers, and every thread that calls it gets
a pool of its own. As soon as there are more helpers than cores, those of all pools stop waiting
actively and sleep in the kernel between any two operations: a step of a training took a third
longer beside a thread that had once copied a batch (docs/results.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()


def helping_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads for work beside a computation: torch's operations run in them without helpers."""
    return ThreadPoolExecutor(count, name, initializer=_alone)


def _alone() -> None:
    with _LOCK:
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        # That holds for this thread and for all that start later; another thread mends the latter.
        other = threading.Thread(target=torch.set_num_threads, args=(usual,))
        other.start()
        other.join()


@contextmanager
def one_thread(active: bool = True) -> Iterator[None]:
    """No helpers in this thread, and in those that start meanwhile."""
    before = torch.get_num_threads()
    if active:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if active:
            torch.set_num_threads(before)
