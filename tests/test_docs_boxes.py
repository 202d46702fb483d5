"""The tables of docs/boxes.md are what its XML gives."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image
from torchvision import datasets

from frostbox.data.voc import read_voc
from frostbox.metrics import pairing, voc

PAGE = (Path(__file__).parent.parent / "docs" / "boxes.md").read_text(encoding="utf-8")
XML = re.search(r"```xml\n(.*?)```", PAGE, re.S).group(1)
TREE = ElementTree.fromstring(XML)
RAW = np.array(
    [
        [float(o.find(f"bndbox/{tag}").text) for tag in ("xmin", "ymin", "xmax", "ymax")]
        for o in TREE.findall("object")
    ]
)
DIFFICULT = np.array([o.find("difficult").text == "1" for o in TREE.findall("object")])
PIXELS = RAW - [1, 1, 0, 0]


def ultralytics(raw):
    """Normalised centre and size, as its converter writes them, back to corners in pixels."""
    size = np.array([float(TREE.find(f"size/{tag}").text) for tag in ("width", "height")])
    centre = ((raw[:, :2] + raw[:, 2:]) / 2 - 1) / size
    extent = (raw[:, 2:] - raw[:, :2]) / size
    return np.concatenate([(centre - extent / 2) * size, (centre + extent / 2) * size], axis=1)


READINGS = {
    "frostbox": PIXELS,
    "Detectron2": np.concatenate([RAW[:, :2] - 1.0, RAW[:, 2:]], axis=1),
    "torchvision": RAW,
    "MMDetection": RAW - 1,
    "Ultralytics": ultralytics(RAW),
}
IGNORED, ORDINARY, DROPPED = "ignored in evaluation", "ordinary objects", "dropped"


def rows(title):
    """{loader: cells} of the table whose header starts with the given cells."""
    table = PAGE.split(title)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


CONVENTIONS = rows("| loader | rule |")
FIGURES = rows("| loader | learnt from it")


def boxes(box, difficult=None):
    count = len(box)
    return voc.Boxes(
        image=np.zeros(count, int),
        box=box,
        label=np.zeros(count, int),
        score=np.linspace(0.9, 0.5, count),
        difficult=np.zeros(count, bool) if difficult is None else difficult,
    )


def ap(found, truth, threshold):
    return f"{voc.evaluate(found, truth, 1, threshold).mean_ap:.3f}"


def test_every_loader_is_in_both_tables():
    assert list(CONVENTIONS) == list(FIGURES) == list(READINGS)


@pytest.mark.parametrize("loader", READINGS)
def test_boxes_and_ious(loader):
    _, small, iou, _ = CONVENTIONS[loader]
    box = READINGS[loader][3:4]
    assert small == "(" + ", ".join(f"{v:g}" for v in np.round(box[0], 9)) + ")"
    assert iou == f"{pairing.pair_iou(box, PIXELS[3:4])[0]:.3f}"


@pytest.mark.parametrize("loader", READINGS)
def test_figures(loader):
    treatment, read = CONVENTIONS[loader][3], READINGS[loader]
    learnt = [ap(boxes(read), boxes(PIXELS, DIFFICULT), t) for t in (0.5, 0.75, 0.95)]
    truth = {
        IGNORED: boxes(read, DIFFICULT),
        ORDINARY: boxes(read),
        DROPPED: boxes(read[~DIFFICULT]),
    }[treatment]
    # Widths and heights plus 1 are the maxima plus 1.
    more = [0, 0, 1, 1] if loader == "MMDetection" else [0, 0, 0, 0]
    truth = replace(truth, box=truth.box + more)
    perfect = [ap(boxes(PIXELS + more), truth, t) for t in (0.5, 0.75)]
    assert FIGURES[loader] == learnt + perfect


@pytest.fixture
def root(tmp_path):
    year = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    (year / "Annotations" / "000001.xml").write_text(XML)
    (year / "ImageSets" / "Main" / "train.txt").write_text("000001\n")
    Image.new("RGB", (500, 375)).save(year / "JPEGImages" / "000001.jpg")
    return tmp_path


def test_torchvision_reads_so(root):
    dataset = datasets.wrap_dataset_for_transforms_v2(datasets.VOCDetection(root, "2012", "train"))
    target = dataset[0][1]
    np.testing.assert_array_equal(target["boxes"].numpy(), READINGS["torchvision"])
    assert set(target) == {"boxes", "labels"}


def test_frostbox_reads_so(root):
    objects = read_voc(root, "train").images[0].objects
    assert [o.box for o in objects] == [tuple(box) for box in READINGS["frostbox"]]
    assert [o.difficult for o in objects] == DIFFICULT.tolist()
