"""What each choice of a training gives: the same short training with one thing changed at a time.

    python benchmarks/ablations.py $VOCDEVKIT/VOC2007 --share 0.25 --epochs 12 --seeds 2

Every row is trained on the same part of `train` and measured on the whole of `val`, from shared
caches; the first row is the baseline, and the last column says what a row gains over it, seed by
seed. `--group labels` varies how many labelled images there are instead, with as many epochs or,
with `--same-steps`, as many steps; `--group nms` only how boxes are selected from the baseline's
predictions, `--group engines` what runs the baseline when it predicts; `--group caches` varies how
features are stored and read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from frostbox import evaluation
from frostbox.data.voc import load
from frostbox.data.voc_layout import find_voc
from frostbox.detector import Detector
from frostbox.features.cache import FeatureCache
from frostbox.features.store import list_caches
from frostbox.pipeline import train_run

LOSSES: dict[str, dict[str, Any]] = {
    "baseline: quality focal, GIoU, 2 views": {},
    "class loss: cross-entropy": {"class_loss": "ce"},
    "class loss: focal, gamma 2": {"class_loss": "focal"},
    "class loss: varifocal": {"class_loss": "varifocal"},
    "box loss: smooth L1": {"box_loss": "smooth_l1", "box_weight": 50.0},
    "box loss: CIoU": {"box_loss": "ciou"},
    "box loss: DIoU": {"box_loss": "diou"},
    "distribution focal loss, 16 bins": {"bins": 16},
    "without stride 8": {"strides": (16, 32)},
    "with stride 64": {"strides": (8, 16, 32, 64)},
    "finest level as wide as the others": {"fine_width": 96},
    "finest level 32 wide": {"fine_width": 32},
    "dropout of features 0.1": {"dropout": 0.1},
    "batches of 16": {"batch_size": 16, "lr": 3e-3},
    "without averaged weights": {"ema": 0.0},
}
# Else they would follow the number of images.
PINNED: dict[str, Any] = {
    "backbone": "efficientnet_lite0", "size": (320, 320), "views": 2, "thaw": "none",
    "batch_size": 32, "lr": 4e-3,
}  # fmt: skip
CACHES: dict[str, dict[str, Any]] = {
    "baseline: features in float16, images in any order": {},
    "features in int8": {"features": "int8"},
    "shuffled within 1024 images": {"shuffle_window": 1024},
    "shuffled within 256 images": {"shuffle_window": 256},
}
ENGINES = (("torch", "32"), ("compile", "32"), ("openvino", "32"), ("openvino", "bf16"))
SHARES = (0.1, 0.25, 0.5, 1.0)
SELECTIONS: dict[str, dict[str, Any]] = {
    "NMS at IoU 0.5 (default)": {},
    **{f"NMS at IoU {iou}": {"nms": iou} for iou in (0.3, 0.4, 0.6, 0.7)},
    "agnostic NMS": {"suppression": "agnostic"},
    "soft-NMS, linear": {"suppression": "soft-linear"},
    "soft-NMS, gaussian": {"suppression": "soft-gaussian"},
    "weighted box fusion": {"suppression": "wbf"},
    "no suppression": {"nms": None},
    "flip": {"flip": True},
    "flip and NMS at IoU 0.6": {"flip": True, "nms": 0.6},
    "flip and weighted box fusion": {"flip": True, "suppression": "wbf"},
}


def part_of(year: Path, folder: Path, share: float) -> Path:
    """A VOC folder with the first `share` of train, the whole of val, and links to the files."""
    part = folder / f"{share:g}" / year.name
    lists = part / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for name in ("Annotations", "JPEGImages"):
        if not (part / name).exists():
            os.symlink(year / name, part / name)
    ids = (year / "ImageSets/Main/train.txt").read_text().split()
    step = 1 / share
    kept = [ids[int(k * step)] for k in range(round(len(ids) * share))]
    (lists / "train.txt").write_text("\n".join(kept) + "\n")
    (lists / "val.txt").write_text((year / "ImageSets/Main/val.txt").read_text())
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument(
        "--group", choices=("losses", "labels", "caches", "nms", "engines"), default="losses"
    )
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="kept, and reused by the next run")
    parser.add_argument("--same-steps", action="store_true")
    parser.add_argument("--only", nargs="*", help="rows whose name holds one of these words")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bench = Bench(find_voc(given.data), folder, given.cache or folder / "cache", given.epochs)
        if given.group == "nms":
            print_selections(bench.train({}, given.share, 0), given.data, bench.cache)
            return
        if given.group == "engines":
            print_engines(bench.train({}, given.share, 0), given.data)
            return
        if given.group == "labels":
            rows = {}
            for share in SHARES:
                epochs = round(given.epochs / share) if given.same_steps else given.epochs
                rows[f"{share:.0%} of the images, {epochs} epochs"] = ({"epochs": epochs}, share)
        else:
            rows = {
                name: (options, given.share)
                for name, options in (CACHES if given.group == "caches" else LOSSES).items()
                if not options or not given.only or any(word in name for word in given.only)
            }
        bench.print_rows(rows, given.seeds)


class Bench:
    """Trains each row, with features extracted once."""

    def __init__(self, year: Path, folder: Path, cache: Path, epochs: int) -> None:
        self.year, self.folder, self.cache, self.epochs = year, folder, cache, epochs
        self.number = 0

    def train(self, options: dict[str, Any], share: float, seed: int) -> Any:
        self.number += 1
        return train_run(
            part_of(self.year, self.folder, share),
            out=self.folder / f"run{self.number}",
            cache=self.cache,
            console=Console(quiet=True),
            **{**PINNED, "epochs": self.epochs, "seed": seed, **options},
        )

    def print_rows(self, rows: dict[str, tuple[dict[str, Any], float]], seeds: int) -> None:
        """The table, a line as soon as it is known."""
        baseline: list[float] = []
        for name, (options, share) in rows.items():
            trained = [self.train(options, share, seed) for seed in range(seeds)]
            measured = [t.summary["evaluation"] for t in trained]
            found = [100 * m["ap50"] for m in measured]
            eleven = mean(100 * m["ap50_11point"] for m in measured)
            baseline = baseline or found
            gains = [a - b for a, b in zip(found, baseline, strict=True)]
            spread = f" +- {stdev(found):.1f}" if len(found) > 1 else ""
            seconds = mean(t.summary["seconds"]["train"] for t in trained)
            each = ", ".join(f"{gain:+.1f}" for gain in gains)
            print(
                f"| {name} | {mean(found):.1f}{spread} ({eleven:.1f}) | {each} | {seconds:.0f} s |",
                flush=True,
            )


def print_selections(trained: Any, data: str, root: Path) -> None:
    """AP50 of one detector by what happens to overlapping boxes; only flips need the photos."""
    caches = [FeatureCache.open(e["path"]) for e in list_caches(root) if "/val-" in e["name"]]
    cache = next(c for c in caches if c.strides == trained.detector.backbone.strides)
    dataset = load(data, "val", trained.detector.settings.classes)
    for name, options in SELECTIONS.items():
        detector = Detector.load(trained.run).configured(**options)
        if options.get("flip"):
            predictions = evaluation.predict_photos(detector, dataset)
        else:
            predictions = evaluation.predict_cache(detector, cache, dataset)
        figures = evaluation.score(predictions, dataset)
        print(
            f"| {name} | {100 * figures['ap50']:.1f} ({100 * figures['ap50_11point']:.1f}) |",
            flush=True,
        )


def print_engines(trained: Any, data: str) -> None:
    """AP50 of one detector by what executes it, on the features of whose engine it was trained."""
    dataset = load(data, "val", trained.detector.settings.classes)
    for kind, precision in ENGINES:
        detector = Detector.load(trained.run).prepare(kind, precision=precision, latency=False)
        figures = evaluation.score(evaluation.predict_photos(detector, dataset), dataset)
        print(
            f"| {kind}, {precision} | {100 * figures['ap50']:.2f} "
            f"({100 * figures['ap50_11point']:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
