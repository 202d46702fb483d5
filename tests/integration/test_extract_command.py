"""`extract`: one cache where it is told, or one among those from which `train` learns."""

from __future__ import annotations

import pytest


def test_extract_resumes_and_refuses_another_backbone(shapes_voc, frostbox, tmp_path):
    command = ("extract", shapes_voc, "--size", 64, "--views", 5, "--out", tmp_path / "c")
    assert "48 images x 5 views" in frostbox(*command).err
    assert "48 images x 5 views" in frostbox(*command).err
    other = frostbox(*command, "--backbone", "lite1")
    assert other.status == 1
    assert "backbone is efficientnet_lite0, not efficientnet_lite1" in other.err
    sized = frostbox("extract", shapes_voc, "--size", 96, "--views", 2, "--out", tmp_path / "c")
    assert sized.status == 1
    assert "image size" in sized.err


def test_train_finds_what_extract_left_among_its_caches(shapes_voc, frostbox, tmp_path):
    cache = ("--cache", tmp_path / "caches")
    words = ("extract", shapes_voc, "--size", 64, "--strides", "8,16,32", *cache)
    for more, told in ((("--views", 2), "48 images x 2"), (("--split", "val"), "16 images x 1")):
        assert told in frostbox(*words, *more).err
        again = frostbox(*words, *more)
        assert told in again.err
        assert "extracting" not in again.err
    assert frostbox("cache", "list", *cache).out.count("efficientnet_lite0") == 2
    trained = frostbox(
        "train", shapes_voc, "--size", 64, "--views", 2, "--epochs", 1, *cache,
        "--out", tmp_path / "run", "--logger", "none",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    for split in ("train", "val"):
        assert f"features of '{split}' reused from {tmp_path}/caches" in trained.err
    assert "extracting" not in trained.err


@pytest.mark.parametrize("places", [(), ("--out", "a", "--cache", "b")])
def test_extract_wants_one_place(shapes_voc, frostbox, places):
    refused = frostbox("extract", shapes_voc, *places)
    assert refused.status == 1
    assert "give --out for the folder of this cache, or --cache for a folder of" in refused.err
