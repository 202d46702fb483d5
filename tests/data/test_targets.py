"""Targets: the published examples to the digit, and the boxes that training sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frostbox import data
from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.targets import ClassicObject, encode_objects, preprocess_target, targets
from frostbox.data.transforms import geometry
from frostbox.data.voc import read_annotation, read_voc
from frostbox.errors import DataError, SettingsError

HORSE: ClassicObject = {
    "bndbox": {
        "cx": 0.524,
        "cy": 0.5735294117647058,
        "width": 0.836,
        "height": 0.753393665158371,
    },
    "class": 5,
}
PERSON: ClassicObject = {
    "bndbox": {
        "cx": 0.447,
        "cy": 0.23868778280542988,
        "width": 0.262,
        "height": 0.27828054298642535,
    },
    "class": 0,
}


def _object(cx: float, cy: float, width: float, height: float, label: int) -> ClassicObject:
    return {"bndbox": {"cx": cx, "cy": cy, "width": width, "height": height}, "class": label}


# The classic functions


def test_filter_largest() -> None:
    assert data.filter_largest([HORSE, PERSON]) is HORSE
    assert data.filter_largest([PERSON, HORSE]) is HORSE
    twin = _object(0.5, 0.5, 0.836, 0.753393665158371, 7)
    assert data.filter_largest([twin, HORSE]) is twin
    with pytest.raises(DataError, match="list of objects is empty"):
        data.filter_largest([])


def test_target_to_tensor() -> None:
    tensors = data.target_to_tensor(HORSE)
    assert set(tensors) == {"bboxes", "labels"}
    assert tensors["bboxes"].dtype == torch.float32
    assert tensors["labels"].dtype == torch.int64
    torch.testing.assert_close(
        tensors["bboxes"], torch.tensor([0.5240, 0.5735, 0.8360, 0.7534]), rtol=0, atol=5e-5
    )
    assert torch.equal(tensors["labels"], torch.tensor([5]))


def test_targets_to_grid_cell_tensor() -> None:
    objects = [_object(0.60, 0.65, 0.84, 0.75, 5), _object(0.40, 0.20, 0.26, 0.27, 0)]
    grid = data.targets_to_grid_cell_tensor(objects, 4)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in grid.items()} == {
        "bboxes": (torch.float32, (4, 4, 4)),
        "has_obj": (torch.uint8, (4, 4)),
        "labels": (torch.int32, (4, 4)),
    }
    boxes = torch.zeros(4, 4, 4)
    boxes[:, 2, 2] = torch.tensor([0.4, 0.6, 0.84, 0.75])
    boxes[:, 0, 1] = torch.tensor([0.6, 0.8, 0.26, 0.27])
    torch.testing.assert_close(grid["bboxes"], boxes)
    assert grid["has_obj"].nonzero().tolist() == [[0, 1], [2, 2]]
    assert grid["labels"].nonzero().tolist() == [[2, 2]]
    assert grid["labels"][2, 2] == 5


def test_the_larger_object_keeps_a_shared_cell() -> None:
    small, large = _object(0.6, 0.6, 0.1, 0.1, 1), _object(0.7, 0.7, 0.5, 0.5, 2)
    for objects in ([small, large], [large, small]):
        grid = data.targets_to_grid_cell_tensor(objects, 2)
        assert grid["labels"].tolist() == [[0, 0], [0, 2]]
        assert grid["has_obj"].sum() == 1
    first, second = _object(0.6, 0.6, 0.2, 0.1, 3), _object(0.7, 0.7, 0.1, 0.2, 4)
    assert data.targets_to_grid_cell_tensor([first, second], 1)["labels"].tolist() == [[3]]


def test_a_centre_on_the_far_edge_belongs_to_the_last_cell() -> None:
    grid = data.targets_to_grid_cell_tensor([_object(1.0, 1.0, 0.1, 0.1, 9)], 3)
    assert grid["has_obj"].nonzero().tolist() == [[2, 2]]
    assert grid["bboxes"][:2, 2, 2].tolist() == [1, 1]


def test_an_empty_grid_and_wrong_input() -> None:
    assert not any(t.any() for t in data.targets_to_grid_cell_tensor([], 7).values())
    with pytest.raises(SettingsError, match="num_cells is 0"):
        data.targets_to_grid_cell_tensor([], 0)
    for centre in (1.2, float("nan")):
        with pytest.raises(DataError, match="outside \\[0, 1\\]"):
            data.targets_to_grid_cell_tensor([_object(centre, 0.5, 0.1, 0.1, 0)], 7)


UNIT = st.floats(0, 1)


@given(cells=st.integers(1, 30), cx=UNIT, cy=UNIT)
def test_every_centre_comes_back_from_the_grid(cells: int, cx: float, cy: float) -> None:
    grid = data.targets_to_grid_cell_tensor([_object(cx, cy, 0.5, 0.25, 3)], cells)
    ((row, column),) = grid["has_obj"].nonzero().tolist()
    x, y, width, height = grid["bboxes"][:, row, column].tolist()
    assert 0 <= x <= 1
    assert 0 <= y <= 1
    assert (column + x) / cells == pytest.approx(cx, abs=1e-6)
    assert (row + y) / cells == pytest.approx(cy, abs=1e-6)
    assert (width, height) == (0.5, 0.25)


def _tree(*boxes: tuple[str, int, int, int, int]) -> dict[str, Any]:
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = [{"name": n, "bndbox": dict(zip(tags, box, strict=True))} for n, *box in boxes]
    return {"annotation": {"object": objects}}


def test_boxes_are_centre_and_size_of_the_raw_integers() -> None:
    tree = _tree(("horse", 53, 87, 471, 420), ("person", 158, 44, 289, 167))
    encoded = encode_objects(tree, data.classes, geometry("none", (500, 442)))
    for found, expected in zip(encoded, (HORSE, PERSON), strict=True):
        assert found["class"] == expected["class"]
        assert found["bndbox"] == pytest.approx(expected["bndbox"], rel=1e-14)
    # Squeezing changes no relative coordinate.
    squeezed = encode_objects(tree, data.classes, geometry("shrink", (500, 442), (224, 100)))
    assert squeezed[0]["bndbox"] == pytest.approx(HORSE["bndbox"])


def test_a_crop_clips_boxes_and_drops_those_outside() -> None:
    tree = _tree(("dog", 0, 0, 25, 100), ("cat", 10, 20, 50, 60), ("cow", 80, 0, 100, 100))
    encoded = encode_objects(tree, data.classes, geometry("crop", (100, 100), (50, 50)))
    # The crop is from 25 to 75: the dog touches it with its edge alone.
    assert encoded == [_object(0.25, 0.35, 0.5, 0.7, data.classes.index("cat"))]


def test_preprocessing_fills_in_what_is_absent() -> None:
    part = {"name": "head", "bndbox": {"xmin": "1.6", "ymin": "2", "xmax": "3", "ymax": "4"}}
    raw = {
        "name": "dog",
        "bndbox": {"xmin": "1", "ymin": "2", "xmax": "30", "ymax": "40"},
        "truncated": "1",
        "part": part,
    }
    tree = {"annotation": {"size": {"width": "60", "height": "40"}, "object": raw}}
    annotation = preprocess_target(tree)["annotation"]
    assert annotation["size"] == {"width": 60, "height": 40}
    assert annotation["segmented"] is False
    assert annotation["object"] == [
        {
            "name": "dog",
            "bndbox": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40},
            "truncated": True,
            "occluded": False,
            "difficult": False,
            "pose": "Unspecified",
            "part": [{"name": "head", "bndbox": {"xmin": 2, "ymin": 2, "xmax": 3, "ymax": 4}}],
        }
    ]
    assert raw["truncated"] == "1"
    assert preprocess_target({"annotation": {}})["annotation"]["object"] == []
    wrong = {"annotation": {"filename": "i.jpg", "size": {"depth": "unknown"}}}
    with pytest.raises(DataError, match=r"i\.jpg: size/depth is 'unknown'"):
        preprocess_target(wrong)


def test_the_first_item_of_voc2012(voc2012: Path) -> None:
    path = voc2012 / "Annotations" / "2008_000008.xml"
    annotation = preprocess_target(read_annotation(path))["annotation"]
    assert annotation["size"] == {"width": 500, "height": 442, "depth": 3}
    assert annotation["segmented"] is False
    horse, person = annotation["object"]
    assert horse["bndbox"] == {"xmin": 53, "ymin": 87, "xmax": 471, "ymax": 420}
    assert person["bndbox"] == {"xmin": 158, "ymin": 44, "xmax": 289, "ymax": 167}
    assert (horse["name"], horse["pose"], horse["occluded"], horse["truncated"]) == (
        "horse", "Left", True, False,
    )  # fmt: skip
    assert (person["name"], person["occluded"], person["truncated"]) == ("person", False, True)


def test_185_images_of_voc2012_keep_no_box_in_a_crop(voc2012: Path) -> None:
    empty = 0
    for image in read_voc(voc2012, "trainval").images:
        found = geometry("crop", (image.width, image.height), (224, 224))
        tree = preprocess_target(read_annotation(image.source))
        empty += not encode_objects(tree, data.classes, found)
    assert empty == 185


# The path of training


def _set(*objects: ObjectAnnotation) -> DetectionSet:
    image = ImageAnnotation("i", None, 100, 50, objects, Path("i.xml"))
    return DetectionSet("set", Path(), "train", ("cat", "dog"), "--classes", (image,))


def test_training_targets_are_normalised_after_the_transform() -> None:
    dataset = _set(ObjectAnnotation("dog", (10, 10, 30, 50)), ObjectAnnotation("cat", (0, 0, 1, 1)))
    found = targets(dataset.images[0], dataset, geometry("shrink", (100, 50), (32, 32)))
    expected = torch.tensor([[0.2, 0.6, 0.2, 0.8], [0.005, 0.01, 0.01, 0.02]])
    torch.testing.assert_close(found["boxes"], expected)
    assert found["boxes"].dtype == torch.float32
    assert found["labels"].tolist() == [1, 0]
    assert found["labels"].dtype == torch.int64
    assert found["difficult"].tolist() == [False, False]
    assert found["difficult"].dtype == torch.bool

    flipped = targets(
        dataset.images[0], dataset, geometry("shrink", (100, 50), (32, 32), flip=True)
    )
    torch.testing.assert_close(flipped["boxes"][0], torch.tensor([0.8, 0.6, 0.2, 0.8]))


def test_a_letterbox_moves_boxes_by_its_padding() -> None:
    dataset = _set(ObjectAnnotation("dog", (0, 0, 100, 50)))
    found = targets(dataset.images[0], dataset, geometry("letterbox", (100, 50), (64, 64)))
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.5, 0.5, 1.0, 0.5]]))


def test_boxes_of_which_too_little_is_visible_are_dropped() -> None:
    # The crop keeps x from 25 to 75.
    dataset = _set(
        ObjectAnnotation("dog", (5, 0, 32, 50)),
        ObjectAnnotation("cat", (5, 0, 31, 50)),
        ObjectAnnotation("cat", (0, 0, 25, 50)),
    )
    crop = geometry("crop", (100, 50), (50, 50))
    found = targets(dataset.images[0], dataset, crop)
    assert found["labels"].tolist() == [1]
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.07, 0.5, 0.14, 1.0]]))
    assert targets(dataset.images[0], dataset, crop, min_visible=0)["labels"].tolist() == [1, 0]


def test_difficult_objects_can_be_left_out() -> None:
    dataset = _set(
        ObjectAnnotation("dog", (5, 5, 9, 9), difficult=True), ObjectAnnotation("cat", (1, 1, 9, 9))
    )
    same = geometry("none", (100, 50))
    assert targets(dataset.images[0], dataset, same)["difficult"].tolist() == [True, False]
    assert targets(dataset.images[0], dataset, same, difficult=False)["labels"].tolist() == [0]


def test_an_image_without_objects_has_empty_tensors() -> None:
    dataset = _set()
    found = targets(dataset.images[0], dataset, geometry("none", (100, 50)))
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "boxes": (0, 4), "labels": (0,), "difficult": (0,),
    }  # fmt: skip
    assert found["boxes"].dtype == torch.float32
    assert found["labels"].dtype == torch.int64


def test_a_geometry_of_another_size_is_refused() -> None:
    dataset = _set()
    with pytest.raises(SettingsError, match=r"i\.xml is 100 x 50 pixels"):
        targets(dataset.images[0], dataset, geometry("none", (50, 100)))


@given(st.data())
def test_boxes_stay_inside_the_output(draws: st.DataObject) -> None:
    x = sorted(draws.draw(st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True)))
    y = sorted(draws.draw(st.lists(st.integers(0, 50), min_size=2, max_size=2, unique=True)))
    dataset = _set(ObjectAnnotation("dog", (x[0], y[0], x[1], y[1])))
    mode = draws.draw(st.sampled_from(["none", "shrink", "crop", "letterbox"]))
    found = geometry(mode, (100, 50), (40, 60), flip=draws.draw(st.booleans()))
    boxes = targets(dataset.images[0], dataset, found)["boxes"]
    corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    assert (corners > -1e-6).all()
    assert (corners < 1 + 1e-6).all()
    assert (boxes[:, 2:] > 0).all()
