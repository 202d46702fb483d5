"""Comparison of two lists of detections."""

from __future__ import annotations

import numpy as np
import pytest

from frostbox.detections import Detections
from frostbox.export.check import TOLERANCES, compare
from frostbox.selection import Selection

BOXES = [(10, 10, 60, 60), (100, 20, 180, 90)]
SELECTION = Selection(threshold=0.2)


def of(boxes, scores, labels):
    return Detections.create(boxes, scores, labels, ("a", "b"), (200, 100))


REFERENCE = of(BOXES, [0.9, 0.5], [0, 1])


def difference(found, reference=REFERENCE, before=None):
    return compare([reference], [before or reference], [found], SELECTION, TOLERANCES["32"])


def wrong(found, **options):
    return difference(found, **options).wrong(TOLERANCES["32"])


def test_equal_detections_in_another_order_are_equal():
    near = of([(*b[:3], b[3] + 0.4) for b in BOXES[::-1]], [0.505, 0.9], [1, 0])
    d = difference(near)
    assert d.boxes_px == pytest.approx(0.4, abs=1e-4)
    assert d.boxes_share == pytest.approx(0.002, abs=1e-5)
    assert d.scores == pytest.approx(0.005, abs=1e-5)
    assert (d.labels, d.missing, d.extra) == (0, 0, 0)
    assert not wrong(near)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (of([(10, 10, 62, 60), BOXES[1]], [0.9, 0.5], [0, 1]), "boxes differ by up to 2.00 px"),
        (of(BOXES, [0.9, 0.47], [0, 1]), "scores differ by up to 0.0300"),
        (of(BOXES, [0.9, 0.5], [0, 0]), "1 have another class"),
        (of(BOXES[:1], [0.9], [0]), "1 detections are missing"),
        (of([*BOXES, (0, 0, 9, 9)], [0.9, 0.5, 0.4], [0, 1, 1]), "1 are extra"),
    ],
)
def test_each_kind_of_mismatch_is_named(found, words):
    assert words in "; ".join(wrong(found))


def test_a_detection_at_its_threshold_may_come_or_go():
    more = of([*BOXES, (0, 0, 9, 9)], [0.9, 0.5, 0.205], [0, 1, 1])
    assert difference(more).extra == 1
    assert difference(more).borderline == 1
    assert not wrong(more)


def test_a_neighbour_of_nearly_the_same_score_is_a_swap_only_if_pytorch_has_it():
    other = (15, 10, 66, 60)
    found = of([other, BOXES[1]], [0.898, 0.5], [0, 1])
    before = of([*BOXES, other], [0.9, 0.5, 0.899], [0, 1, 0])
    assert difference(found, before=before).swapped == 1
    assert not wrong(found, before=before)
    assert wrong(found)
    unlike = of([*BOXES, other], [0.9, 0.5, 0.6], [0, 1, 0])
    assert wrong(found, before=unlike)


def test_nearly_equal_scores_decide_the_class_where_classes_suppress_each_other():
    found, before = (
        of(BOXES, [0.9, 0.499], [0, 0]),
        of([*BOXES, BOXES[1]], [0.9, 0.5, 0.5], [0, 1, 0]),
    )
    tolerance = TOLERANCES["32"]
    for suppression, labels in (("agnostic", 0), ("nms", 1)):
        selection = Selection(threshold=0.2, suppression=suppression)
        d = compare([REFERENCE], [before], [found], selection, tolerance)
        assert (d.labels, d.swapped) == (labels, 1 - labels)


def test_nothing_against_nothing():
    none = of(np.zeros((0, 4)), [], [])
    assert not wrong(none, reference=none)
    assert wrong(none)
