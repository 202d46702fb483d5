"""The development kit's result files: the format to the letter, round trips, faulty lines."""

from __future__ import annotations

import numpy as np
import pytest

from frostbox.errors import DataError, NotFoundError
from frostbox.metrics import kit_files, voc
from tests.metrics.scenes import random_scene

IDS = [f"{n:06d}" for n in range(12)]
NAMES = ("cat", "dog", "hen")


def test_a_line_is_in_the_kits_pixels(tmp_path):
    # 0-based continuous (0, 9, 20.5, 30) is 1-based inclusive (1, 10, 20.5, 30).
    one = voc.Boxes(
        image=np.array([2]),
        box=np.array([[0, 9, 20.5, 30]]),
        label=np.array([1]),
        score=np.array([0.25]),
        difficult=np.array([False]),
    )
    paths = kit_files.write_results(tmp_path / "out", one, IDS, NAMES)
    assert [p.name for p in paths] == [f"comp4_det_test_{name}.txt" for name in NAMES]
    assert [p.read_text() for p in paths] == ["", "000002 0.25 1.0 10.0 20.5 30.0\n", ""]


@pytest.mark.parametrize("seed", range(5))
def test_round_trip_keeps_boxes_scores_and_ap(tmp_path, seed):
    detections, truth = random_scene(seed)
    detections = voc.Boxes(
        detections.image,
        detections.box / 3,
        detections.label,
        detections.score.astype(np.float32).astype(float),
        detections.difficult,
    )
    truth = voc.Boxes(truth.image, truth.box / 3, truth.label, truth.score, truth.difficult)
    kit_files.write_results(tmp_path, detections, IDS, NAMES, competition="comp3", split="val")
    back = kit_files.read_results(tmp_path, IDS, NAMES, competition="comp3", split="val")
    by_class = np.argsort(detections.label, kind="stable")
    expected = voc.take(detections, by_class)
    np.testing.assert_array_equal(back.image, expected.image)
    np.testing.assert_array_equal(back.label, expected.label)
    np.testing.assert_array_equal(back.score, expected.score)
    np.testing.assert_allclose(back.box, expected.box, rtol=0, atol=1e-12)
    for ours, theirs in zip(
        voc.evaluate(back, truth, 3).classes,
        voc.evaluate(detections, truth, 3).classes,
        strict=True,
    ):
        assert (ours.ap, ours.ap_11point) == (theirs.ap, theirs.ap_11point)


def test_other_peoples_files_are_read(tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text(
        "000001 1e-3 1 1 5 5\n\n000000\t.5 2 2 3 4\r\n"
    )
    found = kit_files.read_results(tmp_path, IDS, ("cat",))
    assert found.image.tolist() == [1, 0]
    assert found.score.tolist() == [0.001, 0.5]
    assert found.box.tolist() == [[0, 0, 5, 5], [1, 1, 3, 4]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001 0.5 1 1 5", "line 2: 5 fields instead of six"),
        ("000001 0.5 1 1 5 x", "line 2: .*'x'"),
        ("000001 nan 1 1 5 5", "line 2: .*finite"),
        ("999999 0.5 1 1 5 5", "line 2: image '999999' is not in the split"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, message):
    (tmp_path / "comp4_det_test_cat.txt").write_text(f"000001 0.5 1 1 5 5\n{line}\n")
    with pytest.raises(DataError, match=message):
        kit_files.read_results(tmp_path, IDS, ("cat",))


def test_a_missing_class_is_named(tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("")
    with pytest.raises(NotFoundError, match="comp4_det_test_dog.txt does not exist"):
        kit_files.read_results(tmp_path, IDS, NAMES)
