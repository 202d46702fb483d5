"""Stages of a backbone: they give the backbone's own maps, and only what may learn learns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from frostbox import backbones
from frostbox.backbones.stages import Stages, _Convolution
from frostbox.errors import BackboneError, SettingsError

SIZE = 96
NETS = ["lite0", "lite2+conv_head", "resnet18", "convnext_atto"]


@pytest.fixture(scope="module", params=NETS)
def backbone(request: pytest.FixtureRequest) -> backbones.Backbone:
    weights = "auto" if "lite" in request.param else "random:1"
    return backbones.create(request.param, (8, 16, 32), weights)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.no_grad()
def test_stages_give_the_maps_of_the_backbone(backbone, photos, count: int) -> None:
    whole = backbone(backbone.normalise(photos))
    stages = Stages(backbone, count)
    assert stages.reads == (8, 16, 32)[: 3 - count]
    given = whole[: 3 - count] or [photos]
    for ours, theirs in zip(stages(given), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_step_changes_the_backbone_but_neither_norms_nor_depthwise_filters(photos) -> None:
    backbone = backbones.create("lite0", (8, 16, 32))
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with torch.no_grad():
        maps = backbone(backbone.normalise(photos))
    stages = Stages(backbone, 1).thaw()
    stages.train()  # as Lightning does
    learned = [p for p in stages.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1)
    stages(maps[:2])[-1].square().mean().backward()
    optimizer.step()
    stages.freeze()
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    kinds = {k: backbone.get_submodule(k.rpartition(".")[0]) for k in changed}
    assert changed
    assert all(isinstance(m, nn.Conv2d) and m.groups == 1 for m in kinds.values())
    # The last of the map's own convolutions and the first after the boundary both learn.
    assert any(m.out_channels == 320 for m in kinds.values())
    assert any(m.in_channels == 112 for m in kinds.values())
    assert not any(p.requires_grad for p in backbone.parameters())
    with torch.no_grad():
        after = backbone(backbone.normalise(photos))
    assert torch.equal(after[0], maps[0])
    assert torch.equal(after[1], maps[1])
    assert not torch.equal(after[2], maps[2])


@given(
    height=st.integers(5, 14), width=st.integers(5, 14), size=st.sampled_from([3, 5]),
    stride=st.integers(2, 3), same=st.booleans(), padding=st.integers(0, 3),
    seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_strided_depthwise_convolution_is_the_same_thinned_out(
    height: int, width: int, size: int, stride: int, same: bool, padding: int, seed: int
) -> None:
    kind = Conv2dSame if same else nn.Conv2d
    conv = kind(4, 4, size, stride, 0 if same else padding, groups=4, bias=False)
    generator = torch.Generator().manual_seed(seed)
    # Small whole numbers, whose sums bfloat16 holds exactly.
    conv.weight.data = torch.randint(-1, 2, conv.weight.shape, generator=generator).float()
    x = torch.randint(-2, 3, (2, 4, height, width), generator=generator).float()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = conv(x)
    weights = torch.randint(-1, 2, expected.shape, generator=generator)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        found = _Convolution(conv, None)(x)
        (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.float(), expected)
    assert torch.equal(gradient, wanted)
    assert torch.equal(_Convolution(conv, None)(x), expected)  # as it is without autocast


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("act", [False, True])
def test_a_frozen_norm_folded_into_its_convolution_changes_nothing(bias: bool, act: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, padding=1, bias=bias)
    norm = BatchNormAct2d(8, apply_act=False) if act else nn.BatchNorm2d(8)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    norm.eval()
    x = torch.rand(2, 6, 7, 5)
    both = [norm(conv(x)), _Convolution(conv, norm)(x)]
    torch.testing.assert_close(both[1], both[0])
    wanted, found = (torch.autograd.grad(y.square().sum(), conv.weight)[0] for y in both)
    torch.testing.assert_close(found, wanted)


def test_every_norm_of_a_lite_net_is_folded() -> None:
    stages = Stages(backbones.create("lite0", (16, 32), "random:0"), 1)
    folded = [m for m in stages.modules() if isinstance(m, _Convolution)]
    assert len(folded) > 10
    assert all(m.norm is not None for m in folded)


@pytest.mark.parametrize("name", ["convnext_atto", "lite0", "resnet18"])
def test_no_norm_learns_whoever_wrote_it(name: str) -> None:
    backbone = backbones.create(name, (8, 16, 32), "random:0")
    Stages(backbone, 3).thaw()
    kinds = {
        type(backbone.get_submodule(k.rpartition(".")[0])).__name__
        for k, p in backbone.named_parameters()
        if p.requires_grad
    }
    assert kinds
    assert all("Norm" not in kind for kind in kinds), kinds


@pytest.mark.parametrize("count", [0, 4])
def test_a_number_of_stages_that_is_not_there_is_refused(count: int) -> None:
    with pytest.raises(SettingsError, match="has 3 stages"):
        Stages(backbones.create("lite0", (8, 16, 32), "random:0"), count)


class _Crossing(nn.Module):
    """The second map needs the photo again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        a = self.first(x)
        return [a, self.second(torch.cat((a, x), 1))]


class _Branching(nn.Module):
    """Cannot be traced: it chooses by a value."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x if x.sum() > 0 else -x]


@pytest.mark.parametrize(("body", "strides"), [(_Crossing(), (8, 16)), (_Branching(), (8,))])
def test_a_net_that_is_no_chain_of_stages_is_refused(body, strides) -> None:
    channels = (4,) * len(strides)
    backbone = backbones.Backbone(
        body, name="odd", strides=strides, channels=channels, mean=(0.5,) * 3, std=(0.5,) * 3,
        weights="none",
    )  # fmt: skip
    with pytest.raises(BackboneError, match="odd cannot be cut into stages"):
        Stages(backbone, 1)
