"""Task-aligned assignment against a slow reading of the paper, one image and object at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from frostbox.heads.assignment import task_aligned

POINTS = torch.cartesian_prod(torch.arange(0.1, 1, 0.2), torch.arange(0.1, 1, 0.2))
REACH = torch.tensor([0.1, 0.1])


def scene(seed, images=3, objects=7, classes=3):
    g = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        centre, size = torch.rand(*shape, 2, generator=g), torch.rand(*shape, 2, generator=g)
        return torch.cat((centre - size / 2, centre + size / 2), -1)

    truth_image = torch.randint(images, (objects,), generator=g).sort().values
    label = torch.randint(classes, (objects,), generator=g)
    predicted = boxes(images, len(POINTS))
    scores = torch.rand(images, len(POINTS), classes, generator=g)
    return predicted, scores, truth_image, boxes(objects), label


def slow(predicted, scores, truth_image, truth, label, topk):
    """{(image, point): (object, quality)} by loops."""
    wanted = {}
    for g, (x1, y1, x2, y2) in enumerate(truth.tolist()):
        image = int(truth_image[g])
        half = (max((x2 - x1) / 2, 0.1001), max((y2 - y1) / 2, 0.1001))
        candidates = []
        for a, (x, y) in enumerate(POINTS.tolist()):
            if abs(x - (x1 + x2) / 2) < half[0] and abs(y - (y1 + y2) / 2) < half[1]:
                iou = float(box_iou(truth[g : g + 1], predicted[image, a : a + 1]))
                value = float(scores[image, a, label[g]]) * iou**6
                candidates.append((value, iou, a))
        for value, iou, a in sorted(candidates, key=lambda c: -c[0])[:topk]:
            wanted.setdefault((image, a), []).append((iou, g, value))
    kept = {key: max(claims, key=lambda c: c[0]) for key, claims in wanted.items()}
    quality = {}
    for key, (_, g, value) in kept.items():
        mine = [(i, v) for i, other, v in kept.values() if other == g]
        top_iou, top_value = max(i for i, _ in mine), max(v for _, v in mine)
        quality[key] = (g, top_iou * (value / top_value if top_value > 1e-12 else 0.0))
    return quality


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 9, 30]))
def test_as_the_slow_reading(seed, topk):
    predicted, scores, image, truth, label = scene(seed)
    found = task_aligned(predicted, scores, POINTS, REACH, image, truth, label, topk=topk)
    expected = slow(predicted, scores, image, truth, label, topk)
    got = {
        (i, p): (t, q)
        for i, p, t, q in zip(
            found.image.tolist(), found.point.tolist(), found.truth.tolist(),
            found.quality.tolist(), strict=True,
        )
    }  # fmt: skip
    # Points without any overlap have no order; all others must be the same.
    for key, (g, quality) in expected.items():
        if quality > 1e-6:
            assert got[key][0] == g
            assert got[key][1] == pytest.approx(quality, abs=1e-4)
    # Where an object's best is below 1e-12 (an IoU of a hundredth), the slow reading gives it none.
    for key, (_, quality) in got.items():
        if quality > 1e-2:
            assert key in expected


def test_an_object_smaller_than_a_cell_gets_a_point():
    truth = torch.tensor([[0.19, 0.19, 0.21, 0.21]])  # between four points, none inside
    predicted = torch.rand(1, len(POINTS), 4).sort(-1).values
    found = task_aligned(
        predicted, torch.full((1, len(POINTS), 1), 0.5), POINTS, REACH, torch.tensor([0]), truth,
        torch.tensor([0]),
    )  # fmt: skip
    assert len(found.point) == 4


def test_without_objects_nothing_is_assigned():
    none = torch.zeros(0, dtype=torch.int64)
    found = task_aligned(
        torch.rand(2, len(POINTS), 4), torch.rand(2, len(POINTS), 3), POINTS, REACH, none,
        torch.zeros(0, 4), none,
    )  # fmt: skip
    assert len(found.point) == 0
