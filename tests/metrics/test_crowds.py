"""Crowds are ignored regions: by pycocotools' own figures, and in the VOC rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.evaluation import truth_arrays
from frostbox.metrics import coco, errors, intervals, voc
from frostbox.metrics.errors import State
from tests.metrics.scenes import boxes, random_scene
from tests.metrics.test_coco import NAMES, SIZES, datasets, stats


def _with_crowds(seed: int) -> tuple[voc.Boxes, voc.Boxes]:
    """A scene in which some objects are crowds, and areas are those of masks."""
    detections, truth = random_scene(seed, difficult=0.0)
    rng = np.random.default_rng(seed)
    crowd = rng.random(len(truth.image)) < 0.25
    size = (truth.box[:, 2:] - truth.box[:, :2]).prod(axis=1)
    area = np.round(size * rng.uniform(0.2, 1.0, len(size)), 2)
    return detections, replace(truth, difficult=crowd, crowd=crowd, area=area)


@pytest.mark.parametrize("seed", range(15))
def test_all_twelve_figures_are_pycocotools(seed: int) -> None:
    detections, truth = _with_crowds(seed)
    columns = {"iscrowd": truth.crowd.astype(int), "area": truth.area}
    theirs, _ = stats("pycocotools", *datasets(detections, truth, **columns))
    summary = coco.Evaluation(detections, truth, SIZES, NAMES).summary
    ours = [getattr(summary, name) for name in coco.Summary.__dataclass_fields__][:-1]
    assert ours == [None if v < 0 else pytest.approx(v, abs=1e-9) for v in theirs]


@pytest.mark.parametrize("seed", range(15))
def test_the_matching_behind_intervals_gives_the_same_ap(seed: int) -> None:
    detections, truth = _with_crowds(seed)
    ones = np.ones((12, 1), np.int32)
    found = intervals.weighted_ap(detections, truth, 3, ones, ("coco_ap",))["coco_ap"][0]
    expected = coco.Evaluation(detections, truth, SIZES, NAMES).class_ap
    assert found.tolist() == pytest.approx(list(expected), abs=1e-9)


ROWS = [
    (0, (0, 0, 100, 100), 0, 1.0),  # the crowd
    (0, (10, 10, 30, 30), 0, 1.0),  # an object inside
]


def _truth() -> voc.Boxes:
    crowd = np.array([True, False])
    return replace(boxes(ROWS, difficult=crowd), crowd=crowd)


def test_what_lies_in_a_crowd_is_ignored_and_objects_inside_are_still_found() -> None:
    detections = boxes([
        (0, (10, 10, 30, 30), 0, 0.9),  # on the object: a hit
        (0, (11, 11, 31, 31), 0, 0.8),  # on it again: a duplicate
        (0, (50, 50, 60, 60), 0, 0.7),  # in the crowd
        (0, (70, 70, 80, 80), 0, 0.6),  # in the crowd, once more
        (0, (95, 0, 115, 20), 0, 0.5),  # a quarter of it in the crowd
        (0, (50, 50, 60, 60), 1, 0.4),  # of another class
        (1, (50, 50, 60, 60), 0, 0.3),  # in another image
    ])  # fmt: skip
    found = voc.assign(detections, _truth(), 2)
    assert found.hit.tolist() == [True, *[False] * 6]
    assert found.ignored.tolist() == [False, False, True, True, False, False, False]
    assert found.truth[2] == 0
    assert found.iou[2] == 1
    (result, _) = voc.evaluate(detections, _truth(), 2).classes
    assert (result.positives, result.difficult) == (1, 1)
    assert result.counts() == (1, 3, 0)
    state = errors.account(detections, _truth(), 2).state
    assert [State(s).name for s in state] == [
        "HIT", "DUPLICATE", "IGNORED", "IGNORED", "BACKGROUND", "BACKGROUND", "BACKGROUND",
    ]  # fmt: skip


def test_a_crowd_is_no_object_to_be_hit() -> None:
    found = voc.assign(boxes([(0, (0, 0, 100, 100), 0, 0.9)]), _truth(), 1)
    assert (found.hit.tolist(), found.ignored.tolist()) == ([False], [True])


def test_annotations_become_arrays_and_targets() -> None:
    objects = (
        ObjectAnnotation("a", (0, 0, 100, 100), crowd=True, area=50.0),
        ObjectAnnotation("a", (10, 10, 30, 30)),
        ObjectAnnotation("a", (5, 5, 9, 9), difficult=True),
    )
    image = ImageAnnotation("i", None, 100, 100, objects, Path("i"))
    dataset = DetectionSet("s", Path("s"), "train", ("a",), "x", (image,))
    truth = truth_arrays([image], dataset)
    assert truth.difficult.tolist() == [True, False, True]
    assert truth.crowd is not None
    assert truth.area is not None
    assert truth.crowd.tolist() == [True, False, False]
    assert truth.area.tolist() == [50, 400, 16]
    seen = geometry("shrink", (100, 100), (50, 50))
    assert len(targets(image, dataset, seen)["boxes"]) == 2
    assert len(targets(image, dataset, seen, difficult=False)["boxes"]) == 1
