"""Slow: the demo with the plan of an idle machine, and real photos from end to end."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import frostbox as package
from frostbox.data.voc import load
from frostbox.demo import SHEET_IMAGES, run_demo

pytestmark = pytest.mark.slow


def test_the_demo_learns_from_real_features(capsys, tmp_path):
    # The command has a budget of time; with its plan of an idle machine the result is of no clock.
    run_demo(
        tmp_path / "demo", compare_random=True, epochs=13, size=(320, 320), views=2,
        batch_size=32, lr=4e-3, thaw="none",
    )  # fmt: skip
    out = capsys.readouterr().out
    numbers = json.loads((tmp_path / "demo" / "demo.json").read_text())
    pretrained, random = numbers["evaluation"].values()
    assert pretrained["ap50"] > 0.35
    assert pretrained["ap50"] > random["ap50"] + 0.25
    assert len(pretrained["ap50_per_class"]) == 20
    assert SHEET_IMAGES >= 12
    assert min(Image.open(numbers["sheet"]).size) > 1000
    for column in ("stage", "seconds", "AP50", "random weights", "mean"):
        assert column in out
    detector = package.Detector.load(numbers["detector"])
    data = load(tmp_path / "demo" / "data", "val")
    found = detector.predict([image.photo for image in data.photos[:20]], threshold=0.1)
    assert sum(map(len, found)) > 0


@pytest.fixture
def small_voc(voc2007, tmp_path):
    """300 photos of train and 150 of val, through links."""
    root = tmp_path / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (root / name).symlink_to(voc2007 / name)
    for split, count in (("train", 300), ("val", 150)):
        ids = (voc2007 / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def test_the_single_head_on_300_real_photos(small_voc, frostbox, tmp_path):
    result = frostbox(
        "train", small_voc, "--head", "single", "--set", "pooled=true", "--epochs", 10,
        "--out", tmp_path / "run", "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.status == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    # Always naming the most frequent class is right for less than a third of the images.
    assert summary["evaluation"]["accuracy"] > 0.5
    assert summary["evaluation"]["mean_iou"] > 0.3
    assert summary["evaluation"]["smooth_l1"] < 0.02


def test_the_grid_head_on_300_real_photos(small_voc, frostbox, tmp_path):
    result = frostbox(
        "train", small_voc, "--head", "grid", "--epochs", 15, "--batch-size", 16, "--set", "neck=1",
        "--out", tmp_path / "run", "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.status == 0
    measured = json.loads(frostbox("evaluate", tmp_path / "run", small_voc, "--json", "-").out)
    assert measured["ap50"] > 0.03
    assert measured["accuracy"] > 0.4
    assert measured["images"] == 150


def test_the_defaults_on_300_real_photos(small_voc, frostbox, tmp_path):
    result = frostbox("train", small_voc, "--out", tmp_path / "run", "--cache", tmp_path / "cache")
    assert result.status == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["model"]["head"] == "pyramid"
    assert summary["evaluation"]["ap50"] > 0.15
    assert summary["evaluation"]["mean_iou"] > 0.5
    assert summary["calibration"]["ece_after"] < summary["calibration"]["ece_before"]
