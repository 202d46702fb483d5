from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from frostbox.boxes import cell_of, decode_grid, encode_grid, select

unit = st.floats(0, 1, width=32)
box = st.tuples(unit, unit, st.floats(0.03125, 1, width=32), st.floats(0.03125, 1, width=32))


@settings(max_examples=200, deadline=None)
@given(box, st.integers(1, 20), st.integers(1, 20))
def test_decoding_gives_the_encoded_box_back(values, rows, columns):
    encoded, has_obj, labels = encode_grid(torch.tensor([values]), torch.tensor([7]), rows, columns)
    cell = int(has_obj.flatten().argmax())
    decoded = decode_grid(encoded[None])[0, cell]
    assert decoded.tolist() == pytest.approx(values, abs=1e-6)
    assert int(has_obj.sum()) == 1
    assert int(labels.flatten()[cell]) == 7


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=10), st.integers(1, 9))
def test_every_centre_lies_in_its_cell(centres, n):
    row, column = cell_of(torch.tensor(centres), n, n)
    for (cx, cy), i, j in zip(centres, row.tolist(), column.tolist(), strict=True):
        assert 0 <= i < n
        assert 0 <= j < n
        # A cell holds its lower edge, and the last one its upper edge as well.
        assert j <= cx * n <= j + 1
        assert i <= cy * n <= i + 1


def test_a_centre_at_one_belongs_to_the_last_cell():
    row, column = cell_of(torch.tensor([[1.0, 1.0]]), 4, 7)
    assert (row.item(), column.item()) == (3, 6)


def test_the_larger_box_keeps_a_shared_cell_and_the_first_of_equals():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.51, 0.5, 0.6, 0.6], [0.5, 0.51, 0.6, 0.6]])
    encoded, has_obj, labels = encode_grid(boxes, torch.tensor([0, 1, 2]), 1, 1)
    assert labels.item() == 1
    assert has_obj.sum() == 1
    assert encoded[:, 0, 0].tolist() == pytest.approx([0.51, 0.5, 0.6, 0.6])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.integers(1, 4))
def test_selection_equals_batched_nms(seed, count, classes):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator)), 1)
    scores = torch.rand(count, classes, generator=generator)
    kept, score, label = select(boxes, scores, threshold=0.4, nms=0.5)

    above = (scores >= 0.4).nonzero()
    flat_boxes, flat_labels = boxes[above[:, 0]], above[:, 1]
    flat_scores = scores[above[:, 0], above[:, 1]]
    expected = batched_nms(flat_boxes, flat_scores, flat_labels, 0.5)
    assert torch.equal(score, flat_scores[expected])
    assert torch.equal(kept, flat_boxes[expected])
    assert torch.equal(label, flat_labels[expected])


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 5), st.integers(1, 50))
def test_only_the_best_candidates_are_looked_at_the_first_of_equal_ones(seed, count, classes, most):
    g = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 4, generator=g)
    scores = torch.randint(0, 8, (count, classes), generator=g) / 7  # many are equal
    found, found_scores, labels = select(
        boxes, scores, threshold=0.2, nms=None, max_candidates=most, max_detections=1000
    )
    every = [(-float(s), k) for k, s in enumerate(scores.flatten()) if s >= 0.2]
    best = [k for _, k in sorted(every)[:most]]
    assert torch.equal(found, boxes[[k // classes for k in best]].reshape(-1, 4))
    assert labels.tolist() == [k % classes for k in best]
    assert found_scores.tolist() == [float(scores.flatten()[k]) for k in best]


def test_selection_without_nms_keeps_duplicates_by_score_and_limits_them():
    boxes = torch.tensor([[0.0, 0, 1, 1]] * 4)
    scores = torch.tensor([[0.3], [0.9], [0.5], [0.1]])
    _, score, _ = select(boxes, scores, threshold=0.2, nms=None)
    assert score.tolist() == pytest.approx([0.9, 0.5, 0.3])
    _, score, _ = select(boxes, scores, threshold=0.0, nms=None, max_detections=2)
    assert score.tolist() == pytest.approx([0.9, 0.5])
    _, score, _ = select(boxes, scores, threshold=0.2, nms=0.5)
    assert score.tolist() == pytest.approx([0.9])


def test_selection_of_nothing():
    boxes, score, label = select(torch.zeros(3, 4), torch.zeros(3, 2), threshold=0.1, nms=0.5)
    assert boxes.shape == (0, 4)
    assert len(score) == len(label) == 0
