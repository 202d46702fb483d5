"""Trainings in two real processes (gloo) against the same training in one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import frostbox as package
from frostbox import ranks
from frostbox.errors import FrostboxError
from frostbox.resuming import checkpoint_of
from frostbox.steps import HeadModule
from tests.processes import ROOT, together
from tests.shapes import write_shapes

pytestmark = pytest.mark.slow
# Batches of four in 23 images: the last has three, of which one process learns from one.
SETTINGS: dict[str, Any] = {
    "size": (64, 64), "batch_size": 4, "views": 1, "width": 16, "depth": 1, "precision": "32",
    "device": "cpu", "weights": "random:0", "lr": 1e-3, "logger": "tensorboard",
}  # fmt: skip
# Gradients are the same to rounding (tests/test_ranks.py). AdamW makes of rounding, within some
# steps, what other numbers of threads make of it too: measured, 1e-7 of a loss after five steps
# and 1e-3 after ten.
LOSS, WEIGHT, AP = 5e-3, 2e-2, 2e-2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "voc", train=23, val=9)


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process: two epochs of the head, one with a thawed stage."""
    folder = tmp_path_factory.mktemp("alone")
    package.train(
        data, out=folder / "run", cache=folder / "cache", epochs=2, thaw="1", thaw_epochs=1,
        **SETTINGS,
    )  # fmt: skip
    return folder / "run"


def train(data: str, run: str, cache: str, *options: str) -> None:
    """In each of two processes: the training of `alone`, cut off, resumed or broken."""
    for fault in (_cut, _break, _lose, _spoil):
        if fault.__name__[1:] in options:
            fault()
    try:
        package.train(
            data, out=run, cache=cache, epochs=2, thaw="1", thaw_epochs=1,
            devices=None if "pods" in options else 2, keep_minutes=1e-6,
            resume="resume" in options, **SETTINGS,
        )  # fmt: skip
    except Stop:
        print("stopped")
    except FrostboxError as error:
        sys.exit(f"error: {error}")


class Stop(Exception):
    """Stands for a training that is killed within an epoch."""


def _instead(change: Callable[[HeadModule, int, Any], Any]) -> None:
    """What a step does beside its work, or makes of its loss."""
    usual = HeadModule.training_step

    def step(self: HeadModule, batch: Any, index: int) -> Any:
        return change(self, index, usual(self, batch, index))

    HeadModule.training_step = step  # type: ignore[method-assign]


def _cut() -> None:
    """In the middle of the second epoch, in both."""

    def change(module: HeadModule, index: int, loss: Any) -> Any:
        if module.current_epoch == 1 and index == 3:
            raise Stop
        return loss

    _instead(change)


def _break() -> None:
    def change(module: HeadModule, index: int, loss: Any) -> Any:
        if ranks.rank() == 1 and index == 1:
            raise ArithmeticError("a device that breaks")
        return loss

    _instead(change)


def _lose() -> None:
    def change(module: HeadModule, index: int, loss: Any) -> Any:
        if ranks.rank() == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    _instead(change)


def _spoil() -> None:
    """The loss of one part of a batch in the second epoch."""

    def change(module: HeadModule, index: int, loss: Any) -> Any:
        wrong = ranks.rank() == 1 and module.current_epoch == 1 and index == 2
        return loss * float("nan") if wrong else loss

    _instead(change)


def _rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _same(run: Path, other: Path) -> None:
    """Losses of every epoch, weights and AP."""
    for phase in ("", "thaw"):
        rows, others = _rows(run / phase), _rows(other / phase)
        assert len(rows) == len(others)
        for row, of_other in zip(rows, others, strict=True):
            assert row.keys() == of_other.keys()
            for name in (name for name in row if name.endswith("_loss")):
                assert row[name] == pytest.approx(of_other[name], rel=LOSS), (phase, name)
        assert {"train_loss", "val_loss", "val_box_loss"} <= rows[-1].keys()
    first = _rows(run)[0], _rows(other)[0]
    assert first[0]["train_loss"] == pytest.approx(first[1]["train_loss"], rel=1e-5)
    one, two = (package.Detector.load(folder) for folder in (run, other))
    weights = {**one.head.state_dict(), **one.backbone.state_dict()}
    others = {**two.head.state_dict(), **two.backbone.state_dict()}
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, atol=WEIGHT, rtol=WEIGHT, msg=name)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, other)]
    figures = [summary["evaluation"] for summary in summaries]
    for name in ("ap50", "coco_ap"):
        assert figures[0][name] == pytest.approx(figures[1][name], abs=AP)
    assert one.backbone.thawed == two.backbone.thawed


def _files(run: Path) -> list[str]:
    return sorted(
        "events" if "events" in path.parts else str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file()
    )


def _command(data: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`frostbox train` as a user starts it, with a run and a cache of its own, which both write."""
    command = [sys.executable, "-m", "frostbox", "train", str(data), *flags]
    command += ["--out", str(folder / "run"), "--cache", str(folder / "cache")]
    known = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    ended = subprocess.run(
        command, env={**known, "OMP_NUM_THREADS": "1"}, cwd=ROOT, timeout=300,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended


def test_the_command_with_two_devices(data: Path, alone: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "size": 64}
    head = {name: settings.pop(name) for name in ("width", "depth")}
    flags = [text for k, v in settings.items() for text in (f"--{k.replace('_', '-')}", str(v))]
    flags += [text for k, v in head.items() for text in ("--set", f"{k}={v}")]
    flags += ["--epochs", "2", "--thaw", "1", "--thaw-epochs", "1", "--devices", "2"]
    ended = _command(data, tmp_path, *flags)
    _same(alone, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["environment"]["devices"] == 2
    # One process has written and printed.
    assert _files(tmp_path / "run") == _files(alone)
    said = " ".join(ended.stderr.split())
    for once in ("VOC, train", "features of 'train' in", "for 2 epochs", "for 1 epoch:"):
        assert said.count(once) == 1, said
    assert said.count("on 2 x cpu") == 2
    assert ended.stdout.count("detector:") == 1


def test_a_budget_of_two_devices(data: Path, tmp_path: Path) -> None:
    flags = ["--size", "64", "--weights", "random:0", "--device", "cpu", "--devices", "2"]
    ended = _command(data, tmp_path, "--budget", "60s", *flags)
    planned = json.loads((tmp_path / "run" / "settings.json").read_text())
    said = " ".join(ended.stderr.split())
    assert said.count(f"{planned['fit']['epochs']:,} epoch") >= 1
    assert said.count("are left for them") == 1
    assert len(_rows(tmp_path / "run")) == planned["fit"]["epochs"]


def test_a_run_of_two_processes_is_resumed(data: Path, alone: Path, tmp_path: Path) -> None:
    arguments = (data, tmp_path / "run", alone.parent / "cache")
    cut = together("tests.integration.test_devices", "train", *arguments, "cut")
    assert [process.out for process in cut] == ["stopped\n", "stopped\n"], cut
    assert checkpoint_of(tmp_path / "run").batches == 3
    # As on another cluster, whose pods say how many there are.
    arguments = (*arguments, "resume", "pods")
    resumed = together("tests.integration.test_devices", "train", *arguments, pods=True)
    assert [process.status for process in resumed] == [0, 0], resumed
    _same(alone, tmp_path / "run")


def test_a_process_that_breaks_ends_the_others(data: Path, alone: Path, tmp_path: Path) -> None:
    arguments = (data, tmp_path / "run", alone.parent / "cache", "break")
    first, other = together("tests.integration.test_devices", "train", *arguments)
    assert first.status == 1
    failed = "rank 1 of 2 has failed: ArithmeticError('a device that breaks')"
    assert first.err.endswith(f"error: {failed} (rank 0 of 2 ends with it)\n")
    assert other.status == 1
    assert "ArithmeticError: a device that breaks" in other.err


def test_a_process_that_is_killed_ends_the_others(data: Path, alone: Path, tmp_path: Path) -> None:
    arguments = (data, tmp_path / "run", alone.parent / "cache", "lose")
    first, other = together("tests.integration.test_devices", "train", *arguments)
    assert (first.status, other.status) == (1, -signal.SIGKILL)
    lost = "error: a process of this run was lost; the same command with --resume goes on from the"
    assert lost in first.err


def test_a_loss_that_is_no_number_in_one_part(data: Path, alone: Path, tmp_path: Path) -> None:
    arguments = (data, tmp_path / "run", alone.parent / "cache", "spoil")
    first, other = together("tests.integration.test_devices", "train", *arguments)
    said = "the loss is nan in epoch 2 of 2, batch 3 of 6 (images "
    (line,) = (line for line in first.err.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {said}")
    assert line.partition("(images ")[2].partition(")")[0].count(",") == 3  # of both parts
    assert "best.safetensors has the weights from before" in line
    assert package.Detector.load(tmp_path / "run").head_name == "pyramid"
    assert f"error: rank 0 of 2 has failed: {said}" in other.err
