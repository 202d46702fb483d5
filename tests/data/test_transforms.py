"""Geometry: what the image transform does to pixels is what it does to boxes."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop
from torchvision.transforms.v2 import Resize
from torchvision.transforms.v2 import functional as F

from frostbox.data.transforms import MODES, Geometry, apply_image, geometry
from frostbox.errors import SettingsError

# torch cannot resize uint8 to 1 x 1 with antialiasing (an internal assertion of 2.15 fails).
SIDE = st.integers(2, 60)
SIZES = st.tuples(SIDE, SIDE)
GEOMETRIES = st.builds(
    geometry, st.sampled_from(MODES), SIZES, SIZES, flip=st.booleans()
)  # fmt: skip
VALUE = st.floats(-100, 5000, allow_nan=False)


def _noise(size: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (3, size[1], size[0]), dtype=torch.uint8, generator=generator
    )  # fmt: skip


@given(found=GEOMETRIES, box=st.tuples(VALUE, VALUE, VALUE, VALUE))
def test_invert_is_the_inverse_of_apply(
    found: Geometry, box: tuple[float, float, float, float]
) -> None:
    boxes = torch.tensor([box], dtype=torch.float64)
    torch.testing.assert_close(found.invert(found.apply(boxes)), boxes, rtol=1e-9, atol=1e-7)
    assert found.apply(torch.zeros((0, 4))).shape == (0, 4)


@given(found=GEOMETRIES)
def test_a_geometry_travels_as_json(found: Geometry) -> None:
    assert Geometry.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@given(found=GEOMETRIES)
def test_the_image_gets_the_output_size(found: Geometry) -> None:
    image = apply_image(_noise(found.original), found)
    assert image.shape == (3, found.output[1], found.output[0])
    assert image.dtype == torch.uint8


@given(original=SIZES, output=SIZES)
def test_crop_is_torchvisions_centre_crop(
    original: tuple[int, int], output: tuple[int, int]
) -> None:
    image = _noise(original)
    expected = CenterCrop((output[1], output[0]))(image)
    assert torch.equal(apply_image(image, geometry("crop", original, output)), expected)


@given(found=GEOMETRIES.filter(lambda g: g.scale == (1.0, 1.0)), data=st.data())
def test_a_box_follows_its_pixel(found: Geometry, data: st.DataObject) -> None:
    x = data.draw(st.integers(0, found.original[0] - 1))
    y = data.draw(st.integers(0, found.original[1] - 1))
    image = torch.zeros((3, found.original[1], found.original[0]), dtype=torch.uint8)
    image[:, y, x] = 255
    x1, y1, x2, y2 = found.apply(torch.tensor([[x, y, x + 1, y + 1]]).double())[0].tolist()
    moved = apply_image(image, found)
    inside = min(x1, y1) >= 0 and x2 <= found.output[0] and y2 <= found.output[1]
    assert bool((moved == 255).any()) == inside
    if inside:
        assert (moved[:, int(y1), int(x1)] == 255).all()


def test_shrink_and_width_before_height() -> None:
    found = geometry("shrink", (100, 50), (20, 40))
    assert found.apply(torch.tensor([[0.0, 0.0, 100.0, 50.0], [50.0, 25.0, 75.0, 50.0]])).tolist() \
        == [[0, 0, 20, 40], [10, 20, 15, 40]]  # fmt: skip
    image = _noise((100, 50))
    expected = Resize((40, 20), antialias=True)(image)
    assert torch.equal(apply_image(image, found), expected)


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_grey() -> None:
    found = geometry("letterbox", (100, 50), (64, 64))
    assert found.scale == (0.64, 0.64)
    assert found.offset == (0, 16)
    image = apply_image(torch.full((3, 50, 100), 200, dtype=torch.uint8), found)
    assert (image[:, :16] == 114).all()
    assert (image[:, 48:] == 114).all()
    assert (image[:, 16:48] == 200).all()


def test_flip_mirrors_boxes_and_pixels() -> None:
    found = geometry("none", (100, 50), flip=True)
    assert found.apply(torch.tensor([[10.0, 5.0, 30.0, 9.0]])).tolist() == [[70, 5, 90, 9]]
    image = _noise((100, 50))
    assert torch.equal(apply_image(image, found), image.flip(-1))


@pytest.mark.parametrize("mode", MODES)
def test_pil_images_stay_pil_and_agree_with_tensors(mode: str) -> None:
    smooth = F.resize(_noise((6, 4)), [64, 96])
    found = geometry(mode, (96, 64), (40, 60))
    picture = apply_image(F.to_pil_image(smooth), found)
    assert isinstance(picture, Image.Image)
    assert picture.size == found.output
    difference = F.pil_to_tensor(picture).int() - apply_image(smooth, found).int()
    assert difference.abs().max() <= 2


def test_wrong_settings() -> None:
    with pytest.raises(SettingsError, match="'squash' is unknown; choose one of none, shrink"):
        geometry("squash", (10, 10), (5, 5))
    with pytest.raises(SettingsError, match="needs an output size"):
        geometry("crop", (10, 10))
    with pytest.raises(SettingsError, match="at least 1 pixel"):
        geometry("crop", (10, 10), (0, 5))
    with pytest.raises(SettingsError, match="is 10 x 20 pixels and the geometry is for 20 x 10"):
        apply_image(_noise((10, 20)), geometry("none", (20, 10)))
