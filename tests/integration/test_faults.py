"""Whatever goes wrong, made to happen: disks, files, the clock, a loss that is no number."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import frostbox as package
from frostbox.errors import CheckpointError
from frostbox.extraction import _kind_before
from frostbox.features import extract as extract_module
from frostbox.features.cache import FeatureCache
from frostbox.features.index import INDEX_FILE, CacheIndex
from frostbox.steps import HeadModule
from tests.damage import spoil_loss
from tests.shapes import write_shapes
from tests.tiny import tiny

SMALL = ("--size", 64, "--batch-size", 16, "--head", "grid", "--logger", "none")


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of 40 MB; a function that mounts it again read-only, or writable."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(*options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=40m", *options)), "none", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")

    try:
        mounted()
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    try:
        yield place, lambda *options: mounted("remount", *options)
    finally:
        # Lazily: a traceback that pytest keeps may still hold a shard that is mapped.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space of a disk."""
    full = pytest.raises(OSError, match="No space left on device")
    with (folder / "filler").open("wb", buffering=0) as file, full:
        while True:
            file.write(bytes(1 << 20))
    return folder / "filler"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != ".lock"}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Three shards of photos."""
    return write_shapes(tmp_path_factory.mktemp("large") / "VOC2012", train=80, val=2)


@pytest.fixture(scope="module")
def features(large, tmp_path_factory):
    """A function that copies a cache of `large`, and the words that made it."""
    kept = tmp_path_factory.mktemp("features")

    def words(out):
        return ("extract", large, "--out", out, "--size", 64, "--engine", "torch", "--views", 2)

    def copied(frostbox, out, monkeypatch):
        # Real shards hold 64 MiB; these have 32 photos.
        monkeypatch.setattr(extract_module, "images_per_shard", lambda _nbytes: 32)
        if not (kept / "c").exists():
            assert frostbox(*words(kept / "c")).status == 0
        shutil.copytree(kept / "c", out)
        return out, words(out)

    return copied


def test_a_shard_with_a_flipped_bit_is_made_again_and_no_other(
    frostbox, features, tmp_path, monkeypatch
):
    cache, words = features(frostbox, tmp_path / "c", monkeypatch)
    before, numbers = files(cache), {p.name: p.stat().st_ino for p in cache.iterdir()}
    spoiled = bytearray(before["shard-00001.safetensors"])
    spoiled[len(spoiled) // 2] ^= 1
    (cache / "shard-00001.safetensors").write_bytes(spoiled)
    assert FeatureCache.complete(cache)  # its size and header are as they were
    result = frostbox(*words)
    assert result.status == 0, result.err
    assert "shard-00001.safetensors is damaged: its sha256 is not the index's" in result.err
    assert files(cache) == before
    changed = [n for n, number in numbers.items() if (cache / n).stat().st_ino != number]
    assert sorted(changed) == [INDEX_FILE, "shard-00001.safetensors"]


@pytest.mark.parametrize("loss", ["deleted", "emptied", "flipped"])
def test_without_its_index_a_cache_is_made_again(frostbox, features, tmp_path, monkeypatch, loss):
    cache, words = features(frostbox, tmp_path / "c", monkeypatch)
    before, index = files(cache), cache / INDEX_FILE
    if loss == "deleted":
        index.unlink()
    else:
        text = index.read_text()
        index.write_text("" if loss == "emptied" else text.replace("shape_003", "shape_103", 1))
    result = frostbox(*words)
    assert result.status == 0, result.err
    assert "nothing says what its shards hold, and they are extracted again" in result.err
    assert files(cache) == before


@pytest.mark.slow
def test_a_damaged_cache_does_not_stop_a_training(shapes_voc, frostbox, tmp_path):
    cache = tmp_path / "cache"
    words = ("train", shapes_voc, *SMALL, "--epochs", 2, "--cache", cache)
    assert frostbox(*words, "--out", tmp_path / "a").status == 0
    (shard,) = cache.glob("*/train-*/shard-00000.safetensors")
    spoiled = bytearray(shard.read_bytes())
    spoiled[-100] ^= 64
    shard.write_bytes(spoiled)
    result = frostbox(*words, "--out", tmp_path / "b")
    assert result.status == 0, result.err
    assert "is damaged: its sha256" in result.err
    assert_equal(tmp_path / "a", tmp_path / "b")


def assert_equal(a, b):
    first, second = (package.Detector.load(run).state_dict() for run in (a, b))
    assert all(torch.equal(v, second[k]) for k, v in first.items())


def test_the_engine_that_began_goes_on(frostbox, features, tmp_path, monkeypatch):
    cache, _ = features(frostbox, tmp_path / "c", monkeypatch)
    paths = [tmp_path / "nowhere", cache]
    assert _kind_before(paths[:1], "cpu") == "auto"
    assert _kind_before(paths, "cpu") == "torch"
    assert _kind_before(paths, "cuda") == "auto"
    index = CacheIndex.read(cache)
    other = tmp_path / "other"
    other.mkdir()
    made = [replace(shard, engine="OpenVINO 2026.1, float32 on cpu") for shard in index.shards]
    index.with_shards(made).write(other)
    assert _kind_before([other], "cpu") == "openvino"
    assert _kind_before([other, cache], "cpu") == "auto"


def test_a_disk_that_fills_up_within_an_extraction(frostbox, features, disk, tmp_path, monkeypatch):
    whole, _ = features(frostbox, tmp_path / "whole", monkeypatch)
    place, _ = disk
    _, words = features(frostbox, place / "c", monkeypatch)
    shutil.rmtree(place / "c")
    original = extract_module.ShardWriter._take

    def filling(self, shard, image, loaded):
        if image.image_id == "shape_050" and not (place / "filler").exists():
            fill(place)
        return original(self, shard, image, loaded)

    with monkeypatch.context() as patch:
        patch.setattr(extract_module.ShardWriter, "_take", filling)
        result = frostbox(*words)
    assert result.status == 1
    assert "the disk is full: this run of the feature cache" in result.err
    assert "make room and run the same command again" in result.err
    (place / "filler").unlink()
    assert frostbox(*words).status == 0
    assert files(place / "c") == files(whole)


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_training_keeps_its_weights(
    shapes_voc, frostbox, disk, tmp_path, monkeypatch
):
    place, _ = disk
    words = ("train", shapes_voc, *SMALL, "--set", "width=16", "--epochs", 3, "--cache",
             tmp_path / "cache")  # fmt: skip
    assert frostbox(*words, "--out", tmp_path / "whole").status == 0
    original = HeadModule.training_step

    def filling(self, batch, index):
        if self.global_step == 4:  # of the second epoch
            fill(place)
        return original(self, batch, index)

    monkeypatch.setattr(HeadModule, "training_step", filling)
    result = frostbox(*words, "--out", place / "run")
    monkeypatch.undo()
    assert result.status == 1
    assert result.err.count("error:") == 1
    assert "cannot be written (No space left on device)" in result.err, result.err
    assert "go on with --resume" in result.err
    (place / "filler").unlink()
    assert not list((place / "run").glob("*.tmp"))
    result = frostbox("train", shapes_voc, "--out", place / "run", "--cache", tmp_path / "cache",
                      "--resume")  # fmt: skip
    assert result.status == 0, result.err
    assert_equal(tmp_path / "whole", place / "run")


def test_a_disk_too_small_for_a_detector_keeps_the_old_one(disk):
    place, _ = disk
    old = tiny("grid").save(place / "best.safetensors").read_bytes()
    fill(place)
    with pytest.raises(CheckpointError, match=r"cannot be written \(.*No space left on device"):
        tiny("grid", seed=1).save(place / "best.safetensors")
    assert (place / "best.safetensors").read_bytes() == old
    assert sorted(path.name for path in place.iterdir()) == ["best.safetensors", "filler"]


def test_a_disk_too_small_for_a_conversion_leaves_nothing(frostbox, large, disk):
    place, _ = disk
    filler = fill(place)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 200_000)
    result = frostbox("convert", large, place / "yolo", "--to", "yolo", "--copy")
    assert result.status == 1
    assert "No space left on device; check the path, its permissions and free space" in result.err
    assert [path.name for path in place.iterdir()] == ["filler"]
    filler.unlink()
    assert frostbox("convert", large, place / "yolo", "--to", "yolo", "--copy").status == 0


@pytest.mark.slow
def test_what_is_read_only_is_read_and_what_must_be_written_is_refused(
    shapes_voc, frostbox, disk, tmp_path
):
    place, again = disk
    words = ("train", shapes_voc, *SMALL, "--epochs", 1)
    first = frostbox(*words, "--cache", place / "cache", "--out", tmp_path / "a")
    assert first.status == 0, first.err
    again("ro")
    # Cached features need no writing, so a disk that others share may be read-only.
    result = frostbox(*words, "--cache", place / "cache", "--out", tmp_path / "b")
    assert result.status == 0, result.err
    assert result.err.count("reused from") == 2
    for refused in (
        frostbox(*words, "--cache", tmp_path / "c", "--out", place / "run"),
        frostbox(*words, "--views", 3, "--cache", place / "cache", "--out", tmp_path / "d"),
        frostbox("extract", shapes_voc, "--size", 64, "--out", place / "features"),
        frostbox("convert", shapes_voc, place / "coco", "--to", "coco"),
    ):
        assert refused.status == 1
        assert refused.err.count("error:") == 1
        assert "Read-only file system" in refused.err
        assert "Traceback" not in refused.err


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_nothing(
    shapes_voc, frostbox, features, tmp_path, monkeypatch
):
    cache, words = features(frostbox, tmp_path / "c", monkeypatch)
    before = files(cache)
    (cache / "shard-00001.safetensors").unlink()
    train = ("train", shapes_voc, *SMALL, "--cache", tmp_path / "cache")
    assert frostbox(*train, "--epochs", 2, "--out", tmp_path / "a").status == 0
    # All that was written lies ten years ahead, and the process believes in the year 2001.
    later = time.time() + 10 * 365 * 86400
    for path in (*cache.iterdir(), *tmp_path.rglob("cache/**/*"), *(tmp_path / "a").iterdir()):
        os.utime(path, (later, later))
    monkeypatch.setattr(time, "time", lambda: 1e9)
    result = frostbox(*words)
    assert result.status == 0, result.err
    assert files(cache) == before
    again = frostbox(*train, "--epochs", 2, "--out", tmp_path / "b")
    assert again.status == 0, again.err
    assert again.err.count("reused from") == 2
    assert_equal(tmp_path / "a", tmp_path / "b")
    resumed = frostbox("train", shapes_voc, "--out", tmp_path / "a", "--cache", tmp_path / "cache",
                       "--resume")  # fmt: skip
    assert resumed.status == 0, resumed.err


@pytest.mark.slow
def test_a_loss_that_explodes_stops_the_run_and_keeps_the_weights_from_before(
    shapes_voc, frostbox, tmp_path, monkeypatch
):
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    spoil_loss(monkeypatch, 7, float("nan"))
    result = frostbox("train", shapes_voc, *SMALL, "--epochs", 4, "--out", run, *cache)
    monkeypatch.undo()
    assert result.status == 1
    assert "error: the loss is nan in epoch 3 of 4, batch 2 of 3 (images shape_0" in result.err
    assert result.err.count("shape_0") == 8
    assert "and 8 more)" in result.err
    assert f"best.safetensors has the weights from before; to go on from them, give --start {run}" \
        in result.err  # fmt: skip
    assert not list(run.rglob("*.tmp"))
    whole = frostbox("train", shapes_voc, *SMALL, "--epochs", 4, "--out", tmp_path / "2", *cache)
    assert whole.status == 0, whole.err
    # What is kept is usable, and the way out that the message shows is one.
    kept = package.Detector.load(run).state_dict()
    assert all(v.isfinite().all() for v in kept.values() if v.is_floating_point())
    assert frostbox("evaluate", run, shapes_voc, "--bootstrap", 0).status == 0
    onward = frostbox(
        "train", shapes_voc, "--start", run, "--lr", 1e-4, "--epochs", 1, "--out", tmp_path / "3",
        *cache,
    )  # fmt: skip
    assert onward.status == 0, onward.err
    # And --resume, with the fault gone, ends as if there had been none.
    assert frostbox("train", shapes_voc, "--out", run, *cache, "--resume").status == 0
    assert_equal(run, tmp_path / "2")


def test_a_rate_that_is_far_too_high_is_told_at_once(shapes_voc, frostbox, tmp_path):
    result = frostbox(
        "train", shapes_voc, *SMALL, "--lr", 1e30, "--epochs", 4, "--out", tmp_path / "run",
        "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.status == 1
    assert result.err.count("error:") == 1
    assert "loss is" in result.err
    assert "choose a smaller --lr" in result.err


@pytest.mark.slow
def test_a_checkpoint_that_is_cut_is_told_and_the_one_before_taken(shapes_voc, frostbox, tmp_path):
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    words = ("train", shapes_voc, *SMALL, "--epochs", 3, *cache)
    assert frostbox(*words, "--out", run).status == 0
    shutil.copytree(run, tmp_path / "whole")
    resume = ("train", shapes_voc, "--out", run, *cache, "--resume")
    for name, message in (
        ("last.ckpt", "last.ckpt is damaged (PytorchStreamReader failed reading zip archive"),
        ("before.ckpt", "delete all .ckpt files beside it, and --resume trains this phase from"),
    ):
        with (run / name).open("r+b") as file:
            file.truncate((run / name).stat().st_size // 2)
        result = frostbox(*resume)
        assert result.status == (name == "before.ckpt"), result.err
        assert message in result.err
        assert "Traceback" not in result.err
        if name == "last.ckpt":
            assert "the one before it, before.ckpt, is taken" in result.err
            assert_equal(run, tmp_path / "whole")
            with (run / name).open("r+b") as file:
                file.truncate(1000)
    # What the message says is a way on.
    for path in run.glob("*.ckpt"):
        path.unlink()
    result = frostbox(*resume)
    assert result.status == 0, result.err
    assert_equal(run, tmp_path / "whole")


def test_resume_before_the_first_checkpoint_and_where_there_is_no_run(
    shapes_voc, frostbox, tmp_path, monkeypatch
):
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    refused = frostbox("train", shapes_voc, "--out", run, *cache, "--resume")
    assert refused.status == 1
    assert "has no run to resume (settings.json is missing): leave --resume out" in refused.err

    def stopped(*_options):
        raise KeyboardInterrupt

    words = ("train", shapes_voc, *SMALL, "--epochs", 1, *cache)
    with monkeypatch.context() as patch:
        patch.setattr(extract_module.ShardWriter, "run", stopped)
        result = frostbox(*words, "--out", run)
    assert result.status == 130
    assert f"stopped; go on with: frostbox train {shapes_voc} --out {run} --cache" in result.err
    assert result.err.endswith("--resume")
    resume = ("train", shapes_voc, "--out", run, *cache, "--resume")
    resumed = frostbox(*resume)
    assert resumed.status == 0, resumed.err
    assert frostbox(*words, "--out", tmp_path / "whole").status == 0
    assert_equal(run, tmp_path / "whole")
    # The same command again says what there is to choose.
    again = frostbox(*words, "--out", run)
    assert again.status == 1
    assert "already holds a run: go on with --resume, replace it with --overwrite" in again.err
    # No second training goes into a folder in which one is at work, whatever it is told.
    before = files(run)
    with FileLock(run / ".lock"):
        for way in ((*words, "--out", run, "--overwrite"), resume):
            refused = frostbox(*way)
            assert refused.status == 1
            assert f"another frostbox is training in {run}: wait for it, or name" in refused.err
    assert files(run) == before
    assert frostbox(*words, "--out", run, "--overwrite").status == 0
    assert_equal(run, tmp_path / "whole")
