"""Thawing, starting from a detector, and budgets, as a user types them."""

from __future__ import annotations

import json

import pytest
import torch

import frostbox as package
from frostbox import backbones, pipeline, planning
from frostbox.errors import SettingsError
from frostbox.schedule import Schedule
from frostbox.training import ViewSampler
from frostbox.units import size_text

SMALL = ("--size", 64, "--batch-size", 16, "--set", "width=16", "--set", "depth=1")


def weights(run):
    detector = package.Detector.load(run)
    return {**detector.head.state_dict(), **detector.backbone.state_dict()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.fixture(scope="module")
def thawed(shapes_voc, tmp_path_factory):
    """A run with one thawed stage, of one epoch frozen and three thawed."""
    folder = tmp_path_factory.mktemp("thawed")
    package.train(
        shapes_voc, out=folder / "run", cache=folder / "cache", size=(64, 64), batch_size=16,
        width=16, depth=1, epochs=1, thaw="1", thaw_epochs=3, precision="32",
    )  # fmt: skip
    return folder


def test_a_thawed_run_says_so_and_predicts_with_its_own_backbone(thawed, shapes_voc, frostbox):
    summary = json.loads((thawed / "run" / "summary.json").read_text())
    assert summary["model"]["thawed"]
    assert summary["fit"]["epochs_run"] == 1
    assert summary["thaw"]["epochs_run"] == 3
    assert {"train", "thaw"} <= set(summary["seconds"])
    detector = package.Detector.load(thawed / "run")
    fresh = backbones.create("efficientnet_lite0", (8, 16, 32))
    assert detector.backbone.thawed
    assert detector.backbone.weights_hash != fresh.weights_hash
    measured = frostbox("evaluate", thawed / "run", shapes_voc, "--json", "-", "--bootstrap", 0)
    # Photos through the saved file against the run's own stages on cached maps.
    figures = json.loads(measured.out)
    for key in ("ap50", "mean_iou", "accuracy"):
        assert figures[key] == pytest.approx(summary["evaluation"][key], abs=0.02)


class Stop(Exception):
    """Stands for a training that is killed between two epochs."""


@pytest.mark.parametrize("phase", ["head", "thaw"])
def test_an_interrupted_run_is_resumed_in_either_phase(
    thawed, shapes_voc, frostbox, tmp_path, monkeypatch, phase
):
    original, calls = ViewSampler.set_epoch, []

    def interrupt(self, epoch):
        calls.append(epoch)
        # Epoch 0 of the head, then 0, 1, 2 of thawing.
        if len(calls) == {"head": 1, "thaw": 3}[phase]:
            raise Stop
        original(self, epoch)

    command = (
        "train", shapes_voc, *SMALL, "--epochs", 1, "--thaw", 1, "--thaw-epochs", 3, "--cache",
        thawed / "cache", "--out", tmp_path / "run", "--precision", 32,
    )  # fmt: skip
    monkeypatch.setattr(ViewSampler, "set_epoch", interrupt)
    with pytest.raises(Stop):
        frostbox(*command)
    monkeypatch.setattr(ViewSampler, "set_epoch", original)
    assert (tmp_path / "run" / "thaw" / "last.ckpt").exists() == (phase == "thaw")
    if phase == "head":  # nothing was kept yet: the same command again
        result = frostbox(*command)
    else:
        result = frostbox(
            "train", shapes_voc, "--out", tmp_path / "run", "--cache", thawed / "cache", "--resume"
        )
    assert result.status == 0, result.err
    assert_equal(weights(tmp_path / "run"), weights(thawed / "run"))


def test_a_detector_is_the_start_of_another(thawed, shapes_voc, frostbox, tmp_path):
    start = thawed / "run" / "best.safetensors"
    cache = ("--cache", tmp_path / "cache", "--out", tmp_path / "run")
    refused = frostbox("train", shapes_voc, "--start", start, "--size", 96, *cache)
    assert refused.status == 1
    assert "size is (96, 96) and the detector to start from has (64, 64)" in refused.err
    refused = frostbox("train", shapes_voc, "--start", tmp_path / "nothing", *cache)
    assert "does not exist" in refused.err
    result = frostbox(
        "train", shapes_voc, "--start", start, "--thaw", "all", "--thaw-epochs", 2,
        "--set", "thaw_lr=1e-9", *cache,
    )  # fmt: skip
    assert result.status == 0, result.err
    assert not json.loads((tmp_path / "run" / "settings.json").read_text())["head_first"]
    done = weights(tmp_path / "run")
    again = frostbox("train", shapes_voc, "--resume", *cache)
    assert again.status == 0, again.err  # finished already, and known as such
    assert_equal(weights(tmp_path / "run"), done)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["fit"] is None  # the head came trained
    assert summary["thaw"]["epochs_run"] == 2
    before, after = weights(start), weights(tmp_path / "run")
    moved = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert moved
    for name in moved:
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert not name.startswith("body")  # the head's norms see new batches
        else:
            torch.testing.assert_close(before[name], after[name], rtol=1e-3, atol=1e-5)


def test_a_run_does_not_replace_the_detector_that_it_starts_from(thawed, shapes_voc, frostbox):
    run = thawed / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for start in (run, run / "best.safetensors"):
        refused = frostbox("train", shapes_voc, "--start", start, "--out", run, "--overwrite")
        assert refused.status == 1
        assert f"the run would replace {start}, from which it starts" in refused.err
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_budget_that_is_spent_before_thawing_keeps_the_head(
    shapes_voc, frostbox, tmp_path, monkeypatch
):
    plan = Schedule.fit

    def spent(self, settings, head, train, val, stages, device, folder):
        self.budget = self.budget if stages is None else 0.0
        return plan(self, settings, head, train, val, stages, device, folder)

    monkeypatch.setattr(Schedule, "fit", spent)
    result = frostbox(
        "train", shapes_voc, *SMALL, "--budget", "1min", "--thaw", 1, "--views", 2,
        "--cache", tmp_path / "cache", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert "no time is left for thawing: the backbone stays frozen" in result.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["thaw"] is None
    assert not summary["model"]["thawed"]
    assert summary["fit"]["epochs_run"] > 0


def test_a_budget_looks_at_the_disk_of_the_features(shapes_voc, frostbox, tmp_path, monkeypatch):
    cache, free = tmp_path / "other disk", planning.free_bytes

    def small(folder):
        return 10_000_000 if folder == cache else free(folder)

    def planned(*_args):
        raise SettingsError("the plan is known")

    monkeypatch.setattr(planning, "free_bytes", small)
    monkeypatch.setattr(pipeline, "folder_of", planned)
    result = frostbox("train", shapes_voc, "--budget", "1h", "--cache", cache)
    assert result.err.rstrip().endswith("the plan is known")
    assert "the disk decides: 10.0 MB are free for features" in " ".join(result.err.split())


def test_features_that_have_no_room_are_refused_before_the_first(
    shapes_voc, frostbox, tmp_path, monkeypatch
):
    """All of them together, and what is there already does not count."""
    cache = tmp_path / "cache"
    words = ("train", shapes_voc, *SMALL, "--epochs", 1, "--views", 2, "--cache", cache)
    with monkeypatch.context() as patch:
        patch.setattr(planning, "free_bytes", lambda _folder: 150_000)
        result = frostbox(*words, "--out", tmp_path / "run")
        assert result.status == 1
        needed = f"extracting 112 views of 64 photos, and {size_text(150_000)} are free for {cache}"
        assert needed in result.err
        assert "make room (`frostbox cache list`, `cache prune`)" in result.err
        assert not list(cache.rglob("*.safetensors"))
    assert frostbox(*words, "--out", tmp_path / "run").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(planning, "free_bytes", lambda _folder: 0)
        patch.setattr(planning, "check_space", lambda *_: None)  # of the weights
        again = frostbox(*words, "--out", tmp_path / "again")
    assert again.status == 0, again.err


def test_thawing_that_does_not_help_is_undone(thawed, shapes_voc, frostbox, tmp_path):
    result = frostbox(
        "train", shapes_voc, *SMALL, "--epochs", 8, "--thaw", 1, "--thaw-epochs", 1, "--set",
        "thaw_lr=10", "--set", "clip=0", "--cache", thawed / "cache", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert "thawing did not lower the validation loss: it is undone" in result.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["thaw"] is None
    assert not summary["model"]["thawed"]
    fresh = backbones.create("efficientnet_lite0", (8, 16, 32))
    detector = package.Detector.load(tmp_path / "run")
    assert detector.backbone.weights_hash == fresh.weights_hash


def test_mirrored_pictures_add_boxes(thawed, shapes_voc, frostbox):
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg"
    every = ("--nms", "none", "--threshold", 0.0001, "--json", "-")
    counts, boxes = [], []
    for flip in ((), ("--flip",)):
        result = frostbox("predict", thawed / "run", photo, *every, *flip)
        assert result.status == 0
        found = json.loads(result.out)[0]["detections"]
        counts.append(len(found))
        boxes.append(found)
    assert counts[0] < counts[1] or counts[0] == 300
    detector = package.Detector.load(thawed / "run")
    from PIL import Image, ImageOps

    mirrored = detector.predict(ImageOps.mirror(Image.open(photo)), threshold=0.0001, nms=None)
    both = detector.predict(Image.open(photo), threshold=0.0001, nms=None, flip=True)
    best = mirrored.boxes[0]
    turned = [64 - best[2], best[1], 64 - best[0], best[3]]
    assert (abs(both.boxes - turned).max(1) < 1e-3).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--thaw", 4), "thaw is '4': give none, all, or a number of stages from 1 to 3"),
        (("--thaw", "1", "--thaw-epochs", 0), "thaw_epochs is 0"),
        (("--budget", "soon"), "budget is 'soon': give a time such as 10min"),
        (("--budget", "10min", "--epochs", 3), "a budget decides epochs: give one of the two"),
        (("--budget", "10min", "--resume"), "leave --budget out"),
        (("--class-loss", "hinge"), "class_loss is 'hinge'"),
        (("--set", "strides=[8,32]"), "give neighbours such as [8, 16, 32]"),
    ],
)
def test_what_cannot_be_thawed_or_planned_is_said_before_any_work(
    shapes_voc, frostbox, tmp_path, options, message
):
    result = frostbox("train", shapes_voc, "--out", tmp_path / "run", *options)
    assert result.status == 1
    assert message in result.err
    assert not (tmp_path / "run").exists()
