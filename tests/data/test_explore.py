"""The numbers of a data set: those that are published, and those of a data set made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frostbox.data.explore import explore
from frostbox.data.voc import read_voc
from tests.conftest import TinyVoc

ORDER = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
TRAIN = (
    470, 410, 592, 508, 749, 317, 1191, 609, 1457, 355, 373, 768, 377, 375, 5019, 557, 509, 399,
    327, 412,
)  # fmt: skip
VAL = (
    484, 380, 629, 491, 733, 320, 1173, 618, 1449, 347, 374, 773, 373, 376, 5110, 542, 485, 387,
    329, 414,
)  # fmt: skip


@pytest.mark.parametrize(
    ("split", "images", "counts"), [("train", 5717, TRAIN), ("val", 5823, VAL)]
)
def test_objects_per_class_of_voc2012(
    voc2012: Path, split: str, images: int, counts: tuple[int, ...]
) -> None:
    stats = explore(read_voc(voc2012, split))
    assert stats["images"] == images
    assert stats["objects_per_class"] == dict(zip(ORDER, counts, strict=True))
    assert stats["objects"] == sum(counts)


def test_histograms_of_voc2012(voc2012: Path) -> None:
    stats = explore(read_voc(voc2012, "train"))
    edges = [111, 149.9, 188.8, 227.7, 266.6, 305.5, 344.4, 383.3, 422.2, 461.1, 500]
    assert stats["height_histogram"] == {
        "edges": edges,
        "counts": [4, 15, 30, 51, 138, 1348, 2765, 181, 70, 1115],
    }
    assert stats["width_histogram"] == {
        "edges": edges,
        "counts": [1, 2, 5, 11, 43, 334, 607, 100, 55, 4559],
    }


def test_difficult_objects_of_voc2012(voc2012: Path) -> None:
    stats = explore(read_voc(voc2012, "trainval"))
    assert (stats["objects"], stats["objects"] - stats["difficult"]) == (31561, 27450)
    assert sum(stats["difficult_per_class"].values()) == stats["difficult"]


def test_missing_photos_of_voc2007(voc2007: Path) -> None:
    stats = explore(read_voc(voc2007, "trainval"))
    assert stats["images"] == 5011
    assert stats["missing_photos"] == len(stats["missing_photo_ids"])
    assert stats["occluded"] == 0


def test_a_data_set_made_by_hand(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(
        {
            "a": [("dog", (1, 1, 30, 20)), ("dog", (1, 1, 10, 40))],
            "b": [],
            "c": [("cat", (1, 1, 60, 40))],
        },
        splits={"train": "abc"},
    )
    (root / "JPEGImages" / "b.jpg").unlink()
    stats = explore(read_voc(root, "train", ["cat", "dog", "cow"]))
    assert json.loads(json.dumps(stats)) == stats
    assert (stats["images"], stats["objects"], stats["images_without_objects"]) == (3, 3, 1)
    assert (stats["missing_photos"], stats["missing_photo_ids"]) == (1, ["b"])
    assert stats["objects_per_class"] == {"cat": 1, "dog": 2, "cow": 0}
    assert stats["images_per_class"] == {"cat": 1, "dog": 1, "cow": 0}
    assert stats["boxes_per_image"] == {"0": 1, "1": 1, "2": 1}
    assert stats["mean_boxes_per_image"] == 1
    assert stats["relative_box_sizes"]["histogram"]["counts"] == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert stats["relative_box_sizes"]["quantiles"]["50"] == pytest.approx(0.5)
    assert stats["aspect_ratios"]["quantiles"] == pytest.approx(
        {"0": 0.25, "5": 0.375, "25": 0.875, "50": 1.5, "75": 1.5, "95": 1.5, "100": 1.5}
    )
    assert sum(stats["aspect_ratios"]["histogram"]["counts"]) == 3


def test_no_object_and_no_image(tiny_voc: TinyVoc) -> None:
    dataset = read_voc(tiny_voc({"a": []}), "train", ["dog"])
    stats = explore(dataset)
    assert stats["objects"] == 0
    assert stats["aspect_ratios"]["quantiles"] == {}
    assert explore(dataset.subset([]))["images"] == 0
