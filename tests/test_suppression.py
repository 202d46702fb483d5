"""The ways of suppression: worked by hand, slow readings of the papers, torchvision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou, nms

from frostbox.boxes import select
from frostbox.errors import SettingsError
from frostbox.suppression import SUPPRESSIONS, suppress

# The second box shares 8 of 10 columns with the first: IoU 8 / 12. The third is far away.
BOXES = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]])
IOU = 8 / 12


def run(name, boxes, scores, labels, iou=0.5, lowest=0.0, limit=300):
    scores = torch.tensor(scores) if isinstance(scores, list) else scores
    labels = torch.tensor(labels) if isinstance(labels, list) else labels
    return suppress(
        name, boxes, scores, labels, iou=iou, lowest=torch.full_like(scores, lowest), limit=limit
    )


def scene(seed, count=25, classes=3):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g)
    boxes = torch.cat((corner, corner + 0.2 + 0.5 * torch.rand(count, 2, generator=g)), 1)
    scores = torch.rand(count, generator=g).sort(descending=True).values
    return boxes, scores, torch.randint(classes, (count,), generator=g)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.8]))
def test_nms_and_agnostic_are_torchvisions(seed, iou):
    boxes, scores, labels = scene(seed)
    for name, keep in (
        ("nms", batched_nms(boxes, scores, labels, iou)),
        ("agnostic", nms(boxes, scores, iou)),
    ):
        found = run(name, boxes, scores, labels, iou)
        for got, want in zip(found, (boxes[keep], scores[keep], labels[keep]), strict=True):
            assert torch.equal(got, want)


def test_only_agnostic_mixes_classes():
    for name in SUPPRESSIONS:
        boxes, scores, _ = run(name, BOXES, [0.9, 0.8, 0.3], [0, 1, 0])
        if name == "agnostic":
            assert scores.tolist() == pytest.approx([0.9, 0.3])
        else:
            assert torch.allclose(boxes, BOXES)
            assert scores.tolist() == pytest.approx([0.9, 0.8, 0.3])


def test_soft_linear_by_hand():
    boxes, scores, _ = run("soft-linear", BOXES, [0.9, 0.8, 0.3], [0, 0, 0])
    # 0.8 falls to 0.8 / 3 and behind the third.
    assert scores.tolist() == pytest.approx([0.9, 0.3, 0.8 * (1 - IOU)])
    assert torch.equal(boxes, BOXES[[0, 2, 1]])
    _, scores, _ = run("soft-linear", BOXES, [0.9, 0.8, 0.3], [0, 0, 0], iou=0.7)
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.3])  # below the IoU nothing decays
    _, scores, _ = run("soft-linear", BOXES, [0.9, 0.8, 0.3], [0, 0, 0], lowest=0.28)
    assert scores.tolist() == pytest.approx([0.9, 0.3])


def test_soft_gaussian_by_hand():
    _, scores, _ = run("soft-gaussian", BOXES, [0.9, 0.8, 0.3], [0, 0, 0], iou=0.5)
    assert scores.tolist() == pytest.approx([0.9, 0.8 * math.exp(-(IOU**2) / 0.5), 0.3])


def slow_soft(boxes, scores, labels, name, iou, lowest):
    left = [[s, k] for k, s in enumerate(scores.tolist()) if s >= lowest]
    found = []
    while left:
        best = max(left, key=lambda entry: entry[0])
        left.remove(best)
        found.append(tuple(best))
        for entry in left:
            if labels[entry[1]] != labels[best[1]]:
                continue
            a, b = boxes[entry[1]], boxes[best[1]]
            overlap = float(box_iou(a[None], b[None]))
            if name == "soft-gaussian":
                entry[0] *= math.exp(-(overlap**2) / iou)
            elif overlap > iou:
                entry[0] *= 1 - overlap
        left = [entry for entry in left if entry[0] >= lowest]
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["soft-linear", "soft-gaussian"]),
    st.sampled_from([0.3, 0.5]),
)
def test_soft_is_the_slow_reading(seed, name, iou):
    boxes, scores, labels = scene(seed)
    found_boxes, found_scores, found_labels = run(name, boxes, scores, labels, iou, lowest=0.05)
    expected = slow_soft(boxes, scores, labels, name, iou, 0.05)
    assert found_scores.tolist() == pytest.approx([s for s, _ in expected], abs=1e-5)
    order = torch.tensor([k for _, k in expected])
    assert torch.equal(found_boxes, boxes[order])
    assert torch.equal(found_labels, labels[order])


def test_weighted_box_fusion_by_hand():
    boxes, scores, labels = run("wbf", BOXES, [0.9, 0.6, 0.3], [4, 4, 4])
    # The two overlap: (0.9 * 0 + 0.6 * 2) / 1.5 = 0.8.
    assert boxes[0].tolist() == pytest.approx([0.8, 0, 10.8, 10])
    assert boxes[1].tolist() == pytest.approx(BOXES[2].tolist())
    assert scores.tolist() == pytest.approx([0.9, 0.3])
    assert labels.tolist() == [4, 4]


def test_weighted_box_fusion_compares_with_the_fused_box():
    # All 10 wide. The first two (IoU 7 / 13) fuse at 1.5; the third overlaps the second by 7 / 13
    # too, but what is fused only by 5.5 / 14.5, below 0.45.
    starts = torch.tensor([0.0, 3, 6, 4])
    boxes = torch.stack((starts, starts * 0, starts + 10, starts * 0 + 10), 1)
    found, scores, _ = run("wbf", boxes, [0.8, 0.8, 0.5, 0.4], [0, 0, 0, 0], iou=0.45)
    # The fourth overlaps the third more (8 / 12) than the fused box (7.5 / 12.5).
    assert found[:, 0].tolist() == pytest.approx([1.5, (0.5 * 6 + 0.4 * 4) / 0.9])
    assert scores.tolist() == pytest.approx([0.8, 0.5])


def slow_fusion(boxes, scores, labels, iou):
    groups = []
    for k in range(len(boxes)):
        best, best_iou = None, iou
        for group in groups:
            if labels[group[0]] == labels[k]:
                weight = scores[group][:, None]
                fused = (boxes[group] * weight).sum(0, keepdim=True) / weight.sum()
                overlap = float(box_iou(fused, boxes[k : k + 1]))
                if overlap > best_iou:
                    best, best_iou = group, overlap
        if best is None:
            groups.append([k])
        else:
            best.append(k)
    return groups


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.55]))
def test_fusion_is_the_slow_reading(seed, iou):
    boxes, scores, labels = scene(seed)
    boxes = boxes.double()
    groups = slow_fusion(boxes, scores.double(), labels, iou)
    found, found_scores, found_labels = run("wbf", boxes, scores, labels, iou)
    assert torch.equal(found_scores, scores[[g[0] for g in groups]])
    assert torch.equal(found_labels, labels[[g[0] for g in groups]])
    weight = scores.double()[:, None]
    expected = [(boxes[g] * weight[g]).sum(0) / weight[g].sum() for g in groups]
    assert torch.allclose(found, torch.stack(expected))


@pytest.mark.parametrize("name", SUPPRESSIONS)
def test_what_all_ways_share(name):
    boxes, scores, labels = scene(3, count=60)
    found, score, label = run(name, boxes, scores, labels, limit=7)
    assert len(found) == len(score) == len(label) == 7
    assert (score.diff() <= 0).all()
    assert (found.dtype, score.dtype, label.dtype) == (boxes.dtype, scores.dtype, torch.int64)
    alone = run(name, boxes[:0], scores[:0], labels[:0])
    assert [len(t) for t in alone] == [0, 0, 0]
    # Scores of 0 are candidates at threshold 0 and divide nothing by nothing.
    zeros = run(name, boxes, scores * 0, labels)
    assert torch.isfinite(zeros[0]).all()


@pytest.mark.parametrize("name", SUPPRESSIONS)
def test_select_applies_the_thresholds_of_classes_to_what_it_reports(name):
    boxes, scores, _ = scene(5, count=60)
    dense = torch.stack((scores, scores.flip(0)), 1)
    thresholds = torch.tensor([0.3, 0.6])
    _, score, label = select(boxes, dense, threshold=thresholds, nms=0.4, suppression=name)
    assert len(score) > 2
    assert (score >= thresholds[label]).all()


def test_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="suppression is 'hard': choose one of nms, agnostic"):
        run("hard", BOXES, [0.9, 0.8, 0.3], [0, 0, 0])
