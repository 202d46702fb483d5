"""A head from the cache, beside the frozen backbone without one and a plain matrix product."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from frostbox import backbones
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.features.cache import FeatureCache
from frostbox.heads import Head
from frostbox.precision import uses_bf16
from frostbox.steps import run_head
from frostbox.training import CachedViews, fit
from speed_extraction import TensorPhotos
from turns import (
    BATCH,
    NAME,
    ROOT,
    SIZE,
    STRIDES,
    Bench,
    fit_settings,
    fresh,
    in_turns,
    new_head,
    watched_memory,
)  # fmt: skip

_UNCACHED = 4  # steps
_EPOCHS = (1, 2)  # the difference is what an epoch costs, without the start of a training
_LENGTH = 2504  # images an epoch, half of VOC2007 trainval: what an epoch costs once must not count


class Repeated:
    """The images of a small cache again and again, as a data set of `length`."""

    def __init__(self, samples: CachedViews, length: int) -> None:
        self._samples, self._length = samples, length
        self.objects = [samples.objects[k % len(samples)] for k in range(length)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._samples, name)

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, rows: Sequence[tuple[int, int]]) -> Any:
        """The batch of these rows."""
        return self._samples.__getitems__([(i % len(self._samples), v) for i, v in rows])


def training(bench: Bench, cache: Path) -> None:
    """The head from the cache, and through the frozen backbone without one."""
    samples = CachedViews(FeatureCache.open(cache), bench.dataset, new_head(bench))
    repeated = Repeated(samples, _LENGTH)

    def epochs(number: int) -> Callable[[], Any]:
        run = bench.folder / "fit"
        return lambda: fit(new_head(bench), repeated, None, fit_settings(epochs=number), fresh(run))

    few, many = _EPOCHS
    parts = uncached_parts(bench)
    kind = torch.bfloat16 if uses_bf16("auto", "cpu") else torch.float32
    rivals = {
        "few": epochs(few),
        "many": epochs(many),
        "no cache, few": lambda: without_cache(bench, parts, 2),
        "no cache": lambda: without_cache(bench, parts, 2 + _UNCACHED),
        "product": lambda: matrix_product(kind),
        "float32 product": lambda: matrix_product(torch.float32),
    }
    rivals["no cache, few"]()
    seconds = in_turns(rivals, bench.turns)
    part = "training"
    image = [
        (a - b) / (many - few) / _LENGTH
        for a, b in zip(seconds["many"], seconds["few"], strict=True)
    ]
    bench.add(part, "an epoch of 5008 images from the cache", [5008 * s for s in image], "s", "20")
    # The difference: neither weights, targets nor the start of the loader's processes count.
    uncached = [
        (a - b) / (_UNCACHED * BATCH)
        for a, b in zip(seconds["no cache"], seconds["no cache, few"], strict=True)
    ]
    bench.add(
        part, "from the cache against through the frozen backbone",
        [a / b for a, b in zip(uncached, image, strict=True)], target="15",
    )  # fmt: skip
    work = flops_of_a_step(bench, samples) / BATCH
    rate = [work / s / 1e9 for s in image]
    bench.add(part, "arithmetic", rate, "GFLOP/s")
    for name in ("product", "float32 product"):
        best = [_PRODUCT_FLOPS / s / 1e9 for s in seconds[name]]
        what = "as the machine computes" if name == "product" else "float32"
        bench.add(part, f"a plain matrix product, {what}", best, "GFLOP/s")
    for way in ("cached", "uncached"):
        bench.add(part, f"anonymous memory, {way}", [child_memory(bench, cache, way)], "MB")


def without_cache(bench: Bench, parts: tuple[nn.Module, Head], steps: int) -> None:
    """What one does without a cache: decode, frozen backbone, head, in every epoch again."""
    net, head = parts
    head.train()
    optimizer = torch.optim.AdamW(head.parameters())
    photos = (bench.dataset.photos * steps)[: steps * BATCH]
    encoded = head.encode(
        [targets(i, bench.dataset, geometry("shrink", (i.width, i.height), SIZE)) for i in photos]
    )
    loader = DataLoader(
        TensorPhotos(bench.dataset.subset(photos), net), BATCH, num_workers=os.cpu_count() or 1
    )
    bf16 = uses_bf16("auto", "cpu")
    for k, batch in enumerate(loader):
        with torch.no_grad():
            maps = net(batch.contiguous(memory_format=torch.channels_last))
        part = {name: t[k * BATCH : (k + 1) * BATCH] for name, t in encoded.items()}
        losses = head.loss(run_head(head, maps, bf16), part)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()


def uncached_parts(bench: Bench) -> tuple[nn.Module, Head]:
    """The frozen backbone and the head, channels last."""
    net = backbones.create(NAME, STRIDES).to(memory_format=torch.channels_last)
    return net, new_head(bench).to(memory_format=torch.channels_last)


_PRODUCT = 2048
_PRODUCT_TIMES = 8
_PRODUCT_FLOPS = _PRODUCT_TIMES * 2 * _PRODUCT**3


def matrix_product(kind: torch.dtype) -> None:
    a, b = torch.ones(2, _PRODUCT, _PRODUCT, dtype=kind)
    for _ in range(_PRODUCT_TIMES):
        a @ b


def flops_of_a_step(bench: Bench, samples: CachedViews) -> float:
    """Multiplications and additions of a step, there and back, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    head = new_head(bench).train()
    maps, encoded = samples.__getitems__([(k, 0) for k in range(BATCH)])
    with FlopCounterMode(display=False) as counter:
        losses = head.loss(run_head(head, maps, False), encoded)
        torch.stack(list(losses.values())).sum().backward()
    return float(counter.get_total_flops())


def child_memory(bench: Bench, cache: Path, kind: str) -> float:
    """Most anonymous memory (RssAnon) of a process of its own that trains, in MB."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "speed.py"),
        str(bench.dataset.root),
        "--child",
        kind,
        str(cache),
    ]
    command += ["--images", str(len(bench.dataset.photos))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def child(bench: Bench, kind: str, cache: Path) -> None:
    with watched_memory() as seen:
        if kind == "cached":
            samples = CachedViews(FeatureCache.open(cache), bench.dataset, new_head(bench))
            fit(new_head(bench), samples, None, fit_settings(epochs=2), fresh(bench.folder / "fit"))
        else:
            without_cache(bench, uncached_parts(bench), 2 + _UNCACHED)
    print(max(seen))
