"""A made-up evaluation, with names that would like to be markup."""

from __future__ import annotations

from pathlib import Path

from frostbox.data.voc import read_voc
from frostbox.report.contract import EvaluationReport, FoundBox, TruthBox
from frostbox.report.gallery import Example, gallery

EVIL = "<script>window.pwned=1</script>"
EVIL_FILE = '"><img src=x onerror="window.pwned=2"> \'quoted\' </script><!--'
KINDS = ("hit", "classification", "localisation", "both", "duplicate", "background")


def examples(root: Path) -> list[Example]:
    """One image for each kind of detection, of score 0.9, on the first object; then a miss."""
    images = read_voc(root, "train").photos
    found: list[Example] = []
    for k, (kind, image) in enumerate(zip((*KINDS, None), images, strict=False)):
        first = image.objects[0]
        name = EVIL if kind == "hit" else first.name
        truth: list[TruthBox] = [
            {
                "box": list(first.box),
                "name": name,
                "difficult": False,
                "state": "found" if kind in ("hit", "duplicate") else "missed",
            }
        ]
        detections: list[FoundBox] = []
        if kind is not None:
            detections.append(
                {"box": list(first.box), "name": name, "score": 0.9 - 0.1 * k, "kind": kind}
            )
        if kind == "duplicate":
            detections.append({"box": list(first.box), "name": name, "score": 0.95, "kind": "hit"})
        image_id = EVIL_FILE if kind == "hit" else image.image_id
        found.append(Example(image_id, image.photo, image.width, image.height, truth, detections))
    return found


def evaluation_report(root: Path) -> EvaluationReport:
    """All parts of the page are filled."""
    names = (EVIL, "dog", "cat", "bird")
    return {
        "title": f"A detector on {EVIL}",
        "rule": "AP at IoU 0.5, all-point; difficult objects ignored",
        "intervals": "95 % bootstrap over images",
        "score": 0.25,
        "facts": {"model": [("Head", EVIL)], "data": [("Images", "7")]},
        "headline": [
            {"name": "AP50 (all-point)", "value": 0.654, "low": 0.61, "high": 0.7, "rule": "VOC"},
            {"name": "COCO AP", "value": None, "low": None, "high": None, "rule": "COCO"},
        ],
        "classes": [
            {
                "name": name,
                "ap50": ap,
                "ap50_11point": ap,
                "low": None if ap is None else ap - 0.05,
                "high": None if ap is None else ap + 0.05,
                "ground_truth": 10 * k,
                "difficult": k,
                "hits": k,
                "false_positives": 2 * k,
                "misses": k,
                "best_f1": ap,
                "threshold": ap,
                "curve": {"recall": [0.0, 0.5, 0.8], "precision": [1.0, 0.9, 0.4]},
            }
            for k, (name, ap) in enumerate(zip(names, (0.5, 0.9, None, 0.7), strict=True))
        ],
        "confusion": {
            "names": [*names, "background"],
            "counts": [[5 if i == j else i for j in range(5)] for i in range(5)],
            "iou": 0.5,
            "score": 0.25,
        },
        "errors": [
            {"kind": "classification", "count": 4, "ap_cost": 0.03},
            {"kind": "missed", "count": 8, "ap_cost": None},
        ],
        "calibration": {
            "ece": 0.08,
            "temperature": 1.5,
            "ece_scaled": 0.02,
            "bins": [
                {"score": 0.2, "precision": 0.1, "count": 30},
                {"score": 0.8, "precision": 0.9, "count": 10},
            ],
        },
        "scores": {"edges": [0, 0.5, 1], "hits": [1, 20], "false_positives": [900, 3]},
        "by_size": [{"name": "small", "ap50": 0.2, "ground_truth": 9}],
        "by_count": [{"name": "1", "ap50": None, "images": 0}],
        "training": {
            "columns": ["epoch", "train_loss", "val_loss", "val_accuracy"],
            "rows": [[0, 4.0, 4.2, None], [1, 3.0, 3.5, 0.4], [2, 2.5, 3.4, 0.5]],
        },
        "gallery": gallery(examples(root)),
    }
