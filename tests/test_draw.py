"""Pictures: boxes where they belong, sheets of the right size, plots that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frostbox.data.explore import explore
from frostbox.data.voc import CLASSES, read_voc
from frostbox.draw import annotated_samples, class_colour, contact_sheet, draw_boxes
from frostbox.errors import DataError
from frostbox.plots import explore_plots
from tests.conftest import TinyVoc


def _near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 40


def test_a_frame_lies_on_its_box() -> None:
    grey = Image.new("RGB", (200, 150), (120, 120, 120))
    drawn = draw_boxes(grey, [[50, 60, 120, 130]], ["dog"], chips=False)
    assert drawn.size == grey.size
    assert drawn.mode == "RGB"
    hit = _near(np.asarray(drawn), class_colour("dog"))
    rows, columns = np.nonzero(hit)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 60, 119, 129)
    assert not hit[70:120, 60:110].any()
    assert np.asarray(grey).std() == 0


def test_the_ground_truth_style_has_gaps() -> None:
    grey = Image.new("RGB", (200, 150), (120, 120, 120))
    boxes = [[10, 10, 90, 140], [110, 10, 190, 140]]
    drawn = np.asarray(draw_boxes(grey, boxes, ["dog"] * 2, chips=False, dashed=[True, False]))
    hit = _near(drawn, class_colour("dog"))
    assert 0.3 < hit[10, 10:90].mean() < 0.7
    assert hit[10, 112:188].all()


@pytest.mark.parametrize("size", [(1, 1), (24, 16), (60, 500), (3000, 2000)])
def test_chips_stay_inside_pictures_of_any_size(size: tuple[int, int]) -> None:
    box = [[0, 0, *size], [-50, -50, size[0] + 50, 5], [size[0] - 1, 0, size[0] + 9, size[1]]]
    drawn = draw_boxes(Image.new("RGB", size), box, ["a very long class name"] * 3, [0.5] * 3)
    assert drawn.size == size


def test_no_box_and_boxes_without_area() -> None:
    image = Image.new("RGB", (40, 30), (9, 9, 9))
    assert np.array_equal(draw_boxes(image, np.zeros((0, 4)), []), image)
    assert np.array_equal(draw_boxes(image, [[5, 5, 5, 9], [90, 90, 99, 99]], ["a", "b"]), image)


def test_fit_scales_picture_and_boxes() -> None:
    grey = Image.new("L", (400, 300), 120)
    drawn = draw_boxes(grey, [[100, 120, 240, 260]], ["dog"], chips=False, fit=(200, 200))
    assert drawn.size == (200, 150)
    rows, columns = np.nonzero(_near(np.asarray(drawn), class_colour("dog")))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 60, 119, 129)


def test_numbers_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in number"):
        draw_boxes(Image.new("RGB", (9, 9)), [[0, 0, 5, 5]], ["a", "b"])


def test_colours_are_distinct_and_stable() -> None:
    colours = np.array([class_colour(name) for name in CLASSES]).astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert distance[~np.eye(20, dtype=bool)].min() > 40
    assert class_colour("newt") == class_colour("newt")
    assert class_colour("newt", ["newt"]) == class_colour("person")


def test_a_sheet_has_room_for_all() -> None:
    pictures = [Image.new("RGB", (50 + 400 * k, 100), (0, 0, 200)) for k in range(5)]
    sheet = contact_sheet(
        pictures, [f"picture {k} " * 9 for k in range(5)], columns=2, cell=(200, 150), title="Five"
    )
    assert sheet.width == 14 + 2 * (200 + 14)
    assert sheet.height == 52 + 3 * (150 + 26 + 14)
    assert contact_sheet(pictures[:1], cell=(200, 150)).size == (228, 178)
    with pytest.raises(DataError, match="no picture"):
        contact_sheet([])


def test_samples_are_the_same_for_the_same_seed(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    dataset = read_voc(root, "train")
    first, second = (annotated_samples(dataset, 2, seed=3) for _ in range(2))
    assert np.array_equal(first, second)
    (root / "JPEGImages" / "a.jpg").write_bytes(b"broken")
    assert annotated_samples(dataset, 2).width < first.width
    with pytest.raises(DataError, match="no picture"):
        annotated_samples(dataset.subset(dataset.images[:1]), 2)


def test_plots(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    for objects in (None, {"e": []}):
        root = tiny_voc(objects, name="full" if objects is None else "empty", photos=False)
        paths = explore_plots(explore(read_voc(root, "train", CLASSES)), tmp_path / "plots")
        assert [path.name for path in paths] == [
            "objects_per_class.png", "image_sizes.png", "boxes_per_image.png", "box_shapes.png",
        ]  # fmt: skip
        for path in paths:
            with Image.open(path) as plot:
                assert plot.width >= 1000
