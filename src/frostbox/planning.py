"""Estimates of time, disk and memory before long work starts, from a few seconds of measurement."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor, nn

from frostbox import ranks
from frostbox.backbones import Backbone
from frostbox.backbones.stages import Stages
from frostbox.data.annotations import DetectionSet
from frostbox.data.views import View
from frostbox.errors import FrostboxError, SettingsError
from frostbox.features.engine_contract import Engine
from frostbox.features.extract import images_per_shard
from frostbox.features.index import DTYPES, FLOAT16, INT8, views_for
from frostbox.features.remote_cache import remote_of
from frostbox.features.shards import load_views
from frostbox.features.store import cached_bytes
from frostbox.heads import FeatureSpec, Head
from frostbox.loading import batches, reading_processes
from frostbox.memory import peak_bytes, resident_bytes
from frostbox.precision import uses_bf16
from frostbox.steps import Batch, run_head
from frostbox.training import FitSettings, Samples, view_sampler
from frostbox.units import counted, seconds_text, size_text

_SAMPLED_PHOTOS = 12
_TIMED_IMAGES = 48
_WARM, _FEWEST, _TIMED = 4, 4, 12  # steps; the first ones compile and allocate
_TIMED_SECONDS = 5.0  # after which the fewest are enough
_READY = 2  # batches of each process that reads
_CHECKED = 4  # batches of a validation, the first of them to warm up
# What a long training adds to a step that was timed in a short one, and what its loop does where
# nobody measured it (overhead.py): a share, and seconds.
_LONGER, _LOOP = 1.05, 0.01
_NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take. `note` says what it was measured on."""

    what: str
    seconds: float
    disk_bytes: int
    memory_bytes: int
    note: str

    def __str__(self) -> str:
        disk = f", {size_text(self.disk_bytes)} of disk" if self.disk_bytes else ""
        return (
            f"{self.what}: about {seconds_text(self.seconds)}{disk}, "
            f"{size_text(self.memory_bytes)} of memory ({self.note})"
        )


def feature_bytes(spec: FeatureSpec, dtype: str = FLOAT16) -> int:
    """Bytes of the stored feature maps of one view of one image."""
    return sum(
        DTYPES[dtype] * channels * rows * columns
        for channels, (rows, columns) in zip(spec.channels, spec.sizes, strict=True)
    )


def estimate_extraction(
    datasets: Sequence[tuple[DetectionSet, int]],
    backbone: Backbone,
    engine: Engine,
    size: tuple[int, int],
    mode: str,
    dtype: str = FLOAT16,
) -> Estimate:
    """Time, disk and memory to extract these (data set, number of views).

    Decoding and drawing the views run beside the backbone, on the same cores: the times are added,
    theirs divided by the cores.
    """
    loading = sum(
        len(data.photos) * load_seconds(data, mode, size, views_for(backbone, views))
        for data, views in datasets
    )
    batch = torch.zeros(_TIMED_IMAGES, 3, size[1], size[0], dtype=torch.uint8)
    engine.run(batch[:8])  # the first run allocates
    started = time.perf_counter()
    engine.run(batch)
    forward = (time.perf_counter() - started) / _TIMED_IMAGES
    spec = FeatureSpec(backbone.strides, backbone.channels, backbone.map_sizes(size))
    images = sum(len(data.photos) for data, _ in datasets)
    passes = sum(len(data.photos) * views for data, views in datasets)
    one = [views * feature_bytes(spec) for _, views in datasets]
    # One shard is filled while another is written, for int8 as a copy in that.
    kept = 2 + (dtype == INT8) / 2
    shards = max(
        kept * nbytes * min(images_per_shard(nbytes), len(data.photos))
        for nbytes, (data, _) in zip(one, datasets, strict=True)
    )
    return Estimate(
        what=f"extracting {passes} views of {images} photos",
        seconds=passes * forward + loading / (os.cpu_count() or 1),
        disk_bytes=passes * feature_bytes(spec, dtype),
        memory_bytes=resident_bytes() + round(shards),
        note=f"measured: {1 / forward:.0f} views/s through the backbone, "
        f"{images / loading:.0f} photos/s decoded in their views on one core",
    )


def load_seconds(
    dataset: DetectionSet, mode: str, size: tuple[int, int], views: Sequence[View]
) -> float:
    """Time on one core to decode a photo and bring it to every view."""
    photos = dataset.photos
    step = max(1, len(photos) // _SAMPLED_PHOTOS)
    started, done = time.perf_counter(), 0
    for image in photos[::step][:_SAMPLED_PHOTOS]:
        try:
            load_views(image, mode, size, views, photos)
        except FrostboxError:
            continue  # the extraction itself names and counts it
        done += 1
    return (time.perf_counter() - started) / max(done, 1)


def estimate_training(
    head: Head,
    train: Samples,
    settings: FitSettings,
    stages: Stages | None = None,
    device: str = "cpu",
    *,
    step: float | None = None,
) -> Estimate:
    """Time and memory to fit the head, and stages below it, from a few real steps.

    The weights are left as they were.

    Args:
        step: seconds of a step, where they are known already.
    """
    batch = min(settings.batch_size, max(len(train), 2))
    if step is None:
        step, _ = time_steps(head, train, settings, stages, device)
    parts = [head] if stages is None else [head, stages]
    weights = sum(p.numel() for part in parts for p in part.parameters())
    images = min(settings.epoch_images, len(train)) or len(train)
    steps = settings.epochs * -(-images // batch)
    maps = sum(m.nbytes for m in train.__getitems__([(0, 0)])[0])
    places = device if ranks.count() == 1 else f"{ranks.count()} x {device}"
    return Estimate(
        what=f"training {weights / 1e6:.2f} M weights for {counted(settings.epochs, 'epoch')}",
        seconds=steps * step,
        disk_bytes=weights * 4 * 8,  # best.ckpt, last.ckpt with AdamW's state, best.safetensors
        # Weights, gradients and AdamW's two moments; activations of about three batches.
        # The steps that were measured are in the peak, with what is inside of thawed stages.
        memory_bytes=max(peak_bytes(), resident_bytes() + 16 * weights + 6 * batch * maps),
        note=f"measured: {step * 1000:.0f} ms for a step of {batch} images on {places}",
    )


def time_steps(
    head: Head,
    train: Samples,
    settings: FitSettings,
    stages: Stages | None,
    device: str,
    loop: float = _LOOP,
) -> tuple[float, float]:
    """Seconds of a step, and of a batch of a validation; the weights stay as they are.

    Real batches are read ahead in a thread, as in training. Of several processes each measures its
    part of a batch while the others do; the slowest counts, and what they exchange is added.

    Args:
        loop: seconds that a step takes besides its computations.
    """
    parts = [head] if stages is None else [head, stages]
    states = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    for part in parts:
        part.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if stages is not None:
        stages.thaw(depthwise=device == "cuda")
    bf16 = uses_bf16(settings.precision, device)
    learned = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.0, fused=True)
    size = -(-min(settings.batch_size, len(train)) // ranks.count())
    steps: list[float] = []
    checks: list[float] = []
    coming = _endless(train, size, settings, device)
    # Processes have some batches ready before the first step.
    ready = _READY * reading_processes(train, device)
    with torch.random.fork_rng(devices=[]), closing(coming):

        def loss() -> Tensor:
            maps, encoded = next(coming)
            maps = [m.to(device) for m in maps]
            encoded = {name: t.to(device) for name, t in encoded.items()}
            losses = head.loss(run_head(head, maps, bf16, stages), encoded)
            return torch.stack(list(losses.values())).sum()

        head.train()
        while len(steps) < _WARM + ready + _TIMED:
            if sum(steps[_WARM:]) > _TIMED_SECONDS and len(steps) >= _WARM + _FEWEST:
                break
            started = time.perf_counter()
            total = loss()
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            _wait(device)
            steps.append(time.perf_counter() - started)
        head.eval()
        with torch.no_grad():
            for _ in range(_CHECKED):
                started = time.perf_counter()
                loss()
                _wait(device)
                checks.append(time.perf_counter() - started)
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)
        part.cpu()
    for parameter in learned:
        parameter.grad = None
    if stages is not None:
        stages.freeze()
    last = steps[_WARM:][-_TIMED:]
    step = fmean(last) if ready else median(last)  # processes bring some batches at a time
    step, check = (
        max(each) for each in zip(*ranks.gathered((step, median(checks[1:]))), strict=True)
    )
    norms = sum(isinstance(m, _NORM) for m in head.modules())
    step += ranks.exchange_seconds(sum(p.numel() for p in learned), norms, device)
    scale = settings.batch_size / (size * ranks.count())
    return scale * (_LONGER * step + loop), scale * check


def _endless(
    train: Samples, size: int, settings: FitSettings, device: str
) -> Generator[Batch, None, None]:
    """Batches of so many images, in the order of `fit` and read as there."""
    rows = list(view_sampler(train, settings))
    rows += rows[: -len(rows) % size]
    loader = batches(train, [rows[k : k + size] for k in range(0, len(rows), size)], device)
    while True:
        yield from loader


def _wait(device: str) -> None:
    """For what was queued on an accelerator."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def check_space(folder: Path, estimate: Estimate) -> None:
    """Raise SettingsError when the disk of `folder` has less room than the estimate needs."""
    free = free_bytes(folder)
    if free < estimate.disk_bytes:
        raise SettingsError(
            f"{folder} has {size_text(free)} free and {size_text(estimate.disk_bytes)} are needed "
            f"for {estimate.what}: make room or choose another folder with --out"
        )


def free_bytes(folder: Path) -> int:
    """Free disk space where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Room:
    """Where the features of a data set are to lie.

    Attributes:
        free: bytes of the disk; no end of them on a remote path.
        cached: bytes of what is there already, by backbone, size and dtype.
    """

    free: float = math.inf
    cached: Mapping[tuple[str, tuple[int, int], str], int] = field(default_factory=dict)

    def bytes_for(self, backbone: str, size: tuple[int, int], dtype: str) -> float:
        """Bytes that these features may have: what is cached need not be made again."""
        return self.free + self.cached.get((backbone, size, dtype), 0)


def room(root: Path, name: str) -> Room:
    """The room for features of the data set `name` under `root`."""
    if remote_of(root) is not None:
        return Room()
    return Room(free_bytes(root), cached_bytes(root, name))
