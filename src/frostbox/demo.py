"""The demo: built-in pictures, frozen features, a trained head, unseen pictures, one table."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from frostbox import reporting
from frostbox.data.formats import load
from frostbox.data.sample import write_sample
from frostbox.detector import Detector
from frostbox.draw import contact_sheet, draw_boxes
from frostbox.pipeline import Trained, train_run
from frostbox.progress import Progress

DEMO_VERSION = 1  # of demo.json, which is never read back
# As many scenes as two cores draw in half a minute, and the time that the training may take.
TRAIN_SCENES = 960
BUDGET = 125.0
SHEET_IMAGES = 16
SHEET_COLUMNS = 4


def run_demo(
    out: Path, *, seed: int = 0, compare_random: bool = False, **options: Any
) -> dict[str, Any]:
    """Write everything into `out` and print the table.

    Args:
        compare_random: also train the same head on the same backbone with random weights.
        options: settings of the training in place of the demo's.

    Returns:
        What demo.json holds: seconds of each stage, AP50, and the paths.
    """
    console = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    started = time.perf_counter()
    progress = Progress(console)

    def report(done: int, total: int) -> None:
        if done <= 1:
            progress.start("drawing pictures", total, "images")
        progress.update(done)

    data = write_sample(out / "data", train=TRAIN_SCENES, seed=seed, progress=report)
    progress.stop()
    seconds["draw the data set"] = time.perf_counter() - started

    budget = None if "epochs" in options else BUDGET
    settings = {"seed": seed, "budget": budget, **options}
    trained = _train(data, out / "run", out / "cache", settings, console)
    for stage in ("read", "extract", "plan", "train", "thaw", "evaluate"):
        if stage in trained.summary["seconds"]:
            seconds[stage] = trained.summary["seconds"][stage]

    started = time.perf_counter()
    sheet = write_sheet(trained.detector, data, out / "detections.jpg")
    seconds["draw detections"] = time.perf_counter() - started

    columns = [("AP50", trained.summary["evaluation"])]
    if compare_random:
        console.print("the same head on the same backbone with random weights:")
        random = _train(
            data,
            out / "run-random",
            out / "cache",
            {**settings, "weights": f"random:{seed}"},
            console,
        )
        columns.append(("AP50, random weights", random.summary["evaluation"]))
    return _report(out, trained, seconds, columns, sheet)


def _train(
    data: Path, run: Path, cache: Path, settings: dict[str, Any], console: Console
) -> Trained:
    return train_run(data, out=run, cache=cache, overwrite=True, console=console, **settings)


def write_sheet(detector: Detector, data: Path, path: Path) -> Path:
    """A contact sheet of held-out pictures with detections, ground truth dashed beneath."""
    dataset = load(data, "val", detector.settings.classes)
    images = dataset.photos[:SHEET_IMAGES]
    # One name a place: class-wise suppression would write a doubtful object's names on each other.
    found = detector.predict(list(images), suppression="agnostic")
    pictures = []
    for image, detections in zip(images, found, strict=True):
        assert image.photo is not None
        picture = Image.open(image.photo).convert("RGB")
        truth = np.array([o.box for o in image.objects])
        picture = draw_boxes(
            picture, truth, [o.name for o in image.objects], dashed=True, chips=False
        )
        scores = [float(s) for s in detections.scores]
        pictures.append(draw_boxes(picture, detections.boxes, detections.names, scores))
    captions = [
        f"{i.image_id}: {len(d)} found, {len(i.objects)} there"
        for i, d in zip(images, found, strict=True)
    ]
    contact_sheet(
        pictures,
        captions,
        columns=SHEET_COLUMNS,
        cell=(480, 360),
        title="held-out pictures: detections solid, ground truth dashed",
    ).save(path, quality=90)
    return path


def _report(
    out: Path,
    trained: Trained,
    seconds: dict[str, float],
    columns: list[tuple[str, Any]],
    sheet: Path,
) -> dict[str, Any]:
    console = reporting.stdout()
    data = trained.summary["data"]
    stages = Table(title="frostbox demo")
    stages.add_column("stage")
    stages.add_column("images", justify="right")
    stages.add_column("seconds", justify="right")
    counts = {
        "draw the data set": data["train_images"] + data["val_images"],
        "read": data["train_images"] + data["val_images"],
        "extract": data["train_images"] + data["val_images"],
        "plan": 0,
        "train": data["train_images"],
        "thaw": data["train_images"],
        "evaluate": data["val_images"],
        "draw detections": SHEET_IMAGES,
    }
    for stage, value in seconds.items():
        stages.add_row(stage, str(counts[stage] or ""), f"{value:.1f}")
    stages.add_section()
    stages.add_row("all", "", f"{sum(seconds.values()):.1f}")
    console.print(stages)
    console.print(reporting.ap_table(columns, columns[0][1]["objects_per_class"]))
    console.print(reporting.RULE)
    console.print(f"held-out pictures with boxes: {sheet}")
    console.print(f"detector: {trained.run / 'best.safetensors'}")
    console.print(
        f"try it: frostbox predict {trained.run} {out / 'data' / 'JPEGImages'} "
        f"--out {out / 'predictions'}"
    )
    result = {
        "version": DEMO_VERSION,
        "images": {"train": data["train_images"], "val": data["val_images"]},
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "evaluation": dict(columns),
        "sheet": str(sheet),
        "detector": str(trained.run / "best.safetensors"),
    }
    (out / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
    return result
