"""The anchors head from photos to boxes: its shapes come from the training boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import frostbox as package
from frostbox.data.anchors import size_iou
from frostbox.data.voc import load


@pytest.fixture(scope="module")
def run(shapes_voc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchors")
    package.train(
        shapes_voc, head="anchors", out=folder / "run", cache=folder / "cache", size=(96, 96),
        epochs=2, batch_size=8, width=16, kmeans=2,
    )  # fmt: skip
    return folder / "run"


def test_anchors_fitted_to_the_training_boxes_are_in_the_file(run, shapes_voc):
    anchors = package.Detector.load(run).head.settings.anchors
    assert len(anchors) == 6
    photos = load(shapes_voc, "train").photos
    sizes = [
        ((o.box[2] - o.box[0]) / p.width, (o.box[3] - o.box[1]) / p.height)
        for p in photos
        for o in p.objects
    ]
    assert size_iou(sizes, anchors).max(axis=1).mean() > 0.7
    stored = json.loads((run / "summary.json").read_text())["model"]["head_settings"]["anchors"]
    assert np.array(stored) == pytest.approx(np.array(anchors))


def test_suppression_on_the_command_line(run, shapes_voc, frostbox, tmp_path):
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg"

    def count(*options):
        result = frostbox("predict", run, photo, "--threshold", 0.001, "--json", "-", *options)
        assert result.status == 0
        return len(json.loads(result.out)[0]["detections"])

    every = count("--nms", "none")
    assert count("--suppression", "none") == every
    by_default = count()
    assert count("--suppression", "nms", "--nms", 0.5) == by_default
    assert count("--suppression", "agnostic") <= by_default <= every
    assert count("--suppression", "wbf") <= every
    evaluated = frostbox(
        "evaluate", run, shapes_voc, "--suppression", "soft-linear", "--bootstrap", 0, "--report",
        tmp_path / "page.html",
    )  # fmt: skip
    assert evaluated.status == 0
    assert "soft-linear, IoU 0.5" in (tmp_path / "page.html").read_text()
    wrong = frostbox("predict", run, photo, "--suppression", "hard")
    assert wrong.status == 1
    assert "suppression is 'hard': choose one of nms" in wrong.err
