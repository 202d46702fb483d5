"""What every head must do, and what single and grid say of themselves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss

from frostbox.errors import SettingsError
from frostbox.heads import FeatureSpec, create_head, head_names
from frostbox.losses import BOX_LOSSES, box_loss, pair_iou
from tests.heads.scenes import target

SPEC = FeatureSpec(strides=(32,), channels=(16,), sizes=((3, 5),))


@pytest.fixture(params=head_names())
def head(request):
    torch.manual_seed(0)
    return create_head(request.param, SPEC, 4)


def test_contract_shapes_and_ranges(head):
    encoded = head.encode([target((0.5, 0.5, 0.4, 0.4, 1)), target()])
    raw = head.eval()([torch.randn(2, 16, 3, 5)])
    assert all(len(t) == 2 for t in (*raw.values(), *encoded.values()))
    boxes, scores = head.decode(raw)
    assert boxes.shape == (2, scores.shape[1], 4)
    assert scores.shape[2] == 4
    assert boxes.min().item() >= 0
    assert boxes.max().item() <= 1
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert all(v.ndim == 0 for v in head.loss(raw, encoded).values())
    assert all(v.ndim == 1 for v in head.metrics(raw, encoded).values())


def test_a_batch_without_objects_has_a_finite_loss_and_gradients(head):
    head.train()
    encoded = head.encode([target(), target()])
    total = sum(head.loss(head([torch.randn(2, 16, 3, 5)]), encoded).values())
    total.backward()
    assert torch.isfinite(total)
    for parameter in head.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_decode_is_traceable(head):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head.eval()

        def forward(self, maps):
            return self.head.decode(self.head([maps]))

    exported = torch.export.export(Whole(), (torch.randn(2, 16, 3, 5),))
    traced = exported.module()
    other = torch.randn(2, 16, 3, 5)
    for got, want in zip(traced(other), head.decode(head([other])), strict=True):
        assert torch.allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("single", {"dropout": 0.0}),
        ("grid", {"dropout": 0.0}),
        ("single", {"dropout": 0.0, "class_loss": "focal", "focal_gamma": 5.0}),
        ("grid", {"dropout": 0.0, "class_loss": "focal"}),
    ],
)
def test_a_head_learns_a_handful_of_images_by_heart(name, options):
    torch.manual_seed(0)
    head = create_head(name, SPEC, 4, options)
    maps = torch.randn(4, 16, 3, 5)
    encoded = head.encode([target((0.2 + 0.2 * k, 0.5, 0.3, 0.4, k)) for k in range(4)])
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    head.train()
    for _ in range(150):
        optimizer.zero_grad()
        sum(head.loss(head([maps]), encoded).values()).backward()
        optimizer.step()
    figures = {k: v.mean().item() for k, v in head.eval().metrics(head([maps]), encoded).items()}
    assert figures["accuracy"] == 1.0
    assert figures["mean_iou"] > 0.6


def test_unknown_heads_and_settings_are_named():
    with pytest.raises(SettingsError, match="unknown head 'ssd'.*single, grid"):
        create_head("ssd", SPEC, 4)
    with pytest.raises(SettingsError, match="no setting 'colour'.*width"):
        create_head("grid", SPEC, 4, {"colour": 1})


# --- single -------------------------------------------------------------------------------------


def test_single_has_the_layers_of_the_practical():
    head = create_head("single", FeatureSpec((32,), (512,), ((7, 7),)), 20)
    names = [type(layer).__name__ for layer in head.regression]
    assert names == [
        "Flatten", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear", "Sigmoid",
    ]  # fmt: skip
    assert tuple(head.regression[2].weight.shape) == (1024, 512 * 7 * 7)
    assert tuple(head.classification[-1].weight.shape) == (20, 512 * 7 * 7)


def test_single_keeps_the_largest_object_and_marks_empty_images():
    head = create_head("single", SPEC, 4)
    encoded = head.encode([target((0.3, 0.3, 0.1, 0.1, 3), (0.5, 0.5, 0.4, 0.4, 1)), target()])
    assert encoded["labels"].tolist() == [1, 0]
    assert encoded["valid"].tolist() == [True, False]


def test_single_metrics_are_torchs_own():
    head = create_head("single", SPEC, 4).eval()
    boxes = torch.rand(8, 4) * 0.4 + 0.3
    encoded = head.encode([target((*b.tolist(), 2)) for b in boxes])
    raw = {"bboxes": torch.rand(8, 4) * 0.4 + 0.3, "logits": torch.randn(8, 4)}
    figures = {k: v.mean() for k, v in head.metrics(raw, encoded).items()}
    assert figures["smooth_l1"] == pytest.approx(
        torch.nn.SmoothL1Loss()(raw["bboxes"], boxes).item(), abs=1e-7
    )
    assert figures["l1"] == pytest.approx(F.l1_loss(raw["bboxes"], boxes).item(), abs=1e-7)
    assert figures["accuracy"] == (raw["logits"].argmax(-1) == 2).float().mean()


# --- grid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 10])
def test_grid_outputs_for_any_n(n):
    head = create_head("grid", FeatureSpec((32,), (16,), ((n, n),)), 20).eval()
    raw = head([torch.randn(2, 16, n, n)])
    assert raw["bboxes"].shape == (2, 4, n, n)
    assert raw["logits"].shape == (2, 21, n, n)


def test_grid_decoding_of_the_targets_gives_the_boxes():
    head = create_head("grid", SPEC, 4)
    encoded = head.encode([target((0.3, 0.4, 0.2, 0.3, 3))])
    logits = torch.full((1, 5, 3, 5), -20.0)
    row, column = encoded["has_obj"][0].nonzero()[0].tolist()
    logits[0, 3, row, column] = logits[0, 4, row, column] = 20.0
    boxes, scores = head.decode({"bboxes": encoded["bboxes"], "logits": logits})
    best = int(scores[0].max(-1).values.argmax())
    assert best == row * 5 + column
    assert boxes[0, best].tolist() == pytest.approx([0.2, 0.25, 0.4, 0.55])
    assert scores[0, best].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-6)


def test_grid_score_can_be_the_objectness_alone():
    raw = {"bboxes": torch.rand(1, 4, 3, 5), "logits": torch.randn(1, 5, 3, 5)}
    head = create_head("grid", SPEC, 4, {"score": "objectness"})
    _, scores = head.decode(raw)
    objectness = raw["logits"][0, -1].sigmoid().flatten()
    assert torch.allclose(scores[0].max(-1).values, objectness)
    assert ((scores[0] > 0).sum(-1) == 1).all()


def test_grid_loss_is_the_sum_of_its_definition():
    torch.manual_seed(1)
    head = create_head("grid", SPEC, 4, {"box_weight": 2.0, "box_loss": "smooth_l1"})
    encoded = head.encode([target((0.3, 0.4, 0.2, 0.3, 3), (0.9, 0.9, 0.1, 0.1, 0))])
    raw = {"bboxes": torch.rand(1, 4, 3, 5), "logits": torch.randn(1, 5, 3, 5)}
    host = encoded["has_obj"][0].bool()
    assert int(host.sum()) == 2
    losses = head.loss(raw, encoded)
    box = F.smooth_l1_loss(raw["bboxes"][0][:, host], encoded["bboxes"][0][:, host])
    assert losses["box_loss"] == pytest.approx(2 * box.item(), rel=1e-5)
    cross_entropy = F.cross_entropy(
        raw["logits"][0, :4][:, host].T, encoded["labels"][0][host].long()
    )
    assert losses["class_loss"] == pytest.approx(cross_entropy.item(), rel=1e-5)
    objectness = F.binary_cross_entropy_with_logits(raw["logits"][0, 4], host.float())
    assert losses["objectness_loss"] == pytest.approx(objectness.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["single", "grid"])
def test_focal_loss_with_gamma_0_is_cross_entropy_and_less_above(name):
    maps = torch.randn(2, 16, 3, 5)
    losses = []
    for options in ({}, {"class_loss": "focal", "focal_gamma": 0.0}, {"class_loss": "focal"}):
        torch.manual_seed(0)
        head = create_head(name, SPEC, 4, options).eval()
        encoded = head.encode([target((0.3, 0.4, 0.2, 0.3, k)) for k in (1, 3)])
        losses.append(head.loss(head([maps]), encoded)["class_loss"].item())
    assert losses[1] == pytest.approx(losses[0])
    assert losses[2] < losses[0]


# --- losses --------------------------------------------------------------------------------------


def test_box_losses_equal_their_libraries():
    a, b = torch.rand(9, 4) * 0.5 + 0.25, torch.rand(9, 4) * 0.5 + 0.25
    corners = [torch.cat((x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2), 1) for x in (a, b)]
    assert torch.allclose(pair_iou(a, b), box_iou(*corners).diagonal(), atol=1e-6)
    assert torch.allclose(box_loss("giou", a, b), generalized_box_iou_loss(*corners), atol=1e-6)
    assert torch.allclose(box_loss("smooth_l1", a, b).mean(), F.smooth_l1_loss(a, b))
    assert all(box_loss(name, a, b).shape == (9,) for name in BOX_LOSSES)
    with pytest.raises(SettingsError, match="unknown box loss 'l7'"):
        box_loss("l7", a, b)
