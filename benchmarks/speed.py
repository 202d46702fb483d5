"""Every stage of frostbox beside what people do today and beside the machine's limit, in one run.

    make bench                                    # or with DATA=$VOCDEVKIT/VOC2007
    python benchmarks/speed.py [DATA] [--images 256] [--pairs 3] [--write]

Rivals take turns, so that a noisy machine disturbs all alike; a ratio is the median over the turns,
with the lowest and the highest. `--write` puts the table into docs/results.md and the figures into
benchmarks/speed.json, with which the next run is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from frostbox import backbones
from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.data.sample import write_sample
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.data.voc import load
from frostbox.data.voc_layout import find_voc
from frostbox.detector import Detector, Settings
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import create_engine
from frostbox.features.extract import extract
from frostbox.features.index import views_for
from frostbox.features.shards import load_views
from frostbox.heads import Head, create_head
from frostbox.learning import feature_spec
from frostbox.precision import uses_bf16
from frostbox.settings import TrainSettings
from frostbox.steps import run_head
from frostbox.threads import one_thread
from frostbox.training import CachedViews, FitSettings, fit

NAME, STRIDES = "efficientnet_lite0", (8, 16, 32)
SIZE = (320, 320)
ROOT = Path(__file__).resolve().parent.parent
RESULTS, LAST = ROOT / "docs" / "results.md", ROOT / "benchmarks" / "speed.json"
BEGIN, END = "<!-- make bench begins -->", "<!-- make bench ends -->"
_BATCH = 32
_UNCACHED = 4  # steps
_EPOCHS = (2, 6)  # the difference is what epochs cost, without the start of a training
_PREDICTIONS = 200


@dataclass
class Row:
    """A line of the table: a ratio, or a figure with its unit; a value for each turn."""

    part: str
    what: str
    values: list[float]
    unit: str = "x"
    target: str = ""

    @property
    def key(self) -> str:
        return f"{self.part}: {self.what}"

    def text(self) -> str:
        """The median, and the range where there is one."""
        shown = _number(median(self.values)) + ("" if self.unit == "x" else f" {self.unit}")
        if len(self.values) > 1:
            shown += f" ({_number(min(self.values))} to {_number(max(self.values))})"
        return shown


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        dataset: the photos and boxes. folder: for files that go away again. turns: of the rivals.
    """

    dataset: DetectionSet
    folder: Path
    turns: int
    backbone: Backbone
    rows: list[Row] = field(default_factory=list)

    def add(
        self, part: str, what: str, values: list[float], unit: str = "x", target: str = ""
    ) -> None:
        row = Row(part, what, values, unit, target)
        self.rows.append(row)
        print(f"{row.key}: {row.text()}" + (f" (aim: {target})" if target else ""), flush=True)

    def ratios(
        self, part: str, seconds: dict[str, list[float]], ours: str, aims: dict[str, str]
    ) -> None:
        """How many times faster one is than each of the others, turn by turn."""
        for rival, taken in seconds.items():
            if rival != ours:
                ratios = [a / b for a, b in zip(taken, seconds[ours], strict=True)]
                self.add(part, f"{ours} against {rival}", ratios, target=aims.get(rival, ""))


def in_turns(rivals: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds of each, every rival once in every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(turns):
        for name, run in rivals.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


# --- extraction ----------------------------------------------------------------------------------


class _PillowPhotos(Dataset[Tensor]):
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


class _TensorPhotos(_PillowPhotos):
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
        for k, batch in enumerate(DataLoader(photos, _BATCH, num_workers=os.cpu_count() or 1)):
            maps = net(batch.contiguous(memory_format=torch.channels_last) if half else batch)
            torch.save([m.half() if half else m for m in maps], folder / f"{k}.pt")


def extraction(bench: Bench) -> Path:
    """Photos to features on disk; the cache of the last turn is left for training."""
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
    pillow, decoded = _PillowPhotos(bench.dataset, plain), _TensorPhotos(bench.dataset, plain)
    cache = bench.folder / "cache"

    def ours(name: str) -> Callable[[], Any]:
        return lambda: extract(bench.dataset, plain, fresh(cache), size=SIZE, engine=engines[name])

    def decode() -> None:
        with one_thread():
            for k in range(len(pictures)):
                seen(bench, k)

    rivals: dict[str, Callable[[], Any]] = {
        "the classic script": lambda: classic(bench, pillow, plain, False),
        "timm, channels-last": lambda: classic(bench, decoded, last, True),
        "frostbox, float32": ours("frostbox, float32"),
        "frostbox": ours("frostbox"),
        "decode": decode,
        "engine": lambda: engines["frostbox"].run(pictures),
        "engine, float32": lambda: engines["frostbox, float32"].run(pictures),
    }
    for name in ("engine", "engine, float32"):
        rivals[name]()
    seconds = in_turns(rivals, bench.turns)
    alone = {k: seconds.pop(k) for k in ("decode", "engine", "engine, float32")}
    part = "extraction"
    count, few = len(bench.dataset.photos), len(pictures)
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
        limits = [
            (e / few + d / few / cores) for e, d in zip(alone[engine], alone["decode"], strict=True)
        ]
        reached = [100 * count * c / s for c, s in zip(limits, seconds[name], strict=True)]
        bench.add(part, f"{name}: of what engine and decoding allow", reached, "%", "95")
    nbytes = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
    bench.add(part, "disk for a view of a photo", [nbytes / count / 1e3], "kB")
    return cache


def seen(bench: Bench, k: int) -> Tensor:
    """A photo as the net sees it, uint8 (3, H, W)."""
    image = bench.dataset.photos[k]
    return load_views(image, "shrink", SIZE, views_for(bench.backbone, 1))[1][0]


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- training ------------------------------------------------------------------------------------


def new_head(bench: Bench) -> Head:
    """The default head, as `train` makes it."""
    torch.manual_seed(0)
    spec = feature_spec(bench.backbone, SIZE)
    return create_head("pyramid", spec, len(bench.dataset.classes))


def fit_settings(**changes: Any) -> FitSettings:
    return replace(TrainSettings.create({}).fit, batch_size=_BATCH, validate_every=0, **changes)


def training(bench: Bench, cache: Path) -> None:
    """The head from the cache, and through the frozen backbone without one."""
    samples = CachedViews(FeatureCache.open(cache), bench.dataset, new_head(bench))
    count = len(samples)

    def epochs(number: int) -> Callable[[], Any]:
        run = bench.folder / "fit"
        return lambda: fit(new_head(bench), samples, None, fit_settings(epochs=number), fresh(run))

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
        (a - b) / (many - few) / count for a, b in zip(seconds["many"], seconds["few"], strict=True)
    ]
    bench.add(part, "an epoch of 5008 images from the cache", [5008 * s for s in image], "s", "20")
    # The difference: neither weights, targets nor the start of the loader's processes count.
    uncached = [
        (a - b) / (_UNCACHED * _BATCH)
        for a, b in zip(seconds["no cache"], seconds["no cache, few"], strict=True)
    ]
    bench.add(
        part, "from the cache against through the frozen backbone",
        [a / b for a, b in zip(uncached, image, strict=True)], target="15",
    )  # fmt: skip
    work = flops_of_a_step(bench, samples) / _BATCH
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
    photos = (bench.dataset.photos * steps)[: steps * _BATCH]
    encoded = head.encode(
        [targets(i, bench.dataset, geometry("shrink", (i.width, i.height), SIZE)) for i in photos]
    )
    loader = DataLoader(
        _TensorPhotos(bench.dataset.subset(photos), net), _BATCH, num_workers=os.cpu_count() or 1
    )
    bf16 = uses_bf16("auto", "cpu")
    for k, batch in enumerate(loader):
        with torch.no_grad():
            maps = net(batch.contiguous(memory_format=torch.channels_last))
        part = {name: t[k * _BATCH : (k + 1) * _BATCH] for name, t in encoded.items()}
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
    maps, encoded = samples.__getitems__([(k, 0) for k in range(_BATCH)])
    with FlopCounterMode(display=False) as counter:
        losses = head.loss(run_head(head, maps, False), encoded)
        torch.stack(list(losses.values())).sum().backward()
    return float(counter.get_total_flops())


def child_memory(bench: Bench, cache: Path, kind: str) -> float:
    """Most anonymous memory (RssAnon) of a process of its own that trains, in MB."""
    command = [sys.executable, __file__, str(bench.dataset.root), "--child", kind, str(cache)]
    command += ["--images", str(len(bench.dataset.photos))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """MB of anonymous memory, several times a second."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    seen.append(int(line.split()[1]) / 1e3)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def child(bench: Bench, kind: str, cache: Path) -> None:
    with watched_memory() as seen:
        if kind == "cached":
            samples = CachedViews(FeatureCache.open(cache), bench.dataset, new_head(bench))
            fit(new_head(bench), samples, None, fit_settings(epochs=2), fresh(bench.folder / "fit"))
        else:
            without_cache(bench, uncached_parts(bench), 2 + _UNCACHED)
    print(max(seen))


# --- prediction ----------------------------------------------------------------------------------


def prediction(bench: Bench, cache: Path) -> None:
    """One photo from its file to boxes, and many."""
    head = new_head(bench)
    samples = CachedViews(FeatureCache.open(cache), bench.dataset, head)
    fit(head, samples, None, fit_settings(epochs=4), fresh(bench.folder / "fit"))
    detector = Detector(bench.backbone, head, "pyramid", Settings(bench.dataset.classes, SIZE))
    paths = [image.photo for image in bench.dataset.photos if image.photo is not None]
    picture = load_views(bench.dataset.photos[0], "shrink", SIZE, views_for(bench.backbone, 1))[1][
        0
    ]
    part = "prediction"
    kinds = {
        "torch": ("torch", "32"),
        "OpenVINO, float32": ("openvino", "32"),
        "OpenVINO, as the machine computes": ("openvino", "auto"),
    }
    for name, (kind, precision) in kinds.items():
        engine = create_engine(kind, bench.backbone, SIZE, latency=True, precision=precision)
        detector.prepare(kind, precision=precision)
        detector.predict(paths[0])
        whole: list[float] = []
        bare: list[float] = []
        chosen: list[float] = []
        for k in range(_PREDICTIONS):
            path = paths[k % len(paths)]
            with timed(whole):
                detector.predict(path)
            with timed(bare):
                maps = engine.run(picture[None])
            with torch.inference_mode():
                boxes, scores = (t[0] for t in detector.decode(maps))
            with timed(chosen):
                detector.settings.selection.choose(boxes, scores)
        bench.add(part, f"{name}: a photo to boxes, p50", [1000 * median(whole)], "ms")
        bench.add(part, f"{name}: p99", [1000 * sorted(whole)[-max(1, _PREDICTIONS // 100)]], "ms")
        bench.add(part, f"{name}: the bare backbone", [1000 * median(bare)], "ms")
        bench.add(
            part, f"{name}: selection of boxes", [100 * median(chosen) / median(whole)], "%", "2"
        )
    detector = Detector(bench.backbone, head, "pyramid", Settings(bench.dataset.classes, SIZE))
    detector.predict(paths[:32])
    seconds = in_turns({"many": lambda: detector.predict(paths)}, bench.turns)["many"]
    bench.add(part, "a folder", [len(paths) / s for s in seconds], "photos/s")


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


# --- start-up ------------------------------------------------------------------------------------


def start_up(bench: Bench) -> None:
    """Commands that need no model, above a bare interpreter."""
    voc = str(bench.dataset.root)
    rivals = {
        "bare": [sys.executable, "-c", "pass"],
        "--help": [sys.executable, "-m", "frostbox", "--help"],
        "explore --json": [sys.executable, "-m", "frostbox", "explore", voc, "--json", "-"],
    }
    calls: dict[str, Callable[[], Any]] = {
        name: lambda command=command: subprocess.run(command, capture_output=True, check=True)
        for name, command in rivals.items()
    }
    seconds = in_turns(calls, max(3, bench.turns))
    for name in list(rivals)[1:]:
        above = [a - b for a, b in zip(seconds[name], seconds["bare"], strict=True)]
        aim = "0.6" if name == "--help" else "2"
        bench.add("start-up", f"frostbox {name} above a bare interpreter", above, "s", aim)


# --- the table -----------------------------------------------------------------------------------


def table(rows: list[Row], last: dict[str, list[float]]) -> str:
    """Markdown; the last column is the median of the last run that was written."""
    lines = [
        "| part | what | this run (lowest to highest) | aim | before |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        before = _number(median(last[row.key])) if row.key in last else ""
        lines.append(f"| {row.part} | {row.what} | {row.text()} | {row.target} | {before} |")
    return "\n".join(lines)


def write_part(begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of docs/results.md."""
    before, rest = RESULTS.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    RESULTS.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def write(rows: list[Row], text: str, photos: str) -> None:
    """Into docs/results.md, between the marks, and into speed.json."""
    machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}, {photos}"
    write_part(BEGIN, END, f"{machine}:\n\n{text}")
    LAST.write_text(json.dumps({row.key: row.values for row in rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="a VOC folder; without one, drawn scenes")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=3, help="turns of the rivals")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--parts", nargs="*", default=["extraction", "training", "prediction", "start-up"]
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.data:
            root = find_voc(given.data)
        else:
            root = write_sample(folder / "scenes", train=given.images, val=0)
        every = load(root, "train")
        dataset = every.subset(every.photos[: given.images])
        bench = Bench(dataset, folder, given.pairs, backbones.create(NAME, STRIDES))
        if given.child:
            child(bench, given.child[0], Path(given.child[1]))
            return
        started = time.perf_counter()
        cache = extraction(bench)
        if "training" in given.parts:
            training(bench, cache)
        if "prediction" in given.parts:
            prediction(bench, cache)
        if "start-up" in given.parts:
            start_up(bench)
        last = json.loads(LAST.read_text()) if LAST.exists() else {}
        text = table(bench.rows, last)
        photos = f"{len(dataset.photos)} photos of {dataset.name}"
        print(f"\n{text}\n\n{photos}, {time.perf_counter() - started:.0f} s")
        if given.write:
            write(bench.rows, text, photos)


if __name__ == "__main__":
    main()
