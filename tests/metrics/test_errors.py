"""The account of errors: against a slow reading of TIDE's definitions, and worked by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from frostbox.metrics import coco, errors, pairing, voc
from frostbox.metrics.errors import State, TruthState
from tests.metrics.scenes import boxes, random_scene


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    area = [(r[2] - r[0]) * (r[3] - r[1]) for r in (a, b)]
    return inter / (sum(area) - inter)


def slow_account(detections, truth, threshold):
    """Names of the states of detections and objects, one at a time, best score first."""
    states = ["BELOW"] * len(detections.image)
    found, covered = set(), set()
    for d in sorted(range(len(states)), key=lambda d: -detections.score[d]):
        if detections.score[d] < threshold:
            continue
        here = [g for g in range(len(truth.image)) if truth.image[g] == detections.image[d]]
        at = {g: iou(detections.box[d], truth.box[g]) for g in here}
        same = [g for g in here if truth.label[g] == detections.label[d]]
        other = [g for g in here if truth.label[g] != detections.label[d]]
        nearest = max(same, key=lambda g: at[g], default=None)
        nearest_other = max(other, key=lambda g: at[g], default=None)
        best = at[nearest] if same else 0.0
        best_other = at[nearest_other] if other else 0.0
        if best >= 0.5 and truth.difficult[nearest]:
            states[d] = "IGNORED"
        elif best >= 0.5 and nearest not in found:
            states[d] = "HIT"
            found.add(nearest)
        elif 0.1 <= best < 0.5:
            states[d] = "LOCALISATION"
            covered.add(nearest)
        elif best_other >= 0.5:
            states[d] = "CLASSIFICATION"
            covered.add(nearest_other)
        elif best >= 0.5:
            states[d] = "DUPLICATE"
        elif best_other <= 0.1:
            states[d] = "BACKGROUND"
        else:
            states[d] = "BOTH"
    objects = [
        "DIFFICULT" if truth.difficult[g] else "FOUND" if g in found else "MISSED"
        for g in range(len(truth.image))
    ]
    missed = sum(o == "MISSED" and g not in covered for g, o in enumerate(objects))
    return states, objects, missed


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_account_equals_the_slow_reading(seed, threshold):
    detections, truth = random_scene(seed, images=6)
    account = errors.account(detections, truth, 3, threshold)
    states, objects, missed = slow_account(detections, truth, threshold)
    assert [State(s).name for s in account.state] == states
    assert [TruthState(s).name for s in account.truth_state] == objects
    expected = Counter(s.lower() for s in states)
    assert account.counts() == {
        **{kind.name.lower(): expected[kind.name.lower()] for kind in errors.KINDS},
        "missed": missed,
    }


def test_account_names_the_object_that_the_state_is_about():
    detections, truth = random_scene(4)
    account = errors.account(detections, truth, 3)
    about = account.truth >= 0
    np.testing.assert_array_equal(truth.image[account.truth[about]], detections.image[about])
    np.testing.assert_allclose(
        pairing.pair_iou(detections.box[about], truth.box[account.truth[about]]), account.iou[about]
    )
    same = truth.label[account.truth] == detections.label
    for state in (State.HIT, State.IGNORED, State.LOCALISATION, State.DUPLICATE):
        assert same[account.state == state].all()
    for state in (State.CLASSIFICATION, State.BOTH):
        assert not same[account.state == state].any()
    hits = account.found_by[account.truth_state == TruthState.FOUND]
    assert sorted(hits) == np.flatnonzero(account.state == State.HIT).tolist()


def test_thresholds_may_differ_by_class():
    detections, truth = random_scene(7)
    thresholds = np.array([0.2, 0.5, 2.0])
    account = errors.account(detections, truth, 3, thresholds)
    below = account.state == State.BELOW
    np.testing.assert_array_equal(below, detections.score < thresholds[detections.label])
    matrix = coco.Evaluation(detections, truth, [(200, 200)] * 12, ("a", "b", "c")).confusion(
        thresholds
    )
    assert matrix[:, :3].sum() == (~below & (account.state != State.IGNORED)).sum()
    assert matrix[:, 2].sum() == 0
    assert matrix[:3].sum() == (~truth.difficult).sum()


@pytest.mark.parametrize("seed", range(6))
def test_counts_and_costs_equal_hotcocos_where_the_matching_rules_coincide(seed):
    # One object an image and class, no difficult ones, no equal scores.
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 80, (60, 2))
    box = np.concatenate([corner, corner + rng.uniform(40, 90, (60, 2))], axis=1)
    image, label = np.arange(60) // 3, np.arange(60) % 3
    source = rng.integers(0, 60, 300)
    truth = voc.Boxes(image, box, label, np.ones(60), np.zeros(60, bool))
    detections = voc.Boxes(
        image=image[source],
        box=box[source] + rng.normal(0, 8, (300, 4)),
        label=np.where(rng.random(300) < 0.7, label[source], rng.integers(0, 3, 300)),
        score=rng.permutation(300) / 300,
        difficult=np.zeros(300, bool),
    )
    evaluation = coco.Evaluation(detections, truth, [(200, 200)] * 20, ("a", "b", "c"))
    theirs = evaluation._evaluator.tide_errors()
    names = {
        "classification": "Cls",
        "localisation": "Loc",
        "both": "Both",
        "duplicate": "Dupe",
        "background": "Bkg",
        "missed": "Miss",
    }
    ours = errors.costs(detections, truth, 3)
    assert {names[kind]: count for kind, count in ours.counts.items()} == theirs["counts"]
    # The AP is theirs at 101 recalls and ours at all points; a class has about 20 objects.
    assert ours.ap == pytest.approx(theirs["ap_base"], abs=0.01)
    for kind, cost in ours.cost.items():
        assert cost == pytest.approx(theirs["delta_ap"][names[kind]], abs=0.02), kind


# --- worked by hand ------------------------------------------------------------------------------

SQUARE, FAR = (0, 0, 10, 10), (50, 50, 60, 60)


def cost(found, truth, classes=1):
    result = errors.costs(boxes(found), boxes(truth), classes)
    assert result.ap == pytest.approx(voc.evaluate(boxes(found), boxes(truth), classes).mean_ap)
    return result.ap, {k: round(v, 9) for k, v in result.cost.items() if round(v, 9)}


def test_cost_of_a_badly_placed_box_counts_once_for_its_object():
    # IoU 0.3 three times on the first of two objects, nothing on the second: AP 0. Corrected, one
    # of the three is a hit: recall 1/2 at precision 1, AP 1/2; all three as hits would give 1.
    # The second object is missed: without it one object and no hit remain, AP 0.
    low = [(0, (0, 0, 3, 10), 0, score) for score in (0.9, 0.8, 0.7)]
    assert cost(low, [(0, SQUARE, 0, 1), (0, FAR, 0, 1)]) == (0.0, {"localisation": 0.5})


def test_cost_of_a_wrong_class_is_paid_in_both_classes():
    # A cat taken for a dog at 0.9, above the hit on a dog. Dog: precision 1/2, AP 1/2. Cat: AP 0.
    # With the class corrected both are 1: the mean rises by (1/2 + 1) / 2.
    found = [(0, SQUARE, 1, 0.9), (0, FAR, 1, 0.8)]
    assert cost(found, [(0, SQUARE, 0, 1), (0, FAR, 1, 1)], 2) == (0.25, {"classification": 0.75})


def test_cost_of_duplicates_and_of_background():
    # hit, duplicate, nothing, hit: precision 1, -, -, 2/4: AP (1 + 1/2) / 2. Without either of the
    # two false positives the second hit has 2/3: the mean rises by (2/3 - 1/2) / 2 = 1/12.
    found = [
        (0, SQUARE, 0, 0.9),
        (0, (0, 0, 10, 9), 0, 0.8),
        (0, (80, 0, 90, 10), 0, 0.7),
        (0, FAR, 0, 0.6),
    ]
    ap, paid = cost(found, [(0, SQUARE, 0, 1), (0, FAR, 0, 1)])
    assert ap == 0.75
    assert paid == pytest.approx({"duplicate": 1 / 12, "background": 1 / 12}, abs=1e-8)


def test_cost_of_missed_objects():
    # One of three found, precision 1: AP 1/3. Without the two missed ones it is 1.
    truth = [(0, SQUARE, 0, 1), (1, SQUARE, 0, 1), (2, SQUARE, 0, 1)]
    ap, paid = cost([(0, SQUARE, 0, 0.9)], truth)
    assert (ap, paid) == (pytest.approx(1 / 3), {"missed": pytest.approx(2 / 3)})


def test_a_detection_near_a_difficult_object_is_not_background():
    truth = boxes([(0, SQUARE, 0, 1)], [True])
    found = boxes([(0, SQUARE, 0, 0.9), (0, (0, 0, 3, 10), 0, 0.8), (0, SQUARE, 1, 0.7)])
    account = errors.account(found, truth, 2)
    assert account.state.tolist() == [State.IGNORED, State.LOCALISATION, State.CLASSIFICATION]
    assert account.truth_state.tolist() == [TruthState.DIFFICULT]
    assert account.counts()["missed"] == 0
    assert errors.costs(found, truth, 2).ap is None


def test_empty_scenes():
    empty = boxes([])
    assert errors.account(empty, empty, 2).counts()["missed"] == 0
    alone = errors.account(boxes([(0, SQUARE, 0, 0.9)]), empty, 1)
    assert alone.state.tolist() == [State.BACKGROUND]
    assert errors.account(empty, boxes([(0, SQUARE, 0, 1)]), 1).counts()["missed"] == 1
