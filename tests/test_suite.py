"""All figures of an evaluation, on scenes that can be worked out by hand and on random ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from frostbox.data.annotations import ObjectAnnotation
from frostbox.evaluation import (
    CALIBRATION_FLOOR,
    calibration_outcomes,
    detection_arrays,
    fitted_selection,
    score,
    truth_arrays,
)
from frostbox.metrics import voc
from frostbox.selection import Selection
from frostbox.suite import compare, measure, operating_point
from tests.scored import dataset, predictions, random_pair

KINDS = {"classification", "localisation", "both", "duplicate", "background", "missed"}
SMALL, MEDIUM, LARGE = (5, 5, 25, 25), (50, 5, 100, 55), (90, 90, 190, 190)


@pytest.fixture(scope="module")
def pair():
    return random_pair()


def fractions(value: Any) -> Iterator[float]:
    """All numbers of nested dictionaries and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from fractions(one)
    elif value is not None:
        yield value


def test_the_keys_of_the_issue_lie_between_0_and_1(pair):
    data, good, _ = pair
    figures = measure(good, data, bootstrap=40).figures
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for key in ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75", "ece"):
        assert 0 < figures[key] < 1
    assert set(figures["ap50_per_class"]) == {"a", "b"}
    intervals = figures["intervals"]
    assert (intervals["confidence"], intervals["resamples"]) == (0.95, 40)
    for rule in ("ap50", "ap50_11point", "coco_ap"):
        low, high = intervals[rule]
        assert 0 <= low < figures[rule] < high <= 1
        assert set(intervals[f"{rule}_per_class"]) == {"a", "b"}
    assert set(figures["errors"]) == KINDS
    for one in figures["errors"].values():
        assert one["count"] >= 0
        assert -1 <= one["ap_cost"] <= 1
    assert sum(e["ap_cost"] for e in figures["errors"].values()) > 0.1
    for part in ("coco", "ap50_per_class", "ap50_11point_per_class", "best_f1_per_class"):
        assert all(0 <= v <= 1 for v in fractions(figures[part]))
    # The sizes part the objects: none is counted twice, none is lost.
    by_size = [s["objects"] for s in figures["ap50_by_size"].values()]
    assert sum(by_size) == sum(figures["objects_per_class"].values()) > 0
    assert sum(b["count"] for b in figures["calibration"]["bins"]) == int(
        (detection_arrays(good).score >= CALIBRATION_FLOOR).sum()
    )


def test_the_same_seed_gives_the_same_intervals(pair):
    data, good, _ = pair
    one, same, other = (
        measure(good, data, bootstrap=30, seed=s).figures["intervals"] for s in (1, 1, 2)
    )
    assert one == same != other
    assert measure(good, data, bootstrap=0).figures["intervals"] is None


def test_a_class_without_ground_truth_is_null_and_not_in_the_mean():
    data = dataset({"1": [("a", LARGE)]}, classes=("a", "b", "c"))
    found = predictions(data, {"1": [("a", LARGE, 0.9), ("b", SMALL, 0.8)]})
    figures = measure(found, data, bootstrap=10).figures
    for key in ("ap50", "ap50_11point", "coco_ap"):
        assert figures[key] == pytest.approx(1)
    assert figures["ap50_per_class"] == {"a": 1, "b": None, "c": None}
    assert figures["ap50_11point_per_class"] == {"a": 1, "b": None, "c": None}
    assert figures["best_f1_per_class"]["b"] is None
    assert figures["intervals"]["ap50_per_class"] == {"a": [1, 1], "b": [None] * 2, "c": [None] * 2}
    assert figures["ap50_by_size"]["small"] == {"ap50": None, "objects": 0}


def test_ap50_by_size_and_by_objects_worked_by_hand():
    # By score: L found; a false positive of medium size; M found; a small false positive; S found.
    data = dataset({"1": [("a", SMALL), ("a", MEDIUM), ("a", LARGE)], "2": [("a", LARGE)]}, "a")
    found = predictions(
        data,
        {
            "1": [
                ("a", LARGE, 0.9),
                ("a", (5, 100, 65, 160), 0.8),
                ("a", MEDIUM, 0.7),
                ("a", (150, 5, 160, 15), 0.65),
                ("a", SMALL, 0.6),
            ]
        },
    )
    figures = measure(found, data, bootstrap=0).figures
    # All of them, 4 objects: precision at the three hits 1, 2/3, 3/5.
    assert figures["ap50"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert figures["ap50_by_size"] == {
        # Hits of other sizes are ignored, a false positive of another size too: 1 of 2 is right.
        "small": {"ap50": pytest.approx(1 / 2), "objects": 1},
        "medium": {"ap50": pytest.approx(1 / 2), "objects": 1},
        # One of two found, nothing wrong.
        "large": {"ap50": pytest.approx(1 / 2), "objects": 2},
    }
    assert figures["ap50_by_objects"] == {
        "1 object": {"ap50": 0, "images": 1},
        "2 to 3": {"ap50": pytest.approx((1 + 2 / 3 + 3 / 5) / 3), "images": 1},
    }


def test_a_smaller_duplicate_on_a_large_object_is_of_no_size():
    # 90 x 90 = 8100 is medium; its IoU with the large object is 0.81.
    inner = (90, 90, 180, 180)
    data = dataset({"1": [("a", LARGE), ("a", MEDIUM)]}, "a")
    found = predictions(data, {"1": [("a", LARGE, 0.9), ("a", inner, 0.8), ("a", MEDIUM, 0.7)]})
    by_size = measure(found, data, bootstrap=0).figures["ap50_by_size"]
    assert by_size["medium"] == {"ap50": 1, "objects": 1}
    assert by_size["large"] == {"ap50": 1, "objects": 1}
    assert measure(found, data, bootstrap=0).figures["ap50"] == pytest.approx((1 + 2 / 3) / 2)


def test_difficult_objects_are_neither_hit_nor_miss():
    hard = ObjectAnnotation("a", LARGE, difficult=True)
    data = dataset({"1": [("a", MEDIUM), hard]}, "a")
    found = predictions(data, {"1": [("a", LARGE, 0.9), ("a", LARGE, 0.8), ("a", MEDIUM, 0.7)]})
    figures = measure(found, data, bootstrap=0).figures
    assert (figures["ap50"], figures["coco_ap"]) == (1, pytest.approx(1))
    assert figures["objects_per_class"] == {"a": 1}
    assert figures["ap50_by_size"]["large"] == {"ap50": None, "objects": 0}
    assert sum(e["count"] for e in figures["errors"].values()) == 0
    assert sum(b["count"] for b in figures["calibration"]["bins"]) == 1


@pytest.mark.parametrize("objects", [True, False], ids=["objects", "no objects"])
@pytest.mark.parametrize("detections", [True, False], ids=["detections", "no detections"])
def test_nothing_to_find_or_nothing_found_gives_nulls_and_zeros(objects, detections):
    data = dataset({"1": [("a", LARGE)] if objects else [], "2": []})
    found = predictions(data, {"2": [("b", SMALL, 0.9)]} if detections else {})
    measured = measure(found, data, bootstrap=10)
    figures = measured.figures
    json.dumps(figures, allow_nan=False)
    for key in ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75"):
        assert figures[key] == (0 if objects else None)
    assert figures["ap50_per_class"] == {"a": 0 if objects else None, "b": None}
    assert (figures["ece"] is not None) == detections
    assert figures["images"] == 2
    assert figures["errors"]["missed"]["count"] == int(objects)
    assert figures["errors"]["background"]["count"] == int(detections)
    assert (figures["errors"]["missed"]["ap_cost"] is None) == (not objects)
    assert 0 <= measured.threshold <= 1
    result = compare(found, found, data, bootstrap=10)
    assert result["ap50"]["mean"]["difference"] == (0 if objects else None)


def test_suspected_labels_name_image_class_and_what_the_file_says():
    data = dataset({"x": [("a", SMALL)], "y": [("a", LARGE)], "z": []})
    found = predictions(
        data,
        {
            "x": [("a", SMALL, 0.7)],
            "y": [("b", LARGE, 0.9), ("b", SMALL, 0.3)],
            "z": [("a", MEDIUM, 0.8)],
        },
    )
    suspects = measure(found, data, bootstrap=0).figures["suspected_labels"]
    assert suspects == [
        {
            "kind": "wrong_label", "image": "y", "box": [90, 90, 190, 190], "detected": "b",
            "score": 0.9, "annotated": "a",
        },
        {
            "kind": "missing_annotation", "image": "z", "box": [50, 5, 100, 55], "detected": "a",
            "score": 0.8, "annotated": None,
        },
    ]  # fmt: skip


def test_the_operating_point_is_the_best_f1_of_all_classes_together():
    data = dataset({"1": [("a", SMALL), ("b", LARGE), ("b", MEDIUM)]})
    found = predictions(
        data,
        {"1": [("a", SMALL, 0.9), ("b", LARGE, 0.6), ("a", MEDIUM, 0.5), ("a", LARGE, 0.4)]},
    )
    # F1 = 2 hits / (detections + 3): 2/4 at 0.9, 4/5 at 0.6, 4/6 at 0.5, 4/7 at 0.4.
    result = voc.evaluate(detection_arrays(found), truth_arrays(data.images, data), 2)
    assert operating_point(result) == pytest.approx(0.6)


def test_a_model_against_itself_is_even(pair):
    data, good, _ = pair
    result = compare(good, good, data, bootstrap=50)
    assert result["images"] == len(data.images)
    for rule in ("ap50", "ap50_11point", "coco_ap"):
        for one in (result[rule]["mean"], *result[rule]["per_class"].values()):
            assert one["a"] == one["b"] > 0
            assert (one["difference"], one["low"], one["high"]) == (0, 0, 0)
            assert one["probability"] == 0.5


def test_shuffled_scores_lose_and_the_order_of_the_two_matters(pair):
    data, good, spoiled = pair
    result = compare(good, spoiled, data, bootstrap=200)
    swapped = compare(spoiled, good, data, bootstrap=200)
    for rule in ("ap50", "ap50_11point", "coco_ap"):
        one, other = result[rule]["mean"], swapped[rule]["mean"]
        assert one["probability"] > 0.98
        assert one["difference"] > 0.05
        assert one["low"] < one["difference"] < one["high"]
        assert other["probability"] == pytest.approx(1 - one["probability"])
        assert other["difference"] == pytest.approx(-one["difference"])
        assert (other["low"], other["high"]) == pytest.approx((-one["high"], -one["low"]))
    alone = measure(good, data, bootstrap=0).figures["ap50"]
    assert result["ap50"]["mean"]["a"] == pytest.approx(alone)
    json.dumps(result, allow_nan=False)


def test_comparing_a_class_without_ground_truth_gives_nulls():
    data = dataset({"1": [("a", LARGE)], "2": [("a", SMALL)]})
    good = predictions(data, {"1": [("a", LARGE, 0.9)], "2": [("a", SMALL, 0.5)]})
    result = compare(good, predictions(data, {}), data, bootstrap=30)
    assert set(result["ap50"]["per_class"]["b"].values()) == {None}
    assert result["ap50"]["mean"]["probability"] == 1


# --- what evaluation.py gives the suite -----------------------------------------------------------


def test_arrays_keep_image_label_and_flags_and_survive_emptiness():
    hard = ObjectAnnotation("b", LARGE, difficult=True)
    data = dataset({"1": [], "2": [("a", SMALL), hard], "3": [("b", MEDIUM)]})
    truth = truth_arrays(data.images, data)
    assert truth.image.tolist() == [1, 1, 2]
    assert truth.label.tolist() == [0, 1, 1]
    assert truth.difficult.tolist() == [False, True, False]
    assert truth.box.tolist() == [list(SMALL), list(LARGE), list(MEDIUM)]
    found = predictions(data, {"3": [("b", SMALL, 0.25), ("a", LARGE, 0.75)]})
    detections = detection_arrays(found)
    assert detections.image.tolist() == [2, 2]
    assert detections.score.tolist() == [0.75, 0.25]
    assert detections.label.tolist() == [0, 1]
    for empty in (detection_arrays(predictions(data, {})), truth_arrays(data.images[:1], data)):
        assert empty.box.shape == (0, 4)
        assert empty.label.dtype == np.int64


def test_images_left_out_are_counted_by_their_reason():
    data = dataset({"1": [("a", SMALL)], "2": [], "3": []})
    found = predictions(data.subset(data.images[:2]), {})
    figures = score(found, data)
    assert (figures["images"], figures["missing_photos"], figures["skipped_photos"]) == (2, 0, 1)
    no_photos = dataset({"1": [("a", SMALL)], "2": [], "3": []}, photo=None)
    whole = score(predictions(no_photos, {}), no_photos)
    assert (whole["images"], whole["missing_photos"], whole["skipped_photos"]) == (3, 0, 0)
    part = score(predictions(no_photos.subset(no_photos.images[:1]), {}), no_photos)
    assert (part["images"], part["missing_photos"], part["skipped_photos"]) == (1, 2, 0)


def test_the_fitted_selection_has_the_best_f1_of_each_class_and_a_temperature(pair):
    data, good, _ = pair
    # A third class without any hit keeps the general threshold.
    wider = dataset(
        {i.image_id: i.objects for i in data.images}, classes=("a", "b", "c"), size=(200, 200)
    )
    selection, calibration = fitted_selection(Selection(threshold=0.3), good, wider)
    assert selection.class_thresholds is not None
    assert selection.class_thresholds[2] == selection.threshold == 0.3
    measured = measure(good, data, bootstrap=0)
    for k, one in enumerate(measured.result.classes):
        at = selection.class_thresholds[k]
        assert at == measured.figures["best_f1_per_class"]["ab"[k]]["threshold"]
        hits, wrong, missed = one.counts(at)
        best = 2 * hits / (2 * hits + wrong + missed)
        for other in np.linspace(0, 1, 21):
            hits, wrong, missed = one.counts(other)
            assert 2 * hits / max(2 * hits + wrong + missed, 1) <= best + 1e-12
    assert selection.temperature == calibration["temperature"] > 0
    assert calibration["ece_before"] == pytest.approx(measured.figures["ece"])
    assert selection.changed(calibrated=True).calibrated


def test_calibration_leaves_out_low_scores_and_ignored_detections():
    hard = ObjectAnnotation("a", LARGE, difficult=True)
    data = dataset({"1": [("a", SMALL), hard]}, "a")
    found = predictions(
        data,
        {"1": [("a", SMALL, 0.9), ("a", LARGE, 0.8), ("a", MEDIUM, 0.06), ("a", MEDIUM, 0.04)]},
    )
    scores, hit = calibration_outcomes(detection_arrays(found), truth_arrays(data.images, data), 1)
    assert sorted(zip(scores.round(4).tolist(), hit.tolist(), strict=True)) == [
        (0.06, False),
        (0.9, True),
    ]
