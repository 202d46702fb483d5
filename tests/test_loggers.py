"""Loggers by name: what they are called, what they get, and how they go through a training."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import frostbox as package
from frostbox.errors import SettingsError
from frostbox.loggers import check_installed, final_figures, logged_folders, logger_names
from frostbox.settings import TrainSettings
from tests.shapes import write_shapes

FIGURES = {
    "ap50": 0.5, "ap50_11point": 0.4, "coco_ap": None, "ece": 0.1,
    "ap50_per_class": {"dog": 0.5, "猫": 0.25, "a/b": None, "c|d": 0.75},
    "intervals": {"ap50": [0.3, 0.7], "ap50_11point": [0.2, 0.6], "coco_ap": [None, None]},
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    return write_shapes(folder / "VOC2012", train=16, val=8), folder / "cache"


def train(shapes, run: Path, logger: str, **options):
    data, cache = shapes
    return package.train(
        data, size=(64, 64), epochs=2, batch_size=8, views=1, out=run, cache=cache, logger=logger,
        **{"head": "grid", **options},
    )  # fmt: skip


def needs(name: str) -> None:
    """Skip without the library; a folder of its name is none."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed: pip install 'frostbox[{name}]'")


def offline_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format (log_format.md) after 7 bytes."""
    at, parts = 7, []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def test_names():
    assert logger_names("tensorboard") == ("tensorboard",)
    assert logger_names("csv, wandb,csv") == ("csv", "wandb")
    assert logger_names("none") == ()
    for wrong in ("tensorbord", "csv,none", "", "csv;wandb"):
        with pytest.raises(SettingsError, match="is no logger: choose among tensorboard, csv"):
            logger_names(wrong)
    with pytest.raises(SettingsError, match="'comet' is no logger"):
        TrainSettings.create({"logger": "csv,comet"})


def test_a_missing_library_is_named_before_any_work(monkeypatch, shapes, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name)
    )
    with pytest.raises(SettingsError, match=r"pip install 'frostbox\[wandb\]'"):
        train(shapes, tmp_path / "run", "csv,wandb")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_offline_runs_is_no_library(monkeypatch, tmp_path):
    (tmp_path / "mlflow").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    if importlib.util.find_spec("mlflow").origin is not None:
        pytest.skip("mlflow is installed")
    with pytest.raises(SettingsError, match="needs mlflow"):
        check_installed("mlflow")


def test_final_figures_have_flat_plain_names():
    assert final_figures(FIGURES) == {
        "final/ap50": 0.5, "final/ap50_11point": 0.4, "final/ece": 0.1,
        "final/ap50_low": 0.3, "final/ap50_high": 0.7,
        "final/ap50_11point_low": 0.2, "final/ap50_11point_high": 0.6,
        "final/ap50/dog": 0.5, "final/ap50/class 1": 0.25, "final/ap50/class 3": 0.75,
    }  # fmt: skip


def test_tensorboard_and_csv_get_settings_epochs_and_final_figures(shapes, tmp_path):
    run = tmp_path / "run"
    detector = train(shapes, run, "tensorboard,csv")
    measured = detector.settings.training["evaluation"]
    events = EventAccumulator(str(run / "events")).Reload()
    assert len(events.Scalars("train_loss")) == len(events.Scalars("val_loss")) == 2
    assert events.Scalars("final/ap50")[-1].value == pytest.approx(measured["ap50"])
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    rows = list(csv.DictReader((run / "csv" / "metrics.csv").open()))
    assert sum(bool(row["val_loss"]) for row in rows) == 2
    last = [row["final/ap50"] for row in rows if row["final/ap50"]]
    assert [float(v) for v in last] == pytest.approx([measured["ap50"]])
    assert "batch_size: 8" in (run / "csv" / "hparams.yaml").read_text()
    assert set(logged_folders(run)) == {run / "events", run / "csv"}
    train(shapes, run, "none", overwrite=True)  # what was logged of the run before is gone
    assert not any(folder.exists() for folder in logged_folders(run))
    assert (run / "metrics.csv").exists()


def test_loggers_change_no_weight(shapes, tmp_path):
    both = [
        train(shapes, tmp_path / name, name).head.state_dict() for name in ("none", "tensorboard")
    ]
    assert all((v == both[1][k]).all() for k, v in both[0].items())


def test_wandb_offline(shapes, tmp_path, monkeypatch):
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_SILENT", "true")
    from wandb.proto import wandb_internal_pb2

    run = tmp_path / "run"
    train(shapes, run, "wandb", head="pyramid", thaw="1", thaw_epochs=1)
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    assert b"0123456789" * 4 not in path.read_bytes()
    history, config, exits = [], {}, []
    for data in offline_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            history.append({i.key or "/".join(i.nested_key): i.value_json for i in items})
        for update in (record.config.update, record.run.config.update):
            config |= {i.key or "/".join(i.nested_key): i.value_json for i in update}
        if record.HasField("exit"):
            exits.append(record.exit.exit_code)
    assert sum("train_loss" in row for row in history) == 2
    assert sum("val_loss" in row for row in history) == 1  # the second phase decides
    assert sum("thaw-val_loss" in row for row in history) == 1  # the second phase, in one run
    assert sum("final/ap50" in row for row in history) == 1
    assert json.loads(config["batch_size"]) == 8
    assert exits == [0]
    assert json.loads((run / "loggers.json").read_text())["wandb"] in path.name
    import wandb

    assert wandb.run is None


def test_wandb_without_a_login(shapes, tmp_path):
    needs("wandb")
    known = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    data, cache = shapes
    done = subprocess.run(
        [sys.executable, "-m", "frostbox", "train", data, "--head", "grid", "--size", "64",
         "--cache", cache, "--out", tmp_path / "run", "--logger", "wandb"],
        env={**known, "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert "log in with `wandb login`, or set WANDB_MODE=offline" in done.stderr
    assert "Traceback" not in done.stderr


def test_mlflow_with_a_local_store(shapes, tmp_path):
    needs("mlflow")
    import mlflow

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    run = tmp_path / "first"
    detector = train(shapes, run, "mlflow")
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("frostbox")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("first", "FINISHED")
    assert logged.data.params["batch_size"] == "8"
    assert len(client.get_metric_history(logged.info.run_id, "val_loss")) == 2
    final = detector.settings.training["evaluation"]["ap50"]
    assert logged.data.metrics["final/ap50"] == pytest.approx(final)
    (run / "best.safetensors").unlink()
    train(shapes, run, "mlflow", resume=True)  # goes on with the same run
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_training_that_breaks_off_is_marked_so(shapes, tmp_path, monkeypatch):
    needs("mlflow")
    import mlflow

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr("frostbox.suite.measure", broken)
    with pytest.raises(RuntimeError, match="lost"):
        train(shapes, tmp_path / "run", "mlflow")
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("frostbox")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FAILED"
