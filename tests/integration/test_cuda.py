"""Commands on a GPU, and what happens when its memory ends; skipped where there is none."""

from __future__ import annotations

import json
import re

import pytest
import torch

import frostbox as package
from frostbox import backbones
from frostbox.features.engine import create_engine
from frostbox.training import fit

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda device")
SMALL = ("--size", 64, "--batch-size", 16, "--set", "width=16", "--set", "depth=1")


@GPU
@pytest.mark.parametrize("thaw", ["none", "1", "all"])
def test_a_training_on_a_gpu_ends_as_on_the_cpu(shapes_voc, frostbox, tmp_path, thaw):
    losses = {}
    for device in ("cuda", "cpu"):
        run = tmp_path / device
        result = frostbox(
            "train", shapes_voc, *SMALL, "--epochs", 2, "--thaw", thaw, "--thaw-epochs", 2,
            "--device", device, "--precision", 32, "--out", run, "--cache", tmp_path / "c" / device,
        )  # fmt: skip
        assert result.status == 0, result.err
        rows = (run / "metrics.csv").read_text().splitlines()
        losses[device] = float(rows[-1].split(",")[rows[0].split(",").index("train_loss")])
        summary = json.loads((run / "summary.json").read_text())
        assert summary["fit"]["device"].startswith(device)
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
    measured = []
    for device in ("cuda", "cpu"):
        result = frostbox(
            "evaluate", tmp_path / "cuda", shapes_voc, "--device", device, "--json", "-",
            "--bootstrap", 0,
        )  # fmt: skip
        assert result.status == 0, result.err
        measured.append(json.loads(result.out)["ap50"])
    assert measured[0] == pytest.approx(measured[1], abs=0.02)


@GPU
@pytest.mark.parametrize("engine", ["auto", "compile"])
def test_a_prepared_detector_predicts_on_a_gpu(shapes_voc, frostbox, tmp_path, engine):
    result = frostbox(
        "train", shapes_voc, *SMALL, "--epochs", 4, "--thaw", "none", "--out", tmp_path / "run",
        "--cache", tmp_path / "c",
    )  # fmt: skip
    assert result.status == 0, result.err
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg"
    boxes = [
        package.Detector.load(tmp_path / "run", device).prepare(engine).predict(photo, threshold=0)
        for device in ("cuda", "cpu")
    ]
    assert len(boxes[0]) == len(boxes[1]) > 0
    assert abs(boxes[0].scores - boxes[1].scores).max() < 0.01


@GPU
def test_memory_that_ends_halves_the_batches(shapes_voc, frostbox, tmp_path):
    allowed = 600 << 20
    share = allowed / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        result = frostbox(
            "train", shapes_voc, "--size", 320, "--batch-size", 64, "--epochs", 1, "--thaw", "all",
            "--thaw-epochs", 1, "--device", "cuda", "--out", tmp_path / "run", "--cache",
            tmp_path / "c",
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.status == 0, result.err
    assert re.search(r"memory of cuda is not enough for steps of \d+ images", result.err)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["fit"]["batch_size"] in (2, 4, 8, 16, 32)


class Memory:
    """Has room for steps of so many images."""

    def __init__(self, monkeypatch, most):
        self.sizes = []

        def limited(head, train, val, settings, run, **options):
            self.sizes.append(settings.batch_size)
            if settings.batch_size > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return fit(head, train, val, settings, run, **options)

        monkeypatch.setattr("frostbox.learning.fit", limited)


def test_batches_are_halved_until_memory_is_enough(shapes_voc, frostbox, tmp_path, monkeypatch):
    memory = Memory(monkeypatch, 4)
    result = frostbox(
        "train", shapes_voc, *SMALL, "--epochs", 1, "--lr", 0.004, "--thaw", "1", "--thaw-epochs",
        1, "--cache", tmp_path / "c", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert memory.sizes == [16, 8, 4, 4]  # and the next phase begins with what was enough
    assert "enough for steps of 16 images: this phase begins again with 8, and" in result.err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["fit"]["batch_size"] == 4
    assert settings["fit"]["lr"] == pytest.approx(0.002)
    assert settings["thaw_lr"] == pytest.approx(0.001)
    # The same as a run that had these settings from the start.
    monkeypatch.undo()
    again = frostbox(
        "train", shapes_voc, "--config", tmp_path / "run" / "settings.json", "--cache",
        tmp_path / "c", "--out", tmp_path / "again",
    )  # fmt: skip
    assert again.status == 0, again.err
    ours, theirs = (package.Detector.load(tmp_path / name) for name in ("run", "again"))
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_memory_for_no_batch_at_all_is_one_sentence(shapes_voc, frostbox, tmp_path, monkeypatch):
    Memory(monkeypatch, 1)
    result = frostbox(
        "train", shapes_voc, *SMALL, "--epochs", 1, "--cache", tmp_path / "c", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert result.status == 1
    assert "not enough for steps of 2 images of 64 x 64 (CUDA out of memory)" in result.err
    assert "choose a smaller size, or --device cpu" in result.err


def test_an_engine_takes_fewer_pictures_at_a_time_where_memory_ends(caplog):
    backbone = backbones.create("efficientnet_lite0", (32,), "random:0")
    pictures = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8)
    engine = create_engine("torch", backbone, (96, 64), batch_size=4)
    expected = engine.run(pictures)
    run = engine._run

    def limited(batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(batch)

    engine._run = limited
    found = engine.run(pictures)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert engine.batch_size == 1
    assert "not enough for batches of 4 pictures: 2 from now on" in caplog.text
