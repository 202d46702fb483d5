"""The VOC rules: against a slow reading of the published definition, and worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostbox.metrics import pairing, voc

# --- an independent implementation, straight from the development kit's description -------------


def kit_iou(a, b):
    """IoU of inclusive integer pixels, with the kit's +1."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = lambda r: (r[2] - r[0] + 1) * (r[3] - r[1] + 1)  # noqa: E731
    return width * height / (area(a) + area(b) - width * height)


def kit_ap(detections, ground_truth, label, threshold=0.5):
    """AP (all points, 11 points) of one class. Boxes are the kit's inclusive integer pixels.

    detections: [(image, box, label, score)]; ground_truth: [(image, box, label, difficult)].
    """
    truth = [g for g in ground_truth if g[2] == label]
    positives = sum(not g[3] for g in truth)
    if not positives:
        return None, None
    taken = set()
    outcome = []
    for image, box, _, _ in sorted((d for d in detections if d[2] == label), key=lambda d: -d[3]):
        best, at = -1.0, None
        for k, g in enumerate(truth):
            if g[0] == image and kit_iou(box, g[1]) > best:
                best, at = kit_iou(box, g[1]), k
        if at is not None and best >= threshold:
            if truth[at][3]:
                continue
            outcome.append(at not in taken)
            taken.add(at)
        else:
            outcome.append(False)
    points = []
    hits = 0
    for n, good in enumerate(outcome, 1):
        hits += good
        points.append((hits, hits / n))
    area, previous = 0.0, 0
    for hits in sorted({h for h, _ in points}):
        if hits:
            area += (hits - previous) / positives * max(p for h, p in points if h >= hits)
            previous = hits
    eleven = [
        max([p for h, p in points if h * 10 >= k * positives], default=0.0) for k in range(11)
    ]
    return area, sum(eleven) / 11


def to_boxes(entries, scored):
    """The kit's inclusive pixels as continuous boxes."""
    box = np.array([e[1] for e in entries], float).reshape(-1, 4) - [1, 1, 0, 0]
    column = [e[3] for e in entries]
    return voc.Boxes(
        image=np.array([e[0] for e in entries], int),
        box=box,
        label=np.array([e[2] for e in entries], int),
        score=np.array(column if scored else [1.0] * len(entries), float),
        difficult=np.array([False] * len(entries) if scored else column, bool),
    )


coordinate = st.integers(1, 12)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
truths = st.lists(st.tuples(st.integers(0, 2), box, st.integers(0, 1), st.booleans()), max_size=8)
found = st.lists(
    st.tuples(st.integers(0, 3), box, st.integers(0, 1), st.sampled_from([0.1, 0.5, 0.5001, 0.9])),
    max_size=14,
)


@settings(max_examples=400, deadline=None)
@given(found, truths, st.sampled_from([0.3, 0.5, 0.75]))
def test_equals_the_kit_on_any_scene(detections, ground_truth, threshold):
    result = voc.evaluate(to_boxes(detections, True), to_boxes(ground_truth, False), 2, threshold)
    for label in range(2):
        ap, eleven = kit_ap(detections, ground_truth, label, threshold)
        if ap is None:
            assert result.classes[label].ap is None
        else:
            assert result.classes[label].ap == pytest.approx(ap, abs=1e-12)
            assert result.classes[label].ap_11point == pytest.approx(eleven, abs=1e-12)


@given(box, box)
def test_continuous_iou_equals_the_kits_inclusive_rule(a, b):
    shifted = np.array([a, b], float) - [1, 1, 0, 0]
    assert pairing.pair_iou(shifted[:1], shifted[1:])[0] == kit_iou(a, b)


# --- worked by hand ------------------------------------------------------------------------------


def scene(detections, ground_truth):
    return voc.evaluate(to_boxes(detections, True), to_boxes(ground_truth, False), 1).classes[0]


def test_a_miss_between_two_hits():
    truth = [(0, (1, 1, 10, 10), 0, False), (0, (21, 21, 30, 30), 0, False)]
    result = scene(
        [(0, (1, 1, 10, 10), 0, 0.9), (0, (41, 41, 50, 50), 0, 0.8), (0, (21, 21, 30, 30), 0, 0.7)],
        truth,
    )
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1. All points: 1/2 * 1 + 1/2 * 2/3 = 5/6.
    assert result.ap == pytest.approx(5 / 6)
    # recalls 0 .. 0.5 (6 of them) have 1, recalls 0.6 .. 1 (5) have 2/3: (6 + 10/3) / 11.
    assert result.ap_11point == pytest.approx((6 + 10 / 3) / 11)


def test_a_duplicate_is_a_false_positive():
    truth = [(0, (1, 1, 10, 10), 0, False)]
    result = scene([(0, (1, 1, 10, 10), 0, 0.9), (0, (1, 1, 10, 9), 0, 0.8)], truth)
    assert result.hit.tolist() == [True, False]
    assert result.ap == 1.0  # the duplicate comes after full recall


def test_a_difficult_object_is_neither_hit_nor_miss():
    truth = [(0, (1, 1, 10, 10), 0, True), (0, (21, 21, 30, 30), 0, False)]
    result = scene([(0, (1, 1, 10, 10), 0, 0.9), (0, (21, 21, 30, 30), 0, 0.8)], truth)
    assert result.positives == 1
    assert result.hit.tolist() == [True]  # the first detection is not counted at all
    assert result.ap == 1.0


def test_recall_of_three_in_ten_reaches_the_point_at_0_3():
    # 3 * 0.1 is 0.30000000000000004 in floating point: the point at 0.3 must still be reached.
    truth = [(k, (1, 1, 10, 10), 0, False) for k in range(10)]
    result = scene([(k, (1, 1, 10, 10), 0, 0.9) for k in range(3)], truth)
    assert result.ap_11point == pytest.approx(4 / 11)
    assert result.ap == pytest.approx(0.3)


def test_iou_of_exactly_one_half_is_a_hit():
    # 1..10 x 1..10 against 1..10 x 1..5: 50 / 100.
    result = scene([(0, (1, 1, 10, 5), 0, 0.9)], [(0, (1, 1, 10, 10), 0, False)])
    assert result.hit.tolist() == [True]


def test_nothing_found_and_nothing_to_find():
    assert scene([], [(0, (1, 1, 10, 10), 0, False)]).ap == 0.0
    assert scene([(0, (1, 1, 10, 10), 0, 0.9)], []).ap is None
    empty = voc.evaluate(to_boxes([], True), to_boxes([], False), 3)
    assert empty.mean_ap is None
    assert empty.mean_ap_11point is None


def test_counts_at_a_threshold():
    truth = [
        (0, (1, 1, 10, 10), 0, False),
        (0, (21, 21, 30, 30), 0, False),
        (0, (41, 41, 50, 50), 0, True),
    ]
    result = scene(
        [
            (0, (1, 1, 10, 10), 0, 0.9),
            (0, (41, 41, 50, 50), 0, 0.8),  # ignored
            (0, (61, 1, 70, 10), 0, 0.7),
            (0, (21, 21, 30, 30), 0, 0.2),
        ],
        truth,
    )
    assert (result.positives, result.difficult) == (2, 1)
    assert result.counts() == (2, 1, 0)
    assert result.counts(0.7) == (1, 1, 1)
    assert result.counts(0.95) == (0, 0, 2)


def test_best_f1_and_its_threshold():
    truth = [(0, (1, 1, 10, 10), 0, False), (0, (21, 21, 30, 30), 0, False)]
    result = scene(
        [
            (0, (1, 1, 10, 10), 0, 0.9),
            (0, (21, 21, 30, 30), 0, 0.6),
            (0, (61, 1, 70, 10), 0, 0.6),
            (0, (61, 21, 70, 30), 0, 0.1),
        ],
        truth,
    )
    # 0.9: 2 * 1 / (1 + 2) = 2/3. 0.6 takes both that score it: 2 * 2 / (3 + 2) = 4/5. 0.1: 4/6.
    assert result.best_f1 == voc.BestF1(pytest.approx(4 / 5), 0.6, pytest.approx(2 / 3), 1.0)
    assert scene([(0, (61, 1, 70, 10), 0, 0.6)], truth).best_f1 is None


@settings(max_examples=100, deadline=None)
@given(found, truths)
def test_best_f1_is_the_best_of_all_thresholds(detections, ground_truth):
    result = voc.evaluate(to_boxes(detections, True), to_boxes(ground_truth, False), 2)
    for one in result.classes:
        f1 = {}
        for threshold in (0.1, 0.5, 0.5001, 0.9):
            hits, false, missed = one.counts(threshold)
            f1[threshold] = 2 * hits / max(2 * hits + false + missed, 1)
        best = one.best_f1
        if best is None:
            assert max(f1.values()) == 0
        else:
            assert best.f1 == pytest.approx(max(f1.values()))
            assert f1[best.threshold] == best.f1
            assert one.counts(best.threshold)[0] / one.positives == best.recall
    thresholds = result.thresholds(default=0.3)
    assert thresholds.shape == (2,)
    assert [t == 0.3 for t in thresholds] == [c.best_f1 is None for c in result.classes]


@settings(max_examples=100, deadline=None)
@given(found, truths)
def test_assignment_speaks_of_the_detections_in_their_own_order(detections, ground_truth):
    given_boxes, truth = to_boxes(detections, True), to_boxes(ground_truth, False)
    assigned = voc.assign(given_boxes, truth, 2)
    np.testing.assert_array_equal(
        given_boxes.score[assigned.order], np.sort(given_boxes.score)[::-1]
    )
    assert not (assigned.hit & assigned.ignored).any()
    matched = np.flatnonzero(assigned.truth >= 0)
    at = assigned.truth[matched]
    np.testing.assert_array_equal(truth.image[at], given_boxes.image[matched])
    np.testing.assert_array_equal(truth.label[at], given_boxes.label[matched])
    hit = assigned.truth[assigned.hit]
    assert len(set(hit.tolist())) == len(hit)
    assert not truth.difficult[hit].any()
    result = voc.evaluate(given_boxes, truth, 2)
    assert sum(c.counts()[0] for c in result.classes) == assigned.hit.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([2])}, "labels from 2 to 2; 2 classes allow 0 to 1"),
        ({"score": np.array([np.nan])}, "score of entry 0 is nan"),
        ({"score": np.zeros(2)}, "same length"),
    ],
)
def test_what_would_give_wrong_figures_is_refused(change, message):
    good = to_boxes([(0, (1, 1, 5, 5), 1, 0.5)], True)
    with pytest.raises(ValueError, match=message):
        voc.evaluate(replace(good, **change), to_boxes([], False), 2)


def test_join_flattens_images_with_and_without_boxes():
    joined = voc.Boxes.join(
        [np.zeros((0, 4)), np.ones((2, 4))],
        [np.zeros(0, int), np.array([3, 4])],
        scores=[np.zeros(0), np.array([0.5, 0.25])],
    )
    assert joined.image.tolist() == [1, 1]
    assert joined.label.tolist() == [3, 4]
    assert joined.score.tolist() == [0.5, 0.25]
    assert joined.difficult.tolist() == [False, False]
