"""Anchors: shapes that are known, and those that were published for VOC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frostbox.data.anchors import size_iou, suggest_anchors
from frostbox.data.patterns import patterns
from frostbox.data.voc import read_voc


def test_iou_of_shapes() -> None:
    # 2 x 1 within 2 x 2: 2 / 4. 2 x 1 across 1 x 2: they share 1 x 1, of 2 + 2 - 1.
    assert size_iou([[2, 1]], [[2, 2], [1, 2], [2, 1]]) == pytest.approx(
        np.array([[0.5, 1 / 3, 1.0]])
    )


def test_groups_of_boxes_are_found() -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[0.1, 0.1], [0.2, 0.6], [0.7, 0.3], [0.9, 0.9]])
    boxes = np.concatenate([c * rng.uniform(0.95, 1.05, (200, 2)) for c in centres])
    (found,) = suggest_anchors(rng.permutation(boxes), [4])
    assert np.array(found["sizes"]) == pytest.approx(centres, rel=0.02)
    assert found["mean_iou"] > 0.9


def test_the_mean_best_iou_is_that_of_the_anchors() -> None:
    boxes = np.random.default_rng(1).uniform(0.05, 1, (300, 2))
    for found in suggest_anchors(boxes, range(1, 6)):
        iou = size_iou(boxes, found["sizes"]).max(axis=1).mean()
        assert found["mean_iou"] == pytest.approx(iou)
        areas = [width * height for width, height in found["sizes"]]
        assert areas == sorted(areas)


def test_the_seed_decides() -> None:
    boxes = np.random.default_rng(2).uniform(0.05, 1, (200, 2))
    assert suggest_anchors(boxes, [5], seed=4) == suggest_anchors(boxes, [5], seed=4)


def test_as_many_anchors_as_there_are_shapes() -> None:
    found = suggest_anchors([[1, 2], [1, 2], [3, 1]], range(1, 10))
    assert [entry["k"] for entry in found] == [1, 2]
    assert found[-1] == {"k": 2, "sizes": [(1.0, 2.0), (3.0, 1.0)], "mean_iou": 1.0}
    assert suggest_anchors(np.zeros((0, 2)), range(1, 10)) == []


def test_boxes_without_area_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        suggest_anchors([[1, 0]], [1])


def test_published_iou_of_voc2007(voc2007: Path) -> None:
    # Redmon & Farhadi 2017, table 1: 61.0 for five anchors, 67.2 for nine.
    found = {a["k"]: a["mean_iou"] for a in patterns(read_voc(voc2007, "trainval"))["anchors"]}
    assert found[5] == pytest.approx(0.610, abs=0.01)
    assert found[9] == pytest.approx(0.672, abs=0.01)
