"""What `train` refuses, and when: nothing to learn from, folders that are taken."""

from __future__ import annotations

import pytest
from filelock import FileLock

import frostbox as package
from frostbox.errors import SettingsError
from frostbox.pipeline import continued_settings
from tests.shapes import write_shapes

QUICK = ("--size", 64, "--epochs", 1, "--logger", "none")


@pytest.mark.parametrize("head", ["pyramid", "single"])
def test_one_photo_and_none_with_an_object_are_refused_before_a_step(head, frostbox, tmp_path):
    data = write_shapes(tmp_path / "data", train=4, val=2)
    common = ("train", data, "--head", head, *QUICK, "--cache", tmp_path / "cache")
    for xml in (data / "Annotations").iterdir():
        xml.write_text(xml.read_text().replace("<name>", "<difficult>1</difficult><name>"))
    refused = frostbox(*common, "--no-empty", "--no-difficult", "--out", tmp_path / "a")
    assert refused.status == 1
    assert "the training split has no object to learn from" in refused.err
    (data / "ImageSets/Main/train.txt").write_text("shape_000\n")
    refused = frostbox(*common, "--val-split", "none", "--out", tmp_path / "b")
    assert refused.status == 1
    assert "the training split has one usable image" in refused.err


def test_broken_photos_are_refused_with_features_that_are_reused_too(frostbox, tmp_path):
    data = write_shapes(tmp_path / "data", train=8, val=2)
    photos = sorted((data / "JPEGImages").iterdir())
    photos[3].write_bytes(b"broken")
    train = ("train", data, *QUICK, "--cache", tmp_path / "cache")
    assert frostbox(*train, "--out", tmp_path / "run").status == 0
    refused = frostbox(*train, "--strict", "--out", tmp_path / "strict")
    assert refused.status == 1
    assert "1 of 8 photos cannot be read, the first:" in refused.err
    for photo in photos[:8]:
        photo.write_bytes(b"broken")
    extract = ("extract", data, "--size", 64, "--out", tmp_path / "features")
    for _ in range(2):
        refused = frostbox(*extract)
        assert refused.status == 1
        assert "8 of 8 photos cannot be read, the first:" in refused.err


def test_a_folder_that_is_taken_is_refused_before_the_data_is_read(frostbox, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"a detector")
    words = ("train", tmp_path / "no-data", "--out", run)
    assert "already holds a run: go on with --resume" in frostbox(*words).err
    with FileLock(run / ".lock"):  # where another training is under way, neither is a way on
        assert f"another frostbox is training in {run}" in frostbox(*words).err
    assert "give one" in frostbox(*words, "--resume", "--overwrite").err
    assert (run / "best.safetensors").read_bytes() == b"a detector"


def test_names_that_are_mapped_again_may_not_contradict_the_detector(trained):
    detector = package.Detector.load(trained[0] / "run")
    detector.settings.rename.update({"car": "auto"})
    for given in ({}, {"rename": {}}, {"rename": {"bike": "velo"}}, {"rename": {"car": "auto"}}):
        merged = {"car": "auto", **given.get("rename", {})}
        assert continued_settings(detector, given)["rename"] == merged
    with pytest.raises(SettingsError, match="maps car to bus and the detector .* maps it to auto"):
        continued_settings(detector, {"rename": {"car": "bus"}})
