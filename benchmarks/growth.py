"""Whether time and memory stay flat as a data set grows: 500, 5 000 and 50 000 photos.

    make bench-growth                              # or with DATA=$VOCDEVKIT/VOC2007
    python benchmarks/growth.py [DATA] [--counts 500 5000 50000] [--write]

Photos are repeated through links, so that only their number grows. Each count is extracted and
trained from in a process of its own, which reports its rates and the most anonymous memory that it
held (RssAnon: mapped files come and go and do not count). Where the system lets us (Linux, root),
that process lives under a limit of 2 GB for all its memory, mapped pages too. The largest cache
takes 7 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from frostbox import backbones
from frostbox.data.sample import write_sample
from frostbox.data.voc import load
from frostbox.data.voc_layout import find_voc
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import create_engine
from frostbox.features.extract import extract
from frostbox.heads import create_head
from frostbox.learning import feature_spec
from frostbox.settings import TrainSettings
from frostbox.training import CachedViews, fit
from turns import watched_memory, write_part

SIZE, STRIDES, STEPS = (224, 224), (8, 16, 32), 60
LIMIT = 2_000_000_000  # bytes of memory
BEGIN, END = "<!-- make bench-growth begins -->", "<!-- make bench-growth ends -->"


def repeated(source: Path, folder: Path, count: int) -> Path:
    """A VOC folder with so many photos, links to those of another."""
    ids = [image.image_id for image in load(source, "train", None).photos]
    year = folder / f"{count}" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / name).mkdir(parents=True)
    names = [f"{k:06d}" for k in range(count)]
    for k, name in enumerate(names):
        for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
            os.symlink(
                source / part / f"{ids[k % len(ids)]}.{suffix}", year / part / f"{name}.{suffix}"
            )
    (year / "ImageSets/Main/train.txt").write_text("\n".join(names) + "\n")
    return year


@contextmanager
def limited(nbytes: int) -> Iterator[Path | None]:
    """The file that a process writes its number into to get no more memory than so much.

    None where memory groups of the system cannot be made.
    """
    groups = Path("/sys/fs/cgroup")
    old = groups / "memory"
    parent, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (groups, "memory.max")
    group = parent / f"frostbox-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(nbytes))
    except OSError as error:
        print(f"no limit of memory here: {error}", flush=True)
        if group.is_dir():
            group.rmdir()
        yield None
        return
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def child(year: Path, cache: Path) -> None:
    """Extract and train; prints one line of JSON."""
    found: dict[str, Any] = {}
    backbone = backbones.create("efficientnet_lite0", STRIDES)
    started = time.perf_counter()
    dataset = load(year, "train", None)
    found["reading"] = time.perf_counter() - started
    engine = create_engine("auto", backbone, SIZE, precision="auto")
    with watched_memory() as seen:
        started = time.perf_counter()
        features = extract(dataset, backbone, cache, size=SIZE, engine=engine)
        found["extraction"] = len(dataset.photos) / (time.perf_counter() - started)
    found["extraction_memory"] = max(seen)
    started = time.perf_counter()
    features = FeatureCache.open(cache)
    found["opening"] = time.perf_counter() - started
    found["disk"] = features.nbytes / 1e9
    with watched_memory() as seen:
        torch.manual_seed(0)
        head = create_head("pyramid", feature_spec(backbone, SIZE), len(dataset.classes))
        started = time.perf_counter()
        samples = CachedViews(features, dataset, head)
        found["targets"] = time.perf_counter() - started
        # As many steps for every count, in parts of one epoch or in several.
        part = min(32 * STEPS, len(samples) // 32 * 32)
        settings = replace(
            TrainSettings.create({}).fit, epochs=max(1, round(32 * STEPS / part)), batch_size=32,
            epoch_images=part,
        )  # fmt: skip
        run = cache.parent / "run"
        run.mkdir()
        started = time.perf_counter()
        fit(head, samples, None, settings, run)
        seconds = time.perf_counter() - started
        found["training"] = settings.epochs * part / seconds
    found["training_memory"] = max(seen)
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="a VOC folder; without one, drawn scenes")
    parser.add_argument("--counts", type=int, nargs="*", default=[500, 5000, 50000])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        if os.environ["GROUP"]:
            Path(os.environ["GROUP"]).write_text(str(os.getpid()))
        child(*given.child)
        return
    rows = [
        "| photos | read, s | extract, photos/s | anonymous memory, MB | open, s | targets, s |"
        " train, images/s | anonymous memory, MB | disk, GB | limit of memory, GB |",
        "| --- " * 10 + "|",
    ]
    print("\n".join(rows), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if given.data:
            source = find_voc(given.data).absolute()
        else:
            source = write_sample(root / "scenes", train=500, val=0)
        for count in given.counts:
            year = repeated(source, root, count)
            with tempfile.TemporaryDirectory(dir=root) as folder:
                command = [sys.executable, __file__, "--child", str(year), f"{folder}/cache"]
                with limited(LIMIT) as group:
                    known = {**os.environ, "GROUP": str(group or "")}
                    done = subprocess.run(
                        command, stdout=subprocess.PIPE, text=True, check=True, env=known
                    )
                    under = f"{LIMIT / 1e9:g}" if group else "none"
            f = json.loads(done.stdout.splitlines()[-1])
            rows.append(
                f"| {count} | {f['reading']:.1f} | {f['extraction']:.0f} |"
                f" {f['extraction_memory']:.0f} | {f['opening']:.2f} | {f['targets']:.1f} |"
                f" {f['training']:.0f} | {f['training_memory']:.0f} | {f['disk']:.1f} | {under} |"
            )
            print(rows[-1], flush=True)
    if given.write:
        write_part(BEGIN, END, "\n".join(rows))


if __name__ == "__main__":
    main()
