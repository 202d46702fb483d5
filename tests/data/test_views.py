"""Views: boxes follow pixels in every kind, and the same draw comes out everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.colour import apply_colour
from frostbox.data.targets import MIN_VISIBLE, targets
from frostbox.data.transforms import Geometry, apply_image, enough
from frostbox.data.views import MAX_VIEWS, DrawnView, MosaicView, first_views, view_from_json
from frostbox.errors import SettingsError

OUTPUT = (240, 208)
MODES = ("shrink", "letterbox", "crop")
VIEWS = first_views(MAX_VIEWS, (128, 120, 110))
MOSAIC = next(view for view in VIEWS if isinstance(view, MosaicView))
ZOOM_IN, ZOOM_OUT = (
    next(view for view in VIEWS if isinstance(view, DrawnView) and view.kind == kind)
    for kind in ("zoom-in", "zoom-out")
)
SIZES = st.tuples(st.integers(60, 400), st.integers(60, 400))
DRAWS = st.tuples(st.sampled_from(VIEWS), st.text(max_size=8), st.sampled_from(MODES), SIZES)


def annotated(
    size: tuple[int, int], boxes: list[tuple[float, ...]], *, difficult: bool = False
) -> DetectionSet:
    objects = tuple(ObjectAnnotation("cat", box, difficult=difficult) for box in boxes)
    image = ImageAnnotation("x", None, *size, objects, Path("x.xml"))
    return DetectionSet("one", Path(), "train", ("cat",), "the test", (image,))


def corners(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Normalised centre and size as xyxy in pixels."""
    pixels = torch.tensor(size * 2)
    return torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1) * pixels


@given(drawn=DRAWS, parts=st.sampled_from([2, 4]))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_a_picture_with_fewer_pixels_is_shown_in_the_same_place(drawn, parts: int) -> None:
    view, image_id, mode, (width, height) = drawn
    width, height = 6 * width, 6 * height
    mode = "letterbox" if mode == "letterbox" else "shrink"  # a crop shows every pixel
    geometry = view.geometry(image_id, mode, (width, height), OUTPUT)
    assume(enough([geometry]) <= 1 / parts)
    x = torch.linspace(0, 1, width).expand(height, width)
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    whole = (torch.stack((x, y, (x + y) / 2)) * 255).to(torch.uint8)
    size = [-(-height // parts), -(-width // parts)]
    few = F.resize(whole, size, antialias=True)
    expected = apply_image(whole, geometry).float()
    found = apply_image(few, geometry, reduced=True).float()
    # Half a pixel of the smaller picture, and the rounding of both.
    step = 0.5 * 255 / min(size) + 2
    left, top, right, bottom = geometry.shown()
    inside = (..., slice(max(0, top) + 1, bottom - 1), slice(max(0, left) + 1, right - 1))
    assert found.shape == expected.shape
    difference = (found - expected)[inside].abs()
    assert not difference.numel() or difference.max() <= step


@given(drawn=DRAWS, data=st.data())
def test_a_marker_lands_where_its_box_says(drawn, data: st.DataObject) -> None:
    view, image_id, mode, size = drawn
    geometry = view.geometry(image_id, mode, size, OUTPUT)
    left, top, right, bottom = geometry.window or (0, 0, *size)
    x1 = data.draw(st.integers(max(0, left - 20), (left + right) // 2))
    y1 = data.draw(st.integers(max(0, top - 20), (top + bottom) // 2))
    x2 = data.draw(st.integers(x1 + 1, min(size[0], right + 20)))
    y2 = data.draw(st.integers(y1 + 1, min(size[1], bottom + 20)))
    dataset = annotated(size, [(x1, y1, x2, y2)])
    boxes = targets(dataset.images[0], dataset, geometry, min_visible=0)["boxes"]
    assume(len(boxes))
    (box,) = corners(boxes, OUTPUT)
    assume((box[2:] - box[:2]).min() >= 24)  # whole pixels are found: half a pixel off a side
    image = torch.tensor([60, 90, 60], dtype=torch.uint8).view(3, 1, 1)
    image = image.repeat(1, size[1], size[0])
    image[:, y1:y2, x1:x2] = torch.tensor([220, 40, 60], dtype=torch.uint8).view(3, 1, 1)
    seen = apply_image(image, geometry)
    if colour := view.colour(image_id):
        seen = apply_colour(seen, colour, geometry.shown())
    redness = seen[0].int() - seen[1].int()
    rows, columns = torch.where(redness > redness.max() // 2)
    found = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    common = (torch.minimum(box[2:], found[2:]) - torch.maximum(box[:2], found[:2])).clamp(min=0)
    area = [(b[2:] - b[:2]).prod() for b in (box, found)]
    assert common.prod() / (sum(area) - common.prod()) > 0.9


BOX = st.tuples(*[st.floats(0, 1)] * 4)


@given(drawn=DRAWS, shares=st.lists(BOX, max_size=6), difficult=st.booleans())
def test_boxes_stay_inside_and_keep_their_flags(drawn, shares, difficult) -> None:
    view, image_id, mode, size = drawn
    geometry = view.geometry(image_id, mode, size, OUTPUT)
    boxes = []
    for a, b, c, d in shares:
        (x1, x2), (y1, y2) = sorted((a * size[0], c * size[0])), sorted((b * size[1], d * size[1]))
        boxes.append((x1, y1, x2, y2))
    dataset = annotated(size, boxes, difficult=difficult)
    kept = targets(dataset.images[0], dataset, geometry)
    inside = corners(kept["boxes"].double(), OUTPUT)
    shown = torch.tensor(geometry.shown())
    assert (inside[:, :2] >= shown[:2] - 1e-4).all()
    assert (inside[:, 2:] <= shown[2:] + 1e-4).all()
    assert (kept["boxes"] >= 0).all()
    assert (kept["boxes"] <= 1).all()
    assert kept["difficult"].tolist() == [difficult] * len(inside)


def test_an_object_with_too_little_left_is_no_target() -> None:
    window = (40, 0, 100, 100)
    shown = Geometry((100, 100), (60, 100), offset=(-40.0, 0.0), window=window)
    boxes = [(40 - hidden, 10, 50.0, 20) for hidden in (0, 29, 31)]
    dataset = annotated((100, 100), boxes)
    assert MIN_VISIBLE == 0.25  # 10 of 40 pixels of the width
    kept = corners(targets(dataset.images[0], dataset, shown)["boxes"], (60, 100))
    torch.testing.assert_close(kept, torch.tensor([[0.0, 10, 10, 20]] * 2))


@given(drawn=DRAWS)
def test_mirrored_views_have_mirrored_boxes_and_pixels(drawn) -> None:
    view, image_id, mode, size = drawn
    geometry = view.geometry(image_id, mode, size, OUTPUT)
    mirrored = replace(geometry, flip=not geometry.flip)
    boxes = torch.tensor([[3.0, 5.0, 50.0, 40.0]], dtype=torch.float64)
    one, other = geometry.apply(boxes)[0], mirrored.apply(boxes)[0]
    torch.testing.assert_close(one[[0, 2]], OUTPUT[0] - other[[2, 0]])
    assert torch.equal(one[[1, 3]], other[[1, 3]])
    torch.testing.assert_close(geometry.invert(one[None]), boxes)
    image = (torch.arange(3 * size[0] * size[1]) % 251).to(torch.uint8).view(3, size[1], size[0])
    assert torch.equal(apply_image(image, geometry), apply_image(image, mirrored).flip(2))
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


def test_the_first_two_are_the_image_and_its_flip() -> None:
    for mode in MODES:
        plain, flip = (view.geometry("a", mode, (300, 200), OUTPUT) for view in VIEWS[:2])
        assert replace(plain, flip=True) == flip
    assert [view.colour("a") for view in VIEWS[:2]] == [None, None]


@pytest.mark.parametrize("mode", MODES)
def test_zooms_stay_within_their_ranges_and_use_them(mode: str) -> None:
    size = (500, 400)
    whole = VIEWS[0].geometry("", mode, size, OUTPUT)
    zooms: dict[str, list[float]] = {"zoom-in": [], "zoom-out": []}
    flips = []
    for view in VIEWS:
        for k in range(80 * isinstance(view, DrawnView)):
            geometry = view.geometry(str(k), mode, size, OUTPUT)
            zoom = [a / b for a, b in zip(geometry.scale, whole.scale, strict=True)]
            assert 3 / 4.1 <= zoom[0] / zoom[1] <= 4.1 / 3
            zooms[view.kind].append((zoom[0] * zoom[1]) ** 0.5)
            flips.append(geometry.flip)
            colour = view.colour(str(k))
            assert 0.8 <= colour.brightness <= 1.2
            assert 0.7 <= colour.saturation <= 1.3
            assert abs(colour.hue) <= 0.02
    assert 0.99 <= min(zooms["zoom-in"]) < 1.15
    assert 2.2 < max(zooms["zoom-in"]) < 2.55
    assert 0.49 < min(zooms["zoom-out"]) < 0.55
    assert 0.9 < max(zooms["zoom-out"]) < 1.01
    assert 0.4 < sum(flips) / len(flips) < 0.6


def test_the_canvas_has_the_colour_of_the_view() -> None:
    image = torch.full((3, 90, 120), 7, dtype=torch.uint8)
    seen = apply_image(image, ZOOM_OUT.geometry("a", "shrink", (120, 90), OUTPUT))
    outside = seen[:, (seen != 7).any(0)]
    assert outside.shape[1] > 1000
    assert (outside == torch.tensor(ZOOM_OUT.fill)[:, None]).all()


def _everything() -> str:
    found = []
    for view in VIEWS:
        for k in range(20):
            geometry = view.geometry(f"img{k}", MODES[k % 3], (300 + k, 200), OUTPUT)
            colour = view.colour(f"img{k}")
            partners = view.partners(f"img{k}", 50)
            found.append([geometry.to_dict(), asdict(colour) if colour else None, partners])
    return json.dumps(found)


def test_another_process_draws_the_same() -> None:
    script = "from tests.data.test_views import _everything; print(_everything())"
    run = [sys.executable, "-c", script]
    there = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, check=True)
    assert there.stdout.decode().strip() == _everything()


def test_draws_differ_by_image_number_and_seed() -> None:
    for view in (ZOOM_IN, MOSAIC):
        others = (replace(view, number=view.number + 1), replace(view, seed=1))
        variants = [(view, "a"), (view, "b"), *((other, "a") for other in others)]
        assert len({v.geometry(i, "shrink", (500, 400), OUTPUT) for v, i in variants}) == 4
        drawn = {v.colour(i) or v.partners(i, 10**6) for v, i in variants}
        assert len(drawn) == 4


def test_a_draw_is_that_of_the_first_release() -> None:
    """A cache keeps what was drawn and not the result: another draw needs another version."""
    view = replace(ZOOM_IN, number=2)
    geometry = view.geometry("2007_000027", "shrink", (486, 500), (320, 320))
    assert (geometry.window, geometry.flip) == ((84, 49, 423, 364), True)
    colour = view.colour("2007_000027")
    assert colour is not None
    assert colour.brightness == pytest.approx(0.8737542392933754, rel=1e-12)


def test_small_pictures_and_wrong_counts() -> None:
    for view in VIEWS:
        for mode in MODES:
            geometry = view.geometry("a", mode, (3, 2), (64, 64))
            assert apply_image(torch.zeros((3, 2, 3), dtype=torch.uint8), geometry).shape[1] == 64
    assert [view.name for view in VIEWS[:5]] == [
        "original", "flip", "mosaic 2", "zoom-in 3", "mosaic 4",
    ]  # fmt: skip
    for count in (0, 17):
        with pytest.raises(SettingsError, match=f"views is {count}; it can be 1 .* up to 16"):
            first_views(count, (0, 0, 0))


@given(
    image_id=st.text(max_size=8), mode=st.sampled_from(MODES),
    sizes=st.lists(SIZES, min_size=4, max_size=4), seed=st.integers(0, 9),
)  # fmt: skip
def test_the_four_pictures_of_a_mosaic_tile_the_output(image_id, mode, sizes, seed) -> None:
    view = replace(MOSAIC, seed=seed)
    covered = torch.zeros(OUTPUT[::-1], dtype=torch.int64)
    for part, size in enumerate(sizes):
        geometry = view.geometry(image_id, mode, size, OUTPUT, part)
        left, top, right, bottom = geometry.shown()
        covered[top:bottom, left:right] += 1
        image = torch.full((3, size[1], size[0]), 250, dtype=torch.uint8)
        seen = apply_image(image, geometry)
        assert seen.shape[1:] == covered.shape
        assert (seen[:, top:bottom, left:right] == 250).all()
    assert (covered == 1).all()


def test_pictures_of_a_mosaic_keep_their_shape_and_their_sizes_vary() -> None:
    size = (500, 400)
    whole = VIEWS[0].geometry("", "letterbox", size, OUTPUT)
    sizes, flips = [], []
    for k in range(100):
        for part in range(4):
            geometry = MOSAIC.geometry(str(k), "letterbox", size, OUTPUT, part)
            zoom = [a / b for a, b in zip(geometry.scale, whole.scale, strict=True)]
            assert zoom[0] / zoom[1] == pytest.approx(1, abs=0.03)  # whole pixels of a part
            sizes.append(zoom[0])
            flips.append(geometry.flip)
    assert 0.5 < min(sizes) < 0.6
    assert 1.05 < max(sizes) < 1.15
    assert 0.4 < sum(flips) / len(flips) < 0.6


def test_any_photo_may_stand_beside_an_image() -> None:
    found = [MOSAIC.partners(str(k), 7) for k in range(100)]
    assert {len(partners) for partners in found} == {3}
    assert {k for partners in found for k in partners} == set(range(7))
    assert VIEWS[0].partners("a", 7) == ZOOM_IN.partners("a", 7) == ()


def test_views_come_back_from_json() -> None:
    for view in VIEWS:
        assert view_from_json(json.loads(json.dumps(asdict(view)))) == view
    for broken in ({"kind": "unknown"}, {**asdict(MOSAIC), "side": [1]}, {"name": "a", "b": 1}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            view_from_json(broken)
