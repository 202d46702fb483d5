"""Threads beside a computation."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from frostbox.threads import helping_threads, one_thread


@pytest.fixture
def usual():
    """Three threads for torch in this test, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def counts(pool: ThreadPoolExecutor, workers: int) -> list[int]:
    """Torch's threads in each of the pool's; they wait for each other, so that all take part."""
    together = threading.Barrier(workers, timeout=30)

    def count(_: int) -> int:
        together.wait()
        return torch.get_num_threads()

    return list(pool.map(count, range(workers)))


@pytest.mark.parametrize("workers", [1, 4])
def test_helping_threads_compute_alone_and_nothing_else_changes(usual, workers):
    with helping_threads(workers, "help") as pool:
        assert counts(pool, workers) == [1] * workers
        assert torch.get_num_threads() == usual
        with ThreadPoolExecutor(2) as later:
            assert counts(later, 2) == [usual] * 2
    assert torch.get_num_threads() == usual


def test_one_thread_ends_as_it_began(usual):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == usual
    with one_thread(active=False):
        assert torch.get_num_threads() == usual
