"""Seconds of the metrics on as many boxes as VOC2007 test with 100 detections an image.

    python benchmarks/metrics.py [--images 4952] [--per-image 100] [--skip-others]

The same boxes go through pycocotools and torchmetrics' MeanAveragePrecision in the same run, one
thread each, and the ratio is printed beside them. Boxes are synthetic: objects as frequent as in
VOC, eight jittered detections about each, 30 % of them of another class, the rest anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

# One core for everybody: before numpy, torch and hotcoco start their threads.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

from frostbox.metrics import calibration, coco, errors, intervals, voc  # noqa: E402

CLASSES = 20
SIDE = 500


def scene(images: int, per_image: int, seed: int = 0) -> tuple[voc.Boxes, voc.Boxes]:
    """(detections, ground truth); without difficult objects, which only our rule knows."""
    rng = np.random.default_rng(seed)

    def anywhere(count: int) -> np.ndarray:
        size = rng.uniform(20, 300, (count, 2))
        corner = rng.uniform(0, 1, (count, 2)) * (SIDE - size)
        return np.concatenate([corner, corner + size], axis=1)

    objects = rng.poisson(2.5, images)
    image = np.repeat(np.arange(images), objects)
    box, label = anywhere(len(image)), rng.integers(0, CLASSES, len(image))
    near = np.repeat(np.arange(len(image)), 8)
    moved = box[near] + rng.normal(0, 0.12, (len(near), 4)) * np.tile(
        box[near][:, 2:] - box[near][:, :2], (1, 2)
    )
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    right = rng.random(len(near)) < 0.7
    rest = np.repeat(
        np.arange(images),
        np.maximum(0, per_image - np.bincount(image[near], minlength=images)),
    )
    where = np.concatenate([image[near], rest])
    order = np.argsort(where, kind="stable")
    near_label = np.where(right, label[near], rng.integers(0, CLASSES, len(near)))
    detections = voc.Boxes(
        image=where[order],
        box=np.concatenate([moved, anywhere(len(rest))])[order],
        label=np.concatenate([near_label, rng.integers(0, CLASSES, len(rest))])[order],
        score=np.concatenate([rng.beta(2, 3, len(near)), rng.beta(1, 8, len(rest))])[order],
        difficult=np.zeros(len(where), bool),
    )
    truth = voc.Boxes(image, box, label, np.ones(len(image)), np.zeros(len(image), bool))
    return detections, truth


def timed(run: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """(best of `repeats` in seconds, the result)."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


def xywh(box: np.ndarray) -> np.ndarray:
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)


def pycocotools_ap(detections: voc.Boxes, truth: voc.Boxes, images: int) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = {
            "info": {},
            "images": [{"id": i + 1, "width": SIDE, "height": SIDE} for i in range(images)],
            "categories": [{"id": k + 1, "name": str(k)} for k in range(CLASSES)],
            "annotations": [
                {
                    "id": n + 1,
                    "image_id": image + 1,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for n, (image, label, box) in enumerate(
                    zip(
                        truth.image.tolist(),
                        truth.label.tolist(),
                        xywh(truth.box).tolist(),
                        strict=True,
                    )
                )
            ],
        }
        ground_truth.createIndex()
        rows = np.column_stack(
            [detections.image + 1, xywh(detections.box), detections.score, detections.label + 1]
        )
        evaluator = COCOeval(ground_truth, ground_truth.loadRes(rows), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])


def torchmetrics_ap(detections: voc.Boxes, truth: voc.Boxes, images: int) -> float:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    torch.set_num_threads(1)

    def per_image(boxes: voc.Boxes, scored: bool) -> list[dict[str, torch.Tensor]]:
        ends = np.searchsorted(boxes.image, np.arange(images + 1))
        parts = []
        for start, end in itertools.pairwise(ends):
            part = {
                "boxes": torch.from_numpy(boxes.box[start:end]),
                "labels": torch.from_numpy(boxes.label[start:end]),
            }
            if scored:
                part["scores"] = torch.from_numpy(boxes.score[start:end])
            parts.append(part)
        return parts

    metric = MeanAveragePrecision()
    metric.warn_on_many_detections = False
    metric.update(per_image(detections, True), per_image(truth, False))
    return float(metric.compute()["map"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4952)
    parser.add_argument("--per-image", type=int, default=100)
    parser.add_argument("--skip-others", action="store_true", help="only frostbox")
    options = parser.parse_args()
    images = options.images
    detections, truth = scene(images, options.per_image)
    print(f"{images} images, {len(detections.image)} detections, {len(truth.image)} objects")
    names = tuple(str(k) for k in range(CLASSES))
    sizes = [(SIDE, SIDE)] * images

    def evaluation() -> coco.Evaluation:
        return coco.Evaluation(detections, truth, sizes, names)

    assigned = voc.assign(detections, truth, CLASSES)
    score, hit = calibration.outcomes(detections, assigned)
    parts: list[tuple[str, Callable[[], Any], int]] = [
        ("VOC AP50, both rules, best F1", lambda: voc.evaluate(detections, truth, CLASSES), 3),
        ("COCO AP, AR, by size", lambda: evaluation().summary, 3),
        ("account of errors at 0.3", lambda: errors.account(detections, truth, CLASSES, 0.3), 3),
        ("errors and their cost", lambda: errors.costs(detections, truth, CLASSES), 3),
        ("confusion matrix", lambda: evaluation().confusion(0.3), 3),
        ("label errors", lambda: evaluation().label_errors(0.5), 3),
        ("temperature, ECE", lambda: calibration.fit_temperature(score, hit), 3),
        (
            "bootstrap 1000, VOC AP50, both rules",
            lambda: intervals.bootstrap(detections, truth, CLASSES, images),
            1,
        ),
    ]
    seconds = {}
    results = {}
    for name, run, repeats in parts:
        seconds[name], results[name] = timed(run, repeats)
        print(f"  {name:40s} {seconds[name]:7.2f} s")
    print(f"  {'whole suite':40s} {sum(seconds.values()):7.2f} s")
    taken, _ = timed(
        lambda: intervals.bootstrap(detections, truth, CLASSES, images, rules=("coco_ap",)), 1
    )
    print(f"  {'bootstrap 1000, COCO AP, besides':40s} {taken:7.2f} s")
    if options.skip_others:
        return
    ours = seconds["COCO AP, AR, by size"]
    at_half = seconds["VOC AP50, both rules, best F1"]
    ap = results["COCO AP, AR, by size"].ap
    print(f"COCO AP: frostbox {ap:.6f} in {ours:.2f} s")
    for name, other in (("pycocotools", pycocotools_ap), ("torchmetrics", torchmetrics_ap)):
        taken, other_ap = timed(lambda other=other: other(detections, truth, images), 1)
        print(
            f"  {name:14s} {other_ap:.6f} in {taken:.1f} s: {taken / ours:.0f} times as long as "
            f"our COCO AP, {taken / at_half:.0f} times as long as our VOC AP"
        )


if __name__ == "__main__":
    main()
