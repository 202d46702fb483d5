"""Photos to features on disk, beside the classic script and the machine's limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from frostbox import backbones
from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import create_engine
from frostbox.features.extract import extract
from frostbox.features.index import views_for
from frostbox.features.shards import load_views, write_tensors
from frostbox.threads import one_thread
from turns import BATCH, NAME, SIZE, STRIDES, Bench, fresh, in_turns


class PillowPhotos(Dataset[Tensor]):
    """The classic way: Pillow, resize, to a normalised float tensor."""

    def __init__(self, dataset: DetectionSet, backbone: Backbone) -> None:
        self.paths = [image.photo for image in dataset.photos]
        self.transform = v2.Compose(
            [
                v2.Resize(SIZE[::-1]), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(backbone.mean, backbone.std),
            ]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> Tensor:
        result: Tensor = self.transform(Image.open(self.paths[k]).convert("RGB"))
        return result


class TensorPhotos(PillowPhotos):
    """With torchvision's decoder."""

    def __getitem__(self, k: int) -> Tensor:
        result: Tensor = self.transform(
            decode_image(read_file(str(self.paths[k])), mode=ImageReadMode.RGB)
        )
        return result


def classic(bench: Bench, photos: Dataset[Tensor], net: nn.Module, half: bool) -> None:
    """A data loader, an eager net, a file a batch."""
    folder = fresh(bench.folder / "classic")
    with torch.inference_mode():
        for k, batch in enumerate(DataLoader(photos, BATCH, num_workers=os.cpu_count() or 1)):
            maps = net(batch.contiguous(memory_format=torch.channels_last) if half else batch)
            torch.save([m.half() if half else m for m in maps], folder / f"{k}.pt")


def extraction(bench: Bench) -> Path:
    """Photos to features on disk; a cache of `dataset` is left for training."""
    plain = bench.backbone
    last = backbones.create(NAME, STRIDES).to(memory_format=torch.channels_last)
    engines = {
        "frostbox, float32": create_engine("auto", plain, SIZE, precision="32"),
        "frostbox": create_engine("auto", plain, SIZE, precision="auto"),
    }
    pictures = torch.stack(
        [
            load_views(i, "shrink", SIZE, views_for(plain, 1))[1][0]
            for i in bench.dataset.photos[:64]
        ]
    ).contiguous(memory_format=torch.channels_last)
    pillow, decoded = PillowPhotos(bench.dataset, plain), TensorPhotos(bench.dataset, plain)
    cache = bench.folder / "cache"

    def ours(name: str) -> Callable[[], Any]:
        return lambda: extract(bench.many, plain, fresh(cache), size=SIZE, engine=engines[name])

    def decode() -> None:
        with one_thread():
            for k in range(len(pictures)):
                seen(bench, k)

    writing: list[float] = []
    rivals: dict[str, Callable[[], Any]] = {
        "the classic script": lambda: classic(bench, pillow, plain, False),
        "timm, channels-last": lambda: classic(bench, decoded, last, True),
        "frostbox, float32": ours("frostbox, float32"),
        "frostbox": ours("frostbox"),
        "decode": decode,
        "engine": lambda: engines["frostbox"].run(pictures),
        "engine, float32": lambda: engines["frostbox, float32"].run(pictures),
        "write": lambda: writing.append(writing_seconds(bench, cache)),
    }
    for name in ("engine", "engine, float32"):
        rivals[name]()
    seconds = in_turns(rivals, bench.turns)
    alone = {k: seconds.pop(k) for k in ("decode", "engine", "engine, float32", "write")}
    part = "extraction"
    count, few, many = (len(x) for x in (bench.dataset.photos, pictures, bench.many.photos))
    for name in engines:  # as long as for the photos of the others
        seconds[name] = [s * count / many for s in seconds[name]]
    bench.add(part, "frostbox", [count / s for s in seconds["frostbox"]], "photos/s")
    bench.ratios(part, seconds, "frostbox", {})
    bench.ratios(
        part,
        {k: v for k, v in seconds.items() if k != "frostbox"},
        "frostbox, float32",
        {"the classic script": "7", "timm, channels-last": "3.5"},
    )
    cores = os.cpu_count() or 1
    for engine, name in (("engine", "frostbox"), ("engine, float32", "frostbox, float32")):
        for what, beside, aim in (
            ("engine and decoding", [0.0] * bench.turns, "95"),
            ("engine, decoding and writing", writing, ""),
        ):
            limits = [
                e / few + (d / few + w) / cores
                for e, d, w in zip(alone[engine], alone["decode"], beside, strict=True)
            ]
            reached = [100 * count * c / s for c, s in zip(limits, seconds[name], strict=True)]
            bench.add(part, f"{name}: of what {what} allow", reached, "%", aim)
    nbytes = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
    bench.add(part, "disk for a view of a photo", [nbytes / many / 1e3], "kB")
    extract(bench.dataset, plain, fresh(cache), size=SIZE, engine=engines["frostbox"])
    return cache


def writing_seconds(bench: Bench, cache: Path) -> float:
    """CPU time to write the features of a photo: checksum, and the way to the disk."""
    shard = FeatureCache.open(cache).index.shards[0]
    tensors = load_file(cache / shard.file)
    path = fresh(bench.folder / "written") / shard.file
    started = time.thread_time()
    write_tensors(path, tensors)
    return (time.thread_time() - started) / len(shard.ids)


def seen(bench: Bench, k: int) -> Tensor:
    """A photo as the net sees it, uint8 (3, H, W)."""
    image = bench.dataset.photos[k]
    return load_views(image, "shrink", SIZE, views_for(bench.backbone, 1))[1][0]
