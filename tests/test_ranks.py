from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from frostbox import distributed, ranks
from frostbox.errors import FrostboxError, SettingsError
from frostbox.heads import Head, Targets, head_names
from frostbox.norms import shared_norms
from frostbox.sampling import BatchParts, ViewSampler, WholeBatches
from tests.processes import together
from tests.tiny import tiny

# Without dropout, and with few norms: each of them waits for the other process three times a step.
SMALL = {
    "single": {"dropout": 0.0, "class_dropout": 0.0, "hidden": 16},
    "grid": {"dropout": 0.0, "width": 16},
    "anchors": {"width": 16},
    "pyramid": {"width": 16, "depth": 1, "strides": (16, 32)},
}
LOSSES = {
    "pyramid": [{}, {"class_loss": "varifocal", "bins": 4}],
    "anchors": [{}, {"class_loss": "focal"}],
    "grid": [{}],
    "single": [{}],
}
MAPS = {8: (8, 8), 16: (4, 4), 32: (2, 2)}


def _targets(counts: list[int]) -> list[Targets]:
    found: list[Targets] = []
    for n in counts:
        sizes = torch.rand(n, 2) * 0.4 + 0.2
        centres = torch.rand(n, 2) * 0.4 + 0.3
        found.append(
            {
                "boxes": torch.cat((centres, sizes), 1),
                "labels": torch.randint(3, (n,)),
                "difficult": torch.zeros(n, dtype=torch.bool),
            }
        )
    return found


def _loss(head: Head, model: nn.Module, maps: list[Tensor], targets: list[Targets]) -> Tensor:
    encoded = {
        k: t.double() if t.is_floating_point() else t for k, t in head.encode(targets).items()
    }
    losses = head.loss(model(maps), encoded)
    return torch.stack(list(losses.values())).sum()


def _compare_gradients() -> None:
    """Loss and gradients of parts against those of the whole batch, of every head."""
    for name in head_names():
        for settings in LOSSES[name]:
            head = tiny(name, size=(64, 64), **SMALL[name], **settings).head
            head.double().train()
            # Parts of two and three images, then one that has no object at all.
            for counts in ([1, 3, 0, 2, 1], [0, 0, 2, 1, 4]):
                _compare(head, counts)
            print(name, "same", flush=True)


def _compare(head: Head, counts: list[int]) -> None:
    torch.manual_seed(1)
    strides = type(head).strides_for(vars(head.settings))
    maps = [torch.randn(5, 8, *MAPS[s]).double() + 1 for s in strides]
    targets = _targets(counts)
    alone = copy.deepcopy(head)
    expected = _loss(alone, alone, maps, targets)
    expected.backward()
    shared = copy.deepcopy(head)
    mine = slice(0, 2) if ranks.first() else slice(2, 5)
    with shared_norms(shared):
        wrapped = DistributedDataParallel(shared)
        for _ in range(2):  # the second time DDP refuses parameters without a gradient
            shared.load_state_dict(head.state_dict())
            wrapped.zero_grad()
            with ranks.global_batch():
                found = _loss(shared, wrapped, [m[mine] for m in maps], targets[mine])
            found.backward()
        gradients = {n: p.grad for n, p in shared.named_parameters()}
    mean = torch.stack(ranks.gathered(found.detach())).mean()
    torch.testing.assert_close(mean, expected.detach(), rtol=1e-10, atol=0.0)
    for n, parameter in alone.named_parameters():
        torch.testing.assert_close(gradients[n], parameter.grad, rtol=1e-7, atol=1e-10, msg=n)
    statistics = {n: b for n, b in alone.named_buffers() if "running" in n}
    assert statistics
    for n, value in statistics.items():
        torch.testing.assert_close(shared.get_buffer(n), value, rtol=1e-10, atol=1e-12, msg=n)
    assert any(p.grad.abs().max() > 1e-4 for p in alone.parameters())


def in_two_processes() -> None:
    """In each: gradients, what rank 0 says, and errors of one that end both."""
    with ranks.started(2, 1, "cpu"):
        _compare_gradients()
        assert (ranks.count(), ranks.on_this_machine()) == (2, 2)
        assert ranks.gathered(ranks.rank()) == [0, 1]
        assert ranks.from_first(lambda: f"by {ranks.rank()}") == "by 0"
        assert ranks.in_turn(lambda: f"by {ranks.rank()}") == f"by {ranks.rank()}"
        ranks.check_same([1, "a"], "data")
        assert ranks.exchange_seconds(9, 2, "cpu") > 0
        values = torch.tensor([9.0, 5.0, 1.0] if ranks.first() else [8.0, 7.0])
        with ranks.global_batch():
            assert ranks.of_parts(ranks.rank()) == [0, 1]
            assert ranks.kept_of_highest(values, 3) == (1 if ranks.first() else 2)
            assert ranks.kept_of_highest(values, 99) == len(values)
        assert ranks.summed(torch.tensor([1.0, ranks.rank()])).tolist() == [2.0, 1.0]
    assert ranks.count() == 1
    with ranks.started(2, None, "cpu"):  # another training of the same program
        assert ranks.gathered(ranks.rank()) == [0, 1]
    print("first" if ranks.first() else "other", flush=True)
    with ranks.started(None, None, "cpu"):
        print("goes on alone")


def test_two_processes_are_as_one() -> None:
    """One test: processes take long to start. In float64, so that only rounding of that is left."""
    ended = together("tests.test_ranks", "in_two_processes")
    assert [process.status for process in ended] == [0, 0], ended
    first, other = (process.out.splitlines() for process in ended)
    same = [f"{n} same" for n in head_names() for _ in LOSSES[n]]
    assert first == [*same, "first", "goes on alone"]
    assert other == [*same, "other"]  # and has left, with status 0


def in_error(kind: str) -> None:
    """In each of two processes: what ends the one, and what the other hears of it."""
    try:
        with ranks.started(2, 1, "cpu"):
            {"first": _fails, "other": _fails_elsewhere, "differs": _differs, "stays": _stays}[
                kind
            ]()
    except FrostboxError as error:
        print(type(error).__name__, error, flush=True)
    if kind == "stays":
        time.sleep(10)  # its connections stay open, as those of a device that hangs


def _fails() -> None:
    def work() -> None:
        raise SettingsError("it cannot be")

    ranks.from_first(work)


def _fails_elsewhere() -> None:
    def work() -> None:
        if not ranks.first():
            raise SettingsError("no such folder here")

    ranks.in_turn(work)


def _differs() -> None:
    ranks.check_same(ranks.rank(), "data")


def _stays() -> None:
    if not ranks.first():
        raise SettingsError("out of memory")
    distributed._GRACE = 1.0
    with ranks.watched():
        dist.barrier()  # where the other never comes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "by", "said"),
    [
        ("first", 0, "it cannot be"),
        ("other", 1, "no such folder here"),
        ("differs", 0, "process 1 of 2 has other data than process 0: give every node the same"),
    ],
)
def test_an_error_in_one_process_ends_both(kind: str, by: int, said: str) -> None:
    ended = together("tests.test_ranks", "in_error", kind)
    assert ended[by].out == f"SettingsError {said}\n", ended
    told = f"RankError rank {by} of 2 has failed: {said} (rank {1 - by} of 2 ends with it)\n"
    assert ended[1 - by].out == told


@pytest.mark.slow
def test_who_waits_in_a_collective_that_nothing_ends() -> None:
    first, other = together("tests.test_ranks", "in_error", "stays")
    assert other.out == "SettingsError out of memory\n"
    assert first.status == 1
    assert first.err.endswith("rank 1 of 2 has failed: out of memory (rank 0 of 2 ends with it)\n")


@contextmanager
def _as_one_of(count: int, rank: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "count", lambda: count)
        patch.setattr(ranks, "rank", lambda: rank)
        yield


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_make_up_the_batches_of_one_process(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = ViewSampler(range(23), 2, seed=3, window=8, block=4)
    sampler.set_epoch(2)
    whole = list(BatchParts(sampler, 5, least=2))
    assert [row for batch in whole for row in batch] == list(sampler)
    parts = []
    for rank in range(count):
        with _as_one_of(count, rank, monkeypatch):
            mine = BatchParts(sampler, 5, least=max(2, count))
            parts.append(list(mine))
            assert len(mine) == len(whole)
            assert [mine.images(k) for k in range(5)] == [5, 5, 5, 5, 3]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [row for share in shares for row in share] == batch
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0


@pytest.mark.parametrize("count", [1, 2])
def test_an_epoch_that_is_resumed_has_the_batches_that_were_left(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(count):
        with _as_one_of(count, rank, monkeypatch):
            sampler = ViewSampler(range(21), 2, seed=3)  # a last batch of one image is left out
            sampler.set_epoch(1)
            parts = BatchParts(sampler, 5, least=2)
            every = list(parts)
            assert len(every) == 4
            sampler.go_on(1, 2 * 5)
            assert list(parts) == every[2:]
            sampler.set_epoch(2)
            assert len(list(parts)) == 4


@pytest.mark.parametrize(("images", "least", "batches"), [(21, 2, 4), (22, 3, 4), (22, 2, 5)])
def test_last_batch_has_an_image_for_everyone(images: int, least: int, batches: int) -> None:
    parts = BatchParts([(k, 0) for k in range(images)], 5, least=least)
    assert len(parts) == len(list(parts)) == batches


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_image_is_validated_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(k, 0) for k in range(11)]
    seen = []
    lengths = set()
    for rank in range(count):
        with _as_one_of(count, rank, monkeypatch):
            mine = WholeBatches(rows, 4)
            lengths.add(len(list(mine)))
            seen += [row for k, batch in enumerate(mine) if mine.counts(k) for row in batch]
    assert sorted(seen) == rows
    assert len(lengths) == 1


def test_program_that_cannot_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    with pytest.raises(SettingsError, match="write it into a file"):
        ranks.started(2, 1, "cpu").__enter__()


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="one mps device"):
        ranks.started(2, 1, "mps").__enter__()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(SettingsError, match="has 1 CUDA devices"):
        ranks.started(2, 1, "cuda").__enter__()
