"""Class losses against their formulas, and against the libraries where they coincide."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from frostbox.errors import SettingsError
from frostbox.losses import (
    CLASS_LOSSES,
    DENSE_LOSSES,
    class_loss,
    dense_class_loss,
    distribution_focal_loss,
    quality_focal_loss,
    softmax_focal_loss,
    varifocal_loss,
)


@pytest.fixture
def scored():
    g = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(12, 5, generator=g)).requires_grad_()
    return logits, torch.randint(5, (12,), generator=g)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_softmax_focal_is_its_formula(scored, gamma):
    logits, labels = scored
    p = logits.softmax(-1)[torch.arange(12), labels]
    expected = -((1 - p) ** gamma) * p.log()
    assert torch.allclose(softmax_focal_loss(logits, labels, gamma=gamma), expected, atol=1e-6)
    alpha = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.3])
    weighed = softmax_focal_loss(logits, labels, gamma=gamma, alpha=alpha)
    assert torch.allclose(weighed, alpha[labels] * expected, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gamma_0_is_cross_entropy_and_a_tiny_gamma_almost(scored, smoothing):
    logits, labels = scored
    alpha = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.3])
    for weight in (None, alpha):
        expected = F.cross_entropy(
            logits, labels, weight, reduction="none", label_smoothing=smoothing
        )
        for gamma, tolerance in ((0.0, 1e-6), (1e-5, 1e-3)):
            loss = softmax_focal_loss(
                logits, labels, gamma=gamma, alpha=weight, label_smoothing=smoothing
            )
            assert torch.allclose(loss, expected, atol=tolerance)


def test_focal_of_a_sure_class_has_a_finite_gradient():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = softmax_focal_loss(logits, torch.tensor([0, 0]), gamma=0.5)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0, 400])
    assert torch.isfinite(logits.grad).all()


def test_class_losses_by_name(scored):
    logits, labels = scored
    cross_entropy = F.cross_entropy(logits, labels, reduction="none")
    assert torch.equal(class_loss("ce", logits, labels, gamma=5.0), cross_entropy)
    focal = softmax_focal_loss(logits, labels, gamma=5.0)
    assert torch.equal(class_loss("focal", logits, labels, gamma=5.0), focal)
    assert all(class_loss(name, logits, labels).shape == (12,) for name in CLASS_LOSSES)
    with pytest.raises(SettingsError, match="unknown class loss 'hinge'"):
        class_loss("hinge", logits, labels)


def test_qualities_one_and_zero_make_every_dense_loss_a_plain_one():
    logits, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    p = logits.sigmoid()[0].tolist()
    positive, negative = -math.log(p[0]), -math.log(1 - p[1])

    def total(name):
        return dense_class_loss(name, logits, target).sum().item()

    assert total("ce") == pytest.approx(positive + negative)
    assert total("varifocal") == pytest.approx(positive + 0.75 * p[1] ** 2 * negative)
    one_off = (1 - p[0]) ** 2 * positive
    assert total("quality") == pytest.approx(one_off + p[1] ** 2 * negative)
    assert total("focal") == pytest.approx(0.25 * one_off + 0.75 * p[1] ** 2 * negative)


def test_dense_losses_of_qualities_between():
    logits, target = torch.tensor([0.4, -0.7]), torch.tensor([0.6, 0.3])
    p = logits.sigmoid()
    ce = -target * p.log() - (1 - target) * (1 - p).log()
    assert torch.allclose(varifocal_loss(logits, target), target * ce)
    assert torch.allclose(quality_focal_loss(logits, target), (target - p) ** 2 * ce)
    assert torch.allclose(quality_focal_loss(logits, target, gamma=0.0), ce)
    assert torch.allclose(dense_class_loss("ce", logits, target), ce)
    focal = dense_class_loss("focal", logits, target, gamma=5.0, alpha=0.6)
    assert torch.allclose(focal, sigmoid_focal_loss(logits, torch.ones(2), 0.4, 5.0))
    assert len(DENSE_LOSSES) == 4
    with pytest.raises(SettingsError, match="unknown class loss 'hinge'"):
        dense_class_loss("hinge", logits, target)


def test_quality_focal_loss_of_gamma_2_has_the_gradient_of_its_formula():
    torch.manual_seed(0)
    logits = (3 * torch.randn(40, 3, dtype=torch.float64)).requires_grad_()
    target = torch.rand(40, 3, dtype=torch.float64) * (torch.rand(40, 3) < 0.5)
    weight = torch.rand(40, 3, dtype=torch.float64)
    p = logits.sigmoid()
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    formula = (target - p).abs().pow(2) * entropy
    found = quality_focal_loss(logits, target)
    assert torch.allclose(found, formula)
    expected, given = (
        torch.autograd.grad((weight * loss).sum(), logits, retain_graph=True)[0]
        for loss in (formula, found)
    )
    assert torch.allclose(given, expected, rtol=1e-9, atol=1e-12)


def test_quality_losses_are_lowest_at_the_quality():
    logits = torch.linspace(-5, 5, 2001)
    for loss in (varifocal_loss, quality_focal_loss):
        best = logits[loss(logits, torch.full((2001,), 0.7)).argmin()]
        assert best.sigmoid().item() == pytest.approx(0.7, abs=0.01)


def test_distribution_focal_loss_by_hand():
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    # 1.25 lies between 1 (weight 3/4) and 2 (weight 1/4).
    found = distribution_focal_loss(p.log(), torch.tensor([1.25])).item()
    assert found == pytest.approx(-0.75 * math.log(0.2) - 0.25 * math.log(0.3))
    ends = distribution_focal_loss(p.log().expand(4, 4), torch.tensor([0.0, 3.0, -2.0, 9.0]))
    sure = [-math.log(0.1), -math.log(0.4)]
    assert ends.tolist() == pytest.approx(sure * 2)


def test_distribution_focal_loss_teaches_the_mean():
    logits = torch.zeros(1, 8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(150):
        optimizer.zero_grad()
        distribution_focal_loss(logits, torch.tensor([4.3])).sum().backward()
        optimizer.step()
    mean = (logits.softmax(-1) * torch.arange(8)).sum()
    assert mean.item() == pytest.approx(4.3, abs=0.05)
