"""What became of each detection and each object, and what each kind of error costs in AP.

The kinds are TIDE's (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, section 2.2), for detections that are no hits by the VOC rule, with foreground
IoU t_f = 0.5 and background IoU t_b = 0.1, tested in the order of the authors' program:

1. localisation: t_b <= IoU < t_f with an object of its class;
2. classification: IoU >= t_f with an object of another class;
3. duplicate: IoU >= t_f with an object of its class that a better-scored detection found;
4. background: IoU <= t_b with every object;
5. both: the rest, between t_b and t_f with an object of another class.

Objects that no detection found are missed; TIDE's count and cost of `missed` leave out those that a
localisation or classification error lies on, as correcting that error would find them. A detection
that the VOC rule ignores (on a difficult object) is no error; near a difficult object, or of
another class than it, it is one.

The cost is the rise of the mean all-point AP when errors of one kind are corrected: of the
localisation and classification errors on one object the best-scored becomes its hit unless it has
one, the others go, as do all of the other kinds; missed objects leave the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from frostbox.metrics import voc
from frostbox.metrics.pairing import Match, best_of, pair_iou, pairs
from frostbox.metrics.voc import Boxes, Floats, Ints


class State(IntEnum):
    """What became of a detection; BELOW: its score is below the threshold."""

    BELOW = 0
    HIT = 1
    IGNORED = 2
    CLASSIFICATION = 3
    LOCALISATION = 4
    BOTH = 5
    DUPLICATE = 6
    BACKGROUND = 7


class TruthState(IntEnum):
    """What became of an object."""

    FOUND = 1
    MISSED = 2
    DIFFICULT = 3


KINDS = (
    State.CLASSIFICATION,
    State.LOCALISATION,
    State.BOTH,
    State.DUPLICATE,
    State.BACKGROUND,
)


@dataclass(frozen=True)
class Account:
    """What became of every detection and every object.

    Attributes:
        state: (D,) int8, `State`. truth: (D,) index of the object that the state is about, -1 for
            none (BACKGROUND and BELOW). iou: (D,) with that object, 0 for none.
        truth_state: (G,) int8, `TruthState`. found_by: (G,) index of the detection that is its
            hit, -1 without one. covered: (G,) bool, missed, and a localisation or
            classification error lies on it.
    """

    state: NDArray[np.int8]
    truth: Ints
    iou: Floats
    truth_state: NDArray[np.int8]
    found_by: Ints
    covered: NDArray[np.bool_]

    def counts(self) -> dict[str, int]:
        """Number of errors of each kind, by its name in lower case, and of `missed`."""
        counts = {kind.name.lower(): int((self.state == kind).sum()) for kind in KINDS}
        missed = (self.truth_state == TruthState.MISSED) & ~self.covered
        return counts | {"missed": int(missed.sum())}


@dataclass(frozen=True)
class ErrorCosts:
    """`ap`: mean all-point AP at `iou_threshold`; by kind: how many errors, and what they cost."""

    ap: float | None
    iou_threshold: float
    counts: dict[str, int]
    cost: dict[str, float]


def account(
    detections: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    score_threshold: float | Floats = 0.0,
    *,
    foreground: float = 0.5,
    background: float = 0.1,
) -> Account:
    """The state of each detection that scores at least `score_threshold`, and of each object.

    Args:
        score_threshold: one for all, or (K,) one a class, as `voc.Result.thresholds` gives.
        foreground, background: TIDE's t_f and t_b.

    Raises:
        ValueError: as `voc.assign`.
    """
    assigned = voc.assign(detections, ground_truth, num_classes, foreground)
    shown = voc.above(detections, score_threshold, num_classes)
    other = _best_other_class(detections, ground_truth)

    state = np.full(len(shown), State.BOTH, np.int8)
    state[other.iou <= background] = State.BACKGROUND
    state[assigned.iou >= foreground] = State.DUPLICATE
    state[other.iou >= foreground] = State.CLASSIFICATION
    near = (assigned.iou >= background) & (assigned.iou < foreground)
    state[near] = State.LOCALISATION
    state[assigned.ignored] = State.IGNORED
    state[assigned.hit] = State.HIT
    state[~shown] = State.BELOW

    of_other = np.isin(state, (State.CLASSIFICATION, State.BOTH))
    nowhere = np.isin(state, (State.BACKGROUND, State.BELOW))
    truth = np.where(nowhere, -1, np.where(of_other, other.index, assigned.truth))
    iou = np.where(nowhere, 0.0, np.where(of_other, other.iou, assigned.iou))

    found_by = np.full(len(ground_truth.image), -1, np.int64)
    hits = np.flatnonzero(state == State.HIT)
    found_by[truth[hits]] = hits
    truth_state = np.where(found_by >= 0, TruthState.FOUND, TruthState.MISSED).astype(np.int8)
    truth_state[ground_truth.difficult] = TruthState.DIFFICULT
    covered = np.zeros(len(found_by), bool)
    covered[truth[np.isin(state, (State.CLASSIFICATION, State.LOCALISATION))]] = True
    covered &= truth_state == TruthState.MISSED
    return Account(state, truth, iou, truth_state, found_by, covered)


def _best_other_class(detections: Boxes, ground_truth: Boxes) -> Match:
    found, truth = pairs(detections.image, ground_truth.image)
    differ = detections.label[found] != ground_truth.label[truth]
    if ground_truth.crowd is not None:
        differ &= ~ground_truth.crowd[truth]
    found, truth = found[differ], truth[differ]
    iou = pair_iou(detections.box[found], ground_truth.box[truth])
    match = best_of(found, truth, iou, len(detections.image))
    return Match(np.where(match.iou > 0, match.index, -1), match.iou)


def costs(
    detections: Boxes, ground_truth: Boxes, num_classes: int, *, foreground: float = 0.5
) -> ErrorCosts:
    """How often each kind of error occurs among all detections, and the AP that it costs."""
    found = account(detections, ground_truth, num_classes, float(-np.inf), foreground=foreground)
    order = np.argsort(-detections.score, kind="stable")
    state, truth = found.state[order], found.truth[order]
    label, hit = detections.label[order], state == State.HIT
    counted = state != State.IGNORED
    wanted = ~ground_truth.difficult
    positives = np.bincount(ground_truth.label[wanted], minlength=num_classes)

    def mean_ap(
        kept: NDArray[np.bool_], hit: NDArray[np.bool_], label: Ints, positives: Ints
    ) -> float:
        by_class = np.flatnonzero(kept)[np.argsort(label[kept], kind="stable")]
        start = np.searchsorted(label[by_class], np.arange(num_classes + 1))
        aps = [
            voc.average_precision(hit[by_class[start[k] : start[k + 1]]], int(positives[k]))
            if positives[k]
            else 0.0
            for k in classes
        ]
        return float(np.mean(aps))

    classes = np.flatnonzero(positives)
    if not len(classes):
        return ErrorCosts(None, foreground, found.counts(), {})
    ap = mean_ap(counted, hit, label, positives)
    cost = {}
    for kind in KINDS:
        wrong = state == kind
        kept, fixed_hit, fixed_label = counted & ~wrong, hit, label
        if kind in (State.CLASSIFICATION, State.LOCALISATION):
            on = np.flatnonzero(wrong)
            on = on[found.truth_state[truth[on]] == TruthState.MISSED]
            on = on[np.unique(truth[on], return_index=True)[1]]  # the best-scored on each object
            kept[on] = True
            fixed_hit = hit.copy()
            fixed_hit[on] = True
            fixed_label = label.copy()
            fixed_label[on] = ground_truth.label[truth[on]]
        cost[kind.name.lower()] = mean_ap(kept, fixed_hit, fixed_label, positives) - ap
    missed = (found.truth_state == TruthState.MISSED) & ~found.covered
    fewer = positives - np.bincount(ground_truth.label[missed], minlength=num_classes)
    cost["missed"] = mean_ap(counted, hit, label, fewer) - ap
    return ErrorCosts(ap, foreground, found.counts(), cost)
