"""The commands, end to end, on pictures that can be learned in seconds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import frostbox as package
from frostbox import cli


def test_python_in_five_lines(trained, shapes_voc):
    folder, detector = trained
    assert isinstance(detector, package.Detector)
    loaded = package.Detector.load(folder / "run" / "best.safetensors")
    photo = next((shapes_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir())
    one = loaded.predict(photo)
    many = loaded.predict([photo, Image.open(photo)])
    assert isinstance(one, package.Detections)
    assert len(many) == 2
    assert one.class_names == ("blue", "green", "red")


def test_a_run_leaves_what_it_promises(trained):
    folder, _ = trained
    run = folder / "run"
    for name in ("best.safetensors", "last.ckpt", "metrics.csv", "settings.json", "summary.json"):
        assert (run / name).stat().st_size
    assert list((run / "events").glob("events.out.tfevents*"))
    assert len(list(csv.DictReader((run / "metrics.csv").open()))) == 40
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["train_images"] == 48
    assert summary["model"]["size"] == [160, 160]
    assert summary["environment"]["torch"]
    assert {"read", "extract", "train", "evaluate"} <= set(summary["seconds"])


def test_it_learned(trained, shapes_voc, frostbox):
    folder, _ = trained
    result = frostbox("evaluate", folder / "run", shapes_voc, "--json", "-")
    assert result.status == 0
    numbers = json.loads(result.out)
    # The same head and data with shuffled labels stay below 0.1.
    assert numbers["ap50"] > 0.5
    assert set(numbers["ap50_per_class"]) == {"blue", "green", "red"}
    assert 0 <= numbers["ap50_11point"] <= 1
    assert numbers["rule"]["difficult"].startswith("ignored")
    stored = json.loads((folder / "run" / "summary.json").read_text())["evaluation"]
    assert numbers["ap50"] == pytest.approx(stored["ap50"], abs=0.02)  # photos against cache


def test_evaluate_prints_the_rule_with_the_number(trained, shapes_voc, frostbox, tmp_path):
    folder, _ = trained
    result = frostbox(
        "evaluate", folder / "run", shapes_voc, "--split", "train", "--json", tmp_path / "e.json"
    )
    assert result.status == 0
    assert "IoU 0.5" in result.out
    assert "difficult objects ignored" in " ".join(result.out.split())
    assert json.loads((tmp_path / "e.json").read_text())["split"] == "train"


def test_predict_writes_pictures_and_json(trained, shapes_voc, frostbox, tmp_path):
    folder, _ = trained
    photos = shapes_voc / "VOCdevkit/VOC2012/JPEGImages"
    result = frostbox(
        "predict", folder / "run", photos / "shape_000.jpg", f"{photos}/shape_00[12].jpg",
        "--threshold", 0.1, "--nms", "none", "--out", tmp_path / "out", "--json", "-",
    )  # fmt: skip
    assert result.status == 0
    found = json.loads(result.out)
    assert [Path(f["image"]).name for f in found] == [f"shape_00{k}.jpg" for k in range(3)]
    assert all((f["width"], f["height"]) == (64, 64) for f in found)
    assert {"box", "score", "label", "name"} == set(found[0]["detections"][0])
    assert all(d["score"] >= 0.1 for f in found for d in f["detections"])
    for k in range(3):
        assert Image.open(tmp_path / "out" / f"shape_00{k}.jpg").size == (64, 64)
    whole = frostbox("predict", folder / "run", photos, "--json", tmp_path / "all.json")
    assert whole.status == 0
    assert len(json.loads((tmp_path / "all.json").read_text())) == 64
    limited = frostbox(
        "predict", folder / "run", photos / "shape_000.jpg", "--score", "objectness", "--json", "-"
    )
    assert limited.status == 0


def test_config_replays_a_run_to_the_same_weights(trained, shapes_voc, frostbox, tmp_path):
    folder, _ = trained
    result = frostbox(
        "train", shapes_voc, "--config", folder / "run" / "settings.json", "--cache",
        folder / "cache", "--out", tmp_path / "again",
    )  # fmt: skip
    assert result.status == 0
    assert "reused from" in result.err  # the features of the first run
    both = [
        package.Detector.load(p).head.state_dict() for p in (folder / "run", tmp_path / "again")
    ]
    assert all((v == both[1][k]).all() for k, v in both[0].items())


def test_precision_and_type_of_the_features_are_asked_for_and_told(shapes_voc, frostbox, tmp_path):
    common = ("train", shapes_voc, "--head", "anchors", "--size", 64, "--epochs", 1, "--cache",
              tmp_path / "cache", "--overwrite", "--out", tmp_path / "run")  # fmt: skip
    assert frostbox(*common, "--features", "int8").status == 0
    assert ", float32 on cpu" in frostbox(*common, "--precision", 32).err
    again = frostbox(*common, "--features", "int8", "--precision", "32")
    assert "reused" not in again.err  # those of int8 may be of bfloat16
    assert "reused" in frostbox(*common, "--features", "int8").err
    told = frostbox("cache", "list", "--cache", tmp_path / "cache").out
    assert ("int8" in told, "float16" in told) == (True, True)
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (stored["features"], stored["fit"]["precision"]) == ("int8", "auto")
    refused = frostbox(*common, "--features", "int4")
    assert refused.status == 1
    assert "stored as float16 or int8, not as 'int4'" in refused.err
    out = frostbox("extract", shapes_voc, "--size", 64, "--features", "int8", "--precision", 32,
                   "--engine", "torch", "--out", tmp_path / "features")  # fmt: skip
    assert "eager, channels-last, float32 on cpu (asked for)" in out.err
    index = json.loads((tmp_path / "features" / "index.json").read_text())
    assert (index["dtype"], index["precision"]) == ("int8", "32")


def test_single_head_and_val_split_none(shapes_voc, frostbox, tmp_path):
    common = ("--head", "single", "--size", 64, "--epochs", 3, "--cache", tmp_path / "cache")
    result = frostbox(
        "train", shapes_voc, *common, "--out", tmp_path / "run", "--set", "pooled=true"
    )
    assert result.status == 0
    assert "class accuracy" in result.out
    measured = json.loads(frostbox("evaluate", tmp_path / "run", shapes_voc, "--json", "-").out)
    for key in ("smooth_l1", "l1", "accuracy", "mean_iou"):
        assert 0 <= measured[key] <= 1
    result = frostbox(
        "train", shapes_voc, *common, "--out", tmp_path / "final", "--val-split", "none"
    )
    assert result.status == 0
    assert "final weights" in result.out
    assert (tmp_path / "final" / "best.safetensors").exists()


def test_an_estimate_comes_before_the_work(shapes_voc, frostbox, tmp_path):
    result = frostbox(
        "train", shapes_voc, "--size", 64, "--views", 2, "--epochs", 1, "--out",
        tmp_path / "run", "--cache", tmp_path / "cache",
    )  # fmt: skip
    extracting = result.err.index("extracting 112 views of 64 photos: about")
    assert extracting < result.err.index("features of 'train' in")
    assert "of disk" in result.err
    assert "of memory" in result.err
    assert "for 1 epoch: about" in result.err
    listed = frostbox("cache", "list", "--cache", tmp_path / "cache", "--json", "-")
    names = [entry["name"] for entry in json.loads(listed.out)]
    assert len(names) == 2
    assert frostbox("cache", "prune", names[0], "--cache", tmp_path / "cache", "--yes").status == 0
    assert frostbox("cache", "prune", "--cache", tmp_path / "cache", "--yes").status == 0
    assert "no caches" in frostbox("cache", "list", "--cache", tmp_path / "cache").out


def test_explore_counts_plots_and_keeps_stdout_pure(shapes_voc, frostbox, tmp_path):
    result = frostbox("explore", shapes_voc, "--json", "-", "--out", tmp_path)
    numbers = json.loads(result.out)
    assert numbers["images"] == 48
    assert sum(numbers["objects_per_class"].values()) == numbers["objects"]
    assert len(list(tmp_path.glob("*.png"))) >= 4
    assert (tmp_path / "samples.jpg").exists()
    assert "objects" in frostbox("explore", shapes_voc / "VOCdevkit", "--split", "val").out


def test_explore_writes_a_page(shapes_voc, frostbox, tmp_path):
    page = tmp_path / "new" / "explore.html"
    result = frostbox("explore", shapes_voc, "--report", page)
    assert f"written {page}" in result.err
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "data:image/jpeg;base64," in text
    assert "shape_0" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{missing}"], "does not exist"),
        (["train", "{data}", "--train-split", "nosuch"], "nosuch"),
        (["train", "{data}", "--head", "ssd"], "unknown head 'ssd'"),
        (["train", "{data}", "--epochs", "0"], "epochs is 0"),
        (["train", "{data}", "--size", "wide"], "size is 'wide'"),
        (["train", "{data}", "--set", "colour=1"], "unknown setting 'colour'"),
        (["train", "{data}", "--set", "colour"], "give NAME=VALUE"),
        (["train", "{data}", "--backbone", "resnet17"], "unknown backbone 'resnet17'"),
        (["train", "{data}", "--classes", "red,gren"], "did you mean 'green'?"),
        (["train", "{data}", "--config", "{missing}"], "give the settings.json"),
        (["explore", "{missing}"], "does not exist"),
        (["extract", "{data}", "--out", "{tmp}/c", "--views", "17"], "views is 17"),
        (["extract", "{data}", "--out", "{tmp}/c", "--strides", "x"], "strides is 'x'"),
        (["evaluate", "{missing}", "{data}"], "does not exist"),
        (["predict", "{run}", "{missing}"], "does not exist"),
        (["predict", "{run}", "{tmp}"], "holds no picture"),
        (["predict", "{run}", "{photo}", "--threshold", "3"], "threshold is 3"),
        (["predict", "{run}", "{photo}", "--nms", "some"], "nms is 'some'"),
        (["predict", "{run}", "{photo}", "--score", "luck"], "product and objectness"),
        (["cache", "prune", "nothing", "--cache", "{tmp}"], "no cache 'nothing'"),
    ],
)
def test_bad_input_ends_with_one_sentence(
    arguments, message, trained, shapes_voc, frostbox, tmp_path
):
    (tmp_path / "empty").mkdir()
    values = {
        "data": shapes_voc, "missing": tmp_path / "missing", "tmp": tmp_path / "empty",
        "run": trained[0] / "run",
        "photo": shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg",
    }  # fmt: skip
    result = frostbox(*(a.format(**values) for a in arguments))
    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_finished_run_is_not_overwritten_unasked(trained, shapes_voc, frostbox):
    result = frostbox("train", shapes_voc, "--out", trained[0] / "run")
    assert result.status == 1
    assert "--resume" in result.err
    assert "--overwrite" in result.err


def test_a_broken_photo_is_skipped_and_counted_unless_strict(frostbox, tmp_path):
    from tests.shapes import write_shapes

    root = write_shapes(tmp_path / "VOC2012", train=12, val=4)
    (root / "JPEGImages" / "shape_003.jpg").write_bytes(b"")
    photo = root / "JPEGImages" / "shape_005.jpg"
    photo.write_bytes(photo.read_bytes()[:500])
    command = ("train", root, "--size", 64, "--epochs", 1, "--cache", tmp_path / "cache")
    result = frostbox(*command, "--out", tmp_path / "run")
    assert result.status == 0
    assert "shape_003.jpg" in result.err
    assert "shape_005.jpg" in result.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["data"]["skipped_photos"] == 2
    assert summary["data"]["train_images"] == 10
    strict = frostbox(*command, "--out", tmp_path / "strict", "--strict", "--size", 96)
    assert strict.status == 1
    assert "shape_003.jpg is empty" in strict.err


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare", "export", "serve"])
def test_whatever_takes_a_model_says_that_the_hub_will_do(command):
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert "hf://USER/REPO" in shown


def test_help_says_when_predict_draws_nothing():
    shown = CliRunner().invoke(cli.app, ["predict", "--help"], env={"COLUMNS": "200"}).output
    assert "predictions; with --json alone, nothing is drawn" in " ".join(shown.split())


def test_help_of_every_command_starts_without_torch():
    code = (
        "import sys; sys.argv = ['frostbox', *sys.argv[1:]]\n"
        "from frostbox.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    commands = [
        "demo", "explore", "doctor", "extract", "train", "evaluate", "compare", "predict", "cache",
    ]  # fmt: skip
    whole = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    for command in commands:
        assert command in whole.stdout
    one = subprocess.run(
        [sys.executable, "-c", code, "train", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    for flag in ("--val-split", "--resume", "--config", "--seed", "--views", "--cache"):
        assert flag in one.stdout


@pytest.mark.parametrize(
    "command", [[Path(sys.executable).with_name("frostbox")], [sys.executable, "-m", "frostbox"]]
)
def test_the_installed_command_fails_with_status_1(command, tmp_path):
    result = subprocess.run(
        [*command, "explore", tmp_path / "nowhere"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout


def test_odd_photos_can_be_predicted(trained, frostbox, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.jpg")
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    Image.fromarray(pixels[..., :3]).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    turned = Image.fromarray(pixels[..., :3])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    result = frostbox(
        "predict", trained[0] / "run", tmp_path, "--out", tmp_path / "o", "--json", "-"
    )
    assert result.status == 0
    sizes = {Path(f["image"]).name: (f["width"], f["height"]) for f in json.loads(result.out)}
    assert sizes.pop("turned.jpg") == (40, 50)
    assert set(sizes.values()) == {(50, 40)}


def test_predict_never_overwrites_a_photo_and_leaves_broken_ones_out(trained, frostbox, tmp_path):
    pixels = np.zeros((40, 50, 3), np.uint8)
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    refused = frostbox("predict", trained[0] / "run", tmp_path, "--out", tmp_path)
    assert refused.status == 1
    assert "would be overwritten" in refused.err
    assert (tmp_path / "a.jpg").read_bytes() == before
    (tmp_path / "b.jpg").write_bytes(b"")
    result = frostbox("predict", trained[0] / "run", tmp_path, "--json", "-")
    assert [Path(f["image"]).name for f in json.loads(result.out)] == ["a.jpg"]
    assert "left out" in result.err
    assert "b.jpg is empty" in result.err
    assert frostbox("predict", trained[0] / "run", tmp_path, "--json", "-", "--strict").status == 1


def test_a_full_disk_and_a_file_in_place_of_a_folder_are_one_sentence(
    shapes_voc, frostbox, tmp_path
):
    full = frostbox("explore", shapes_voc, "--json", "/dev/full")
    assert full.status == 1
    assert "No space left on device" in full.err
    (tmp_path / "file").touch()
    blocked = frostbox("explore", shapes_voc, "--out", tmp_path / "file")
    assert blocked.status == 1
    assert "File exists" in blocked.err
    for result in (full, blocked):
        assert "Traceback" not in result.err


def test_resume_takes_the_runs_settings_and_refuses_others(shapes_voc, frostbox, tmp_path):
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    first = frostbox(
        "train", shapes_voc, "--size", 64, "--epochs", 2, "--head", "single", "--out", run, *cache
    )
    assert first.status == 0
    settings = (run / "settings.json").read_text()
    for flag, value, field in (
        ("--epochs", 5, "epochs is 5"),
        ("--head", "grid", "head is 'grid'"),
        ("--size", 96, "size"),
    ):  # fmt: skip
        refused = frostbox("train", shapes_voc, "--out", run, "--resume", flag, value, *cache)
        assert refused.status == 1
        assert field in refused.err
    assert frostbox("train", shapes_voc, "--out", run, "--resume", *cache).status == 0
    assert (run / "settings.json").read_text() == settings
    assert frostbox("train", shapes_voc, "--resume").status == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("neck=abc", "neck is 'abc': it must be a whole number"),
        ("dropout=2", "dropout is 2: it must be in [0, 1)"),
        ("epochs=1.5", "epochs is 1.5: it must be a whole number"),
        ("score=foo", "score is 'foo': choose one of product, objectness"),
        ("box_loss=foo", "box_loss is 'foo'"),
        ("resize=none", "resize is 'none'"),
        ("device=tpu", "device is 'tpu'"),
    ],
)
def test_settings_are_checked_before_any_work(option, message, shapes_voc, frostbox, tmp_path):
    result = frostbox(
        "train", shapes_voc, "--head", "grid", "--set", option, "--out", tmp_path / "run"
    )
    assert result.status == 1
    assert message in result.err
    assert not (tmp_path / "run").exists()
