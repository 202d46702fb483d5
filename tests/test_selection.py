"""Thresholds, those of classes, and calibrated scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frostbox.errors import SettingsError
from frostbox.metrics.calibration import scale
from frostbox.selection import Selection

CLASSES = 3


@pytest.fixture
def dense():
    """500 boxes far from each other, with float32 scores."""
    rng = np.random.default_rng(0)
    x = torch.arange(500.0) * 20
    boxes = torch.stack([x, x, x + 10, x + 10], dim=1)
    return boxes, torch.from_numpy(rng.random((500, CLASSES), np.float32))


def kept(scores, thresholds):
    return int((scores >= torch.tensor(thresholds)).sum())


def test_thresholds_of_classes_filter_exactly(dense):
    boxes, scores = dense
    # Scores of detections, as the best F1 gives them: what equals the threshold stays.
    thresholds = tuple(float(scores[k, k]) for k in range(CLASSES))
    selection = Selection(class_thresholds=thresholds, max_detections=10_000)
    _, score, label = selection.choose(boxes, scores)
    assert len(score) == kept(scores, thresholds)
    for k in range(CLASSES):
        assert float(score[label == k].min()) == thresholds[k]
    assert (score.diff() <= 0).all()


def test_a_threshold_replaces_those_of_the_classes_and_none_leaves_them(dense):
    boxes, scores = dense
    stored = Selection(class_thresholds=(0.9, 0.5, 0.1), max_detections=10_000)
    changed = stored.changed(threshold=0.7)
    assert changed.class_thresholds is None
    assert len(changed.choose(boxes, scores)[1]) == kept(scores, [0.7] * 3)
    assert stored.changed(threshold=None, nms=None) == stored.changed(nms=None)
    assert stored.changed(nms=None).class_thresholds == (0.9, 0.5, 0.1)
    assert stored.changed(threshold=0.0).threshold == 0


@pytest.mark.parametrize("temperature", [0.05, 0.6, 1.0, 2.5, 20.0])
def test_calibrated_scores_are_the_metrics_and_keep_order_and_choice(dense, temperature):
    boxes, scores = dense
    boxes = boxes / 5  # boxes of neighbours overlap: suppression has something to do
    plain = Selection(class_thresholds=(0.3, 0.5, 0.7), temperature=temperature, nms=0.3)
    raw_boxes, raw, labels = plain.choose(boxes, scores)
    assert 0 < len(raw) < kept(scores, [0.3, 0.5, 0.7])
    found, calibrated, found_labels = plain.changed(calibrated=True).choose(boxes, scores)
    assert torch.equal(found, raw_boxes)
    assert torch.equal(found_labels, labels)
    assert calibrated.dtype == raw.dtype
    assert calibrated.numpy() == pytest.approx(scale(raw.numpy(), temperature), abs=1e-7)
    assert (calibrated.diff() <= 0).all()


def test_scores_that_calibration_makes_equal_stay_in_their_order():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]])
    # Divided by 0.05 all three are 1 in float32; the second is the best and suppresses the first.
    scores = torch.tensor([[0.90], [0.99], [0.95]])
    selection = Selection(threshold=0.5, temperature=0.05, calibrated=True)
    found, calibrated, _ = selection.choose(boxes, scores)
    assert found.tolist() == [[0, 0, 10, 11], [50, 50, 60, 60]]
    assert calibrated.tolist() == [1, 1]


def test_the_threshold_refers_to_calibrated_scores(dense):
    boxes, scores = dense
    selection = Selection(threshold=0.6, temperature=2.0, calibrated=True, max_detections=10_000)
    _, calibrated, _ = selection.choose(boxes, scores)
    # 0.6 after division by 2: sigmoid(2 * logit(0.6)) = 0.36 / (0.36 + 0.16) before.
    assert len(calibrated) == kept(scores, [0.36 / 0.52] * 3)
    assert float(calibrated.min()) >= 0.6
    everything = selection.changed(threshold=0.0).choose(boxes, scores)[1]
    assert len(everything) == scores.numel()


def test_what_a_file_stores_comes_back():
    selection = Selection(0.4, None, 50, (0.25, 1 / 3, 0.0), 1.75, suppression="wbf")
    assert Selection.from_dict(selection.to_dict()) == selection
    old = {"threshold": 0.3, "nms": 0.45, "max_detections": 100}  # as format version 1 had it
    assert Selection.from_dict(old) == Selection(0.3, 0.45, 100)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"nms": -0.1}, "nms is -0.1"),
        ({"suppression": "hard"}, "suppression is 'hard'"),
        ({"suppression": "soft-gaussian", "nms": 0.0}, "sigma and must be above 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"calibrated": True}, "no temperature was fitted"),
        ({"class_thresholds": (0.5, 1.2)}, "class_thresholds is"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(SettingsError, match=message):
        Selection(**values)


def test_one_threshold_for_each_class(dense):
    with pytest.raises(SettingsError, match="1 values for 3 classes"):
        Selection(class_thresholds=(0.5,)).choose(*dense)


def test_nothing_above_the_threshold_is_an_empty_result(dense):
    boxes, scores = dense
    for selection in (
        Selection(threshold=1.0),
        Selection(threshold=1.0, temperature=3.0, calibrated=True),
        Selection(class_thresholds=(1.0, 1.0, 1.0), temperature=3.0, calibrated=True),
    ):
        found, score, label = selection.choose(boxes, scores * 0.99)
        assert (found.shape, score.shape, label.shape) == ((0, 4), (0,), (0,))


def test_what_was_fitted_to_scores_goes_when_suppression_changes_them():
    fitted = Selection(class_thresholds=(0.9, 0.5, 0.1), temperature=2.0)
    assert fitted.changed(suppression="nms") == fitted
    assert fitted.changed(suppression="wbf").temperature == 2.0  # keeps the best score of each
    soft = fitted.changed(suppression="soft-linear", threshold=None)
    assert (soft.class_thresholds, soft.temperature) == (None, None)


def test_calibrated_scores_that_suppression_lowers_meet_the_threshold():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]])  # IoU 2 / 3: 0.9 falls to 0.3
    selection = Selection(
        threshold=0.5, temperature=1.0, calibrated=True, suppression="soft-linear"
    )
    _, score, _ = selection.choose(boxes, torch.tensor([[0.95], [0.9]]))
    assert score.tolist() == pytest.approx([0.95])
