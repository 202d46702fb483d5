"""Colours: torchvision's factors in one matrix, rounded the same whatever computes it."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from frostbox.data.colour import Colour, apply_colour

GENERATOR = torch.Generator().manual_seed(0)
# Values that no change below cuts off at 0 or 255: torchvision cuts after each of its steps.
SOFT = torch.randint(70, 170, (3, 37, 53), dtype=torch.uint8, generator=GENERATOR)


def _difference(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_factors_are_torchvisions(factor: float) -> None:
    for colour, expected in (
        (Colour(brightness=factor), F.adjust_brightness(SOFT, factor)),
        (Colour(contrast=factor), F.adjust_contrast(SOFT, factor)),
        (Colour(saturation=factor), F.adjust_saturation(SOFT, factor)),
    ):
        # torchvision cuts decimals off where this rounds, and weighs green by 0.587 of 0.9999.
        assert _difference(apply_colour(SOFT, colour), expected) <= 1
    both = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(SOFT, 1.1), 0.9), factor)
    assert _difference(apply_colour(SOFT, Colour(1.1, 0.9, factor)), both) <= 3


def test_nothing_to_change_changes_nothing() -> None:
    noise = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=GENERATOR)
    assert torch.equal(apply_colour(noise, Colour()), noise)


def test_hue_turns_colours_and_leaves_greys_and_luminance() -> None:
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(apply_colour(grey, Colour(hue=0.3)), grey)
    red = torch.tensor([150, 60, 60], dtype=torch.uint8).view(3, 1, 1)
    third = apply_colour(red, Colour(hue=1 / 3)).flatten().tolist()
    assert sorted(range(3), key=third.__getitem__)[-1] == 1  # a third of a turn: green
    luma = torch.tensor([[0.299, 0.587, 0.114]])
    for hue in (-0.05, 0.02, 0.05):
        turned = apply_colour(SOFT, Colour(hue=hue))
        torch.testing.assert_close(
            luma @ turned.flatten(1).float(), luma @ SOFT.flatten(1).float(), rtol=0, atol=1
        )
    for hue in (-0.02, 0.02):  # HSV's way round: red towards yellow, by about as much
        (_, green, blue), (_, hsv_green, hsv_blue) = (
            changed.flatten().tolist()
            for changed in (apply_colour(red, Colour(hue=hue)), F.adjust_hue(red, hue))
        )
        assert 0.5 < (green - blue) / (hsv_green - hsv_blue) < 2


def test_a_part_changes_as_if_it_were_alone() -> None:
    colour = Colour(1.1, 0.9, 1.2, 0.01)
    expected = SOFT.clone()
    expected[:, 5:30, 10:40] = apply_colour(SOFT[:, 5:30, 10:40].contiguous(), colour)
    before = SOFT.clone()
    assert torch.equal(apply_colour(SOFT, colour, (10, 5, 40, 30)), expected)
    assert torch.equal(SOFT, before)


def test_values_are_cut_to_a_byte() -> None:
    image = torch.tensor([0, 100, 250], dtype=torch.uint8).expand(3, 1, 3)
    assert apply_colour(image, Colour(brightness=1.5))[0, 0].tolist() == [0, 150, 255]
    assert apply_colour(image, Colour(contrast=1.5)).amin() == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_neither_threads_nor_memory_format_change_a_bit(threads: int) -> None:
    big = torch.randint(0, 256, (3, 301, 401), dtype=torch.uint8, generator=GENERATOR)
    colour = Colour(1.13, 0.87, 1.21, 0.017)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = apply_colour(big, colour)
        torch.set_num_threads(threads)
        channels_last = big.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        assert torch.equal(apply_colour(channels_last, colour), expected)
    finally:
        torch.set_num_threads(before)
