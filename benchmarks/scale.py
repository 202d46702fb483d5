"""What a million images cost, and how long a run on many machines takes when machines fail.

    python benchmarks/scale.py cost [DATA]          # measures this machine for some seconds
    python benchmarks/scale.py run --images 1e8     # simulates 64 workers

`cost` extracts a sample (VOC photos, or drawn scenes without DATA) and prints CPU hours and disk
for each setting, GPU hours from published throughput beside them. `run` draws failures at published
rates and prints the time to finish and the work that is lost, for extraction, whose ranks keep
every whole shard, and for training in step, which goes back to its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, quantiles

from rich.console import Console
from rich.table import Table

from frostbox import backbones
from frostbox.data.sample import write_sample
from frostbox.data.voc import load
from frostbox.features.engine import create_engine
from frostbox.features.extract import cache_nbytes, extract, images_per_shard
from frostbox.units import seconds_text, size_text

HOUR, DAY = 3600.0, 86400.0
STRIDES = (8, 16, 32)
SETTINGS = (
    ("efficientnet_lite0", 224, 1, "float16"),
    ("efficientnet_lite0", 320, 1, "float16"),
    ("efficientnet_lite0", 320, 1, "int8"),
    ("efficientnet_lite0", 320, 2, "float16"),
    ("efficientnet_lite2", 384, 1, "float16"),
)
"""Backbone, size, views, how features are stored."""
# Images a second of the bare network on an RTX 4090, mixed precision, channels-last, batches of
# 512, and at which size: timm's results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv.
PUBLISHED = {"efficientnet_lite0": (11509.6, 224)}
RATES = {
    "none": 0.0,
    "RSC-2 of Meta": 2.34,
    "Llama 3 405B": 419 / (16384 / 8 * 54) * 1000,
    "RSC-1 of Meta": 6.50,
    "preemptible": 150.0,
}
"""Failures in 1000 node-days: RSC-1 and RSC-2: Kokolis et al., arXiv:2410.21680; Llama 3:
arXiv:2407.21783, table 5, 419 unexpected interruptions of 16384 GPUs, 8 a node, in 54 days;
preemptible: the upper end of the 5 to 15 % a day that Google's documentation of preemptible
machines gives for its cloud."""
SETS = {"COCO": 118_287, "Objects365": 1_742_289, "OpenImages": 1_743_042, "100 million": 10**8}
"""Images to train on: COCO 2017; Objects365 v2; those of Open Images V7 with boxes."""


@dataclass(frozen=True)
class Outcome:
    """Of one simulated run: seconds until it is done; worker-seconds of work done twice."""

    seconds: float
    lost: float
    failures: int


def extraction(
    draw: random.Random, workers: int, shards: int, shard: float, rate: float, restart: float
) -> Outcome:
    """Ranks extract their own shards; when one fails, all start again and skip whole shards.

    Args:
        shards: in all, dealt to the ranks in turn. shard: seconds for one.
        rate: failures of a worker a second. restart: seconds until all work again.
    """
    ahead = [len(range(rank, shards, workers)) for rank in range(workers)]
    seconds = lost = 0.0
    failures = 0
    while (left := max(ahead)) > 0:
        uptime = draw.expovariate(workers * rate) if rate else float("inf")
        if uptime >= left * shard:
            seconds += left * shard
            break
        whole = int(uptime / shard)
        working = [rest for rest in ahead if rest > whole]  # the others wait at the barrier
        lost += len(working) * (uptime - whole * shard)
        ahead = [max(0, rest - whole) for rest in ahead]
        seconds += uptime + restart
        failures += 1
    return Outcome(seconds, lost, failures)


def training(
    draw: random.Random, workers: int, parts: int, part: float, rate: float, restart: float
) -> Outcome:
    """All ranks in step; a failure throws all back to the last checkpoint.

    Args:
        parts: from one checkpoint to the next. part: seconds of one, with its checkpoint.
    """
    seconds = lost = 0.0
    failures = 0
    while parts > 0:
        uptime = draw.expovariate(workers * rate) if rate else float("inf")
        done = min(parts, int(min(uptime / part, parts)))
        parts -= done
        if parts == 0:
            seconds += done * part
            break
        lost += workers * (uptime - done * part)
        seconds += uptime + restart
        failures += 1
    return Outcome(seconds, lost, failures)


def simulated(run: Callable[[random.Random], Outcome], seed: int, runs: int) -> list[Outcome]:
    """So many runs, each with failures of its own."""
    return [run(random.Random(f"{seed} {number}")) for number in range(runs)]


def print_runs(
    title: str, run: Callable[[random.Random, float], Outcome], workers: int, seed: int, runs: int
) -> None:
    """A row for each rate of failures."""
    table = Table(title=title)
    columns = (
        "failures as of", "in 1000 node-days", "in a run", "hours", "95 % of runs within",
        "slower by", "work lost",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    ideal = 0.0
    for name, rate in RATES.items():
        outcomes = simulated(lambda draw, r=rate: run(draw, r / 1000 / DAY), seed, runs)
        took = [outcome.seconds for outcome in outcomes]
        mean = fmean(took)
        ideal = ideal or mean
        lost = fmean(outcome.lost for outcome in outcomes) / (workers * ideal)
        late = quantiles(took, n=20)[-1] if runs > 1 else took[0]
        table.add_row(
            name, f"{rate:.1f}", f"{fmean(o.failures for o in outcomes):.1f}", f"{mean / HOUR:.2f}",
            f"{late / HOUR:.2f}", f"{100 * (mean / ideal - 1):.1f} %", f"{100 * lost:.2f} %",
        )  # fmt: skip
    Console(width=110).print(table)


def run(options: argparse.Namespace) -> None:
    """Simulate extraction, then training."""
    backbone = backbones.create(options.backbone, STRIDES, "random")
    size = (options.size, options.size)
    one = cache_nbytes(backbone, size=size, images=1, views=options.views)
    in_shard = images_per_shard(one)
    images, workers = int(options.images), options.workers
    shards = -(-images // in_shard)
    shard = in_shard * options.views / options.extract
    print(
        f"{images:,} images, {options.views} views of {options.backbone} at {options.size}: "
        f"{shards:,} shards of {in_shard} images, {shard:.1f} s each, {images * one / 1e12:.1f} TB"
    )
    print_runs(
        f"extraction on {workers} workers, {options.extract:g} views/s each",
        lambda draw, rate: extraction(draw, workers, shards, shard, rate, options.restart),
        workers, options.seed, options.runs,
    )  # fmt: skip
    learning = options.passes * images / (workers * options.train)
    parts = max(1, -(-learning // (60 * options.keep_minutes)))
    part = learning / parts + options.checkpoint
    print_runs(
        f"training on {workers} workers, {options.train:g} images/s each: {options.passes} passes, "
        f"kept every {part / 60:.0f} minutes",
        lambda draw, rate: training(draw, workers, int(parts), part, rate, options.restart),
        workers, options.seed, options.runs,
    )  # fmt: skip


def cost(options: argparse.Namespace) -> None:
    """CPU and GPU hours and disk for a million images, and for data sets that people know."""
    table = Table(title=f"a million images; CPU hours of {os.cpu_count()} cores, measured here")
    columns = ("setting", "views/s", "CPU hours", "core hours", "GPU hours", "disk")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    sets = Table(title="disk, and the time of one machine like this one")
    for name in ("setting", *SETS):
        sets.add_column(name, justify="left" if name == "setting" else "right")
    with tempfile.TemporaryDirectory() as folder:
        root = options.data or write_sample(Path(folder) / "scenes", train=options.photos, val=0)
        dataset = load(root, "train", None)
        dataset = dataset.subset(dataset.photos[: options.photos])
        for k, (name, side, views, dtype) in enumerate(SETTINGS):
            backbone = backbones.create(name, STRIDES)
            size = (side, side)
            engine = create_engine("auto", backbone, size, precision="auto")
            started = time.perf_counter()
            out = Path(folder) / str(k)
            extract(dataset, backbone, out, size=size, views=views, dtype=dtype, engine=engine)
            seconds = time.perf_counter() - started
            million = seconds / len(dataset.photos) * 1e6
            nbytes = cache_nbytes(backbone, size=size, images=10**6, views=views, dtype=dtype)
            gpu = "-"
            if name in PUBLISHED:
                speed, at = PUBLISHED[name]
                gpu = f"{views * 1e6 / (speed * at**2 / side**2) / HOUR:.3f}"
            what = f"{name}, {side}, {views} view{'s' * (views > 1)}, {dtype}"
            table.add_row(
                what, f"{views * len(dataset.photos) / seconds:.0f}", f"{million / HOUR:.1f}",
                f"{million / HOUR * (os.cpu_count() or 1):.1f}", gpu, f"{nbytes / 1e9:.0f} GB",
            )  # fmt: skip
            shares = [count / 1e6 for count in SETS.values()]
            sets.add_row(
                what,
                *(f"{size_text(int(nbytes * s))}, {seconds_text(million * s)}" for s in shares),
            )
    Console(width=160).print(table, sets)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("cost")
    one.add_argument("data", nargs="?")
    one.add_argument("--photos", type=int, default=300)
    one.set_defaults(work=cost)
    many = commands.add_parser("run")
    many.add_argument("--images", type=float, default=1e8)
    many.add_argument("--workers", type=int, default=64)
    many.add_argument("--backbone", default="efficientnet_lite0")
    many.add_argument("--size", type=int, default=320)
    many.add_argument("--views", type=int, default=1)
    many.add_argument("--extract", type=float, default=118.0, help="views a second of a worker")
    many.add_argument("--train", type=float, default=150.0, help="images a second of a worker")
    many.add_argument("--passes", type=int, default=4, help="over all images")
    many.add_argument("--keep-minutes", type=float, default=5.0, help="as in train")
    many.add_argument("--checkpoint", type=float, default=5.0, help="seconds to write one")
    many.add_argument("--restart", type=float, default=300.0, help="seconds until all work again")
    many.add_argument("--runs", type=int, default=200)
    many.add_argument("--seed", type=int, default=0)
    many.set_defaults(work=run)
    options = parser.parse_args(arguments)
    options.work(options)


if __name__ == "__main__":
    main()
