"""The commands on COCO JSON, YOLO and data without splits, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torchvision.datasets import CocoDetection

import frostbox as package
from frostbox.convert import convert
from tests.data.sets import coco_image, coco_object, photo, write_coco_file

QUICK = ("--head", "grid", "--size", 64, "--epochs", 1, "--weights", "random:0")


@pytest.fixture(scope="session")
def written(shapes_voc, tmp_path_factory):
    """The shapes as COCO and as YOLO."""
    parent = tmp_path_factory.mktemp("formats")
    for to in ("coco", "yolo"):
        convert(shapes_voc, parent / to, to)
    return parent


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ("coco", "COCO JSON, train (instances_train.json): 48 images"),
        ("coco/annotations/instances_train.json", "COCO JSON, val (instances_val.json): 16 images"),
        ("yolo", "YOLO, train (train as data.yaml says): 48 images"),
    ],
)
def test_train_and_evaluate(written, frostbox, tmp_path, data, seen):
    run = tmp_path / "run"
    done = frostbox("train", written / data, *QUICK, "--out", run, "--cache", tmp_path / "cache")
    assert done.status == 0, done.err
    assert seen in done.err
    assert "3 classes from" in done.err
    assert not (run / "splits.json").exists()
    found = json.loads(frostbox("evaluate", run, written / data, "--json", "-").out)
    assert found["images"] == 16
    assert set(found["ap50_per_class"]) == {"blue", "green", "red"}
    assert 0 <= found["coco_ap"] <= 1


def test_all_formats_give_the_same_weights(written, shapes_voc, frostbox, tmp_path):
    states = []
    for data in (shapes_voc, written / "coco", written / "yolo"):
        run = tmp_path / f"run{len(states)}"
        cache = ("--cache", tmp_path / "cache")
        assert frostbox("train", data, *QUICK, "--out", run, *cache).status == 0
        states.append(package.Detector.load(run).head.state_dict())
    for other in states[1:]:
        assert all((value == other[name]).all() for name, value in states[0].items())


def test_a_split_is_made_once_and_shown(written, frostbox, tmp_path, data_home):
    flat = tmp_path / "export"
    flat.mkdir()
    shutil.copytree(written / "coco/images", flat / "images")
    shutil.copy(written / "coco/annotations/instances_train.json", flat / "result.json")
    run = tmp_path / "run"
    done = frostbox("train", flat, *QUICK, "--out", run, "--cache", tmp_path / "cache")
    assert done.status == 0, done.err
    assert "has no val: 'result' is split by class" in done.err
    assert f"written down in {data_home / 'splits'}" in done.err
    stored = json.loads((run / "splits.json").read_text())["splits"]
    assert len(stored["train"]) + len(stored["val"]) == 48
    found = json.loads(frostbox("evaluate", run, flat, "--json", "-").out)
    assert found["images"] == len(stored["val"])
    assert sorted(p.name for p in flat.iterdir()) == ["images", "result.json"]


def test_classes_and_map_hold_for_evaluation_too(written, frostbox, tmp_path):
    run, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    done = frostbox("train", written / "coco", *QUICK, "--out", run, *cache,
                    "--map", "red=warm,blue=cold", "--map", "green=cold",
                    "--classes", "cold")  # fmt: skip
    assert done.status == 0, done.err
    assert "objects of 1 other classes are left out (warm)" in done.err
    assert "1 classes from the names that were given: cold" in done.err
    stored = json.loads((run / "settings.json").read_text())
    assert stored["rename"] == {"red": "warm", "blue": "cold", "green": "cold"}
    found = json.loads(frostbox("evaluate", run, written / "yolo", "--json", "-").out)
    assert set(found["ap50_per_class"]) == {"cold"}
    assert found["objects_per_class"]["cold"] > 0
    saved = tmp_path / "found.json"
    assert frostbox("evaluate", run, written / "yolo", "--save-predictions", saved).status == 0
    judged = frostbox("compare", run, saved, written / "yolo", "--bootstrap", 20, "--json", "-")
    assert json.loads(judged.out)["ap50"]["mean"]["difference"] == pytest.approx(0, abs=1e-6)
    again = frostbox("train", written / "yolo", "--config", run / "settings.json", *cache,
                     "--out", tmp_path / "again")  # fmt: skip
    assert again.status == 0, again.err
    misspelt = frostbox("train", written / "coco", *QUICK, *cache, "--classes", "gren")
    assert misspelt.status == 1
    assert "did you mean 'green'?" in misspelt.err
    for wrong in ("red", "red=", "red=a,red=b"):
        assert frostbox("explore", written / "coco", "--map", wrong).status == 1


def test_explore_extract_and_compare(written, frostbox, tmp_path):
    data = written / "coco"
    told = frostbox("explore", data, "--classes", "red", "--json", "-", "--report",
                    tmp_path / "page.html")  # fmt: skip
    assert told.status == 0, told.err
    assert json.loads(told.out)["classes"] == ["red"]
    assert (tmp_path / "page.html").stat().st_size > 10_000
    out = frostbox("extract", data, "--size", 64, "--weights", "random:0", "--out", tmp_path / "f")
    assert out.status == 0, out.err
    run = tmp_path / "run"
    cache = ("--cache", tmp_path / "cache")
    assert frostbox("train", data, *QUICK, "--out", run, *cache).status == 0
    found = tmp_path / "found.json"
    assert frostbox("evaluate", run, data, "--save-predictions", found).status == 0
    judged = frostbox("compare", run, found, data, "--bootstrap", 20, "--json", "-")
    assert json.loads(judged.out)["ap50"]["mean"]["difference"] == pytest.approx(0, abs=1e-6)


def test_convert(shapes_voc, frostbox, tmp_path):
    done = frostbox("convert", shapes_voc, tmp_path / "yolo", "--to", "yolo", "--json", "-")
    assert done.status == 0, done.err
    assert json.loads(done.out)["images"] == {"train": 48, "val": 16}
    back = ("convert", tmp_path / "yolo", tmp_path / "voc", "--to", "voc")
    again = frostbox(*back, "--split", "val")
    assert "val: 16 images" in again.out
    assert "lost: nothing" in again.out
    refused = frostbox(*back)
    assert refused.status == 1
    assert "is not an empty folder" in refused.err


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_the_doctor_reads_them_and_says_what_it_cannot_fix(written, frostbox, tmp_path, to):
    told = frostbox("doctor", written / to, "--json", "-")
    assert told.status == 0, told.out
    assert json.loads(told.out)["lists"] == {"train": 48, "val": 16}
    refused = frostbox("doctor", written / to, "--fix", "--out", tmp_path / "fixed")
    assert refused.status == 1
    assert "--fix writes VOC XML, and" in refused.err
    assert f"`frostbox convert {written / to} FOLDER --to voc`" in refused.err
    assert not (tmp_path / "fixed").exists()


def test_faults_stop_a_training_before_it_starts(frostbox, tmp_path):
    photo(tmp_path / "a.jpg")
    faulty = [coco_object(1, 77, [1, 2, 3, 4]), coco_object(9, 1, [1, 2, 3, 4])]
    write_coco_file(tmp_path / "train.json", [coco_image(1, "a.jpg")], faulty)
    write_coco_file(tmp_path / "val.json", [coco_image(1, "a.jpg")])
    done = frostbox("train", tmp_path, *QUICK, "--out", tmp_path / "run")
    assert done.status == 1
    assert "2 faults: annotations[0] (id 1): category_id 77 is of no category" in done.err
    assert not (tmp_path / "run").exists()


def test_nothing_to_learn_from_stops_a_training_before_extraction(frostbox, tmp_path):
    names = [photo(tmp_path / f"{k}.jpg", seed=k).name for k in range(4)]
    entries = [coco_image(k, name) for k, name in enumerate(names)]
    masks = [
        {"image_id": k, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]} for k in (0, 1)
    ]
    write_coco_file(tmp_path / "all.json", entries, masks)
    done = frostbox("train", tmp_path, *QUICK, "--out", tmp_path / "run")
    assert done.status == 1
    assert "no photo of 'train' has an object to learn from" in done.err
    assert not (tmp_path / "run").exists()


def test_training_from_python_on_objects(written, tmp_path):
    root = written / "coco"
    data = {
        split: CocoDetection(root / "images", root / f"annotations/instances_{split}.json")
        for split in ("train", "val")
    }
    detector = package.train(
        data, head="grid", size=(64, 64), epochs=1, weights="random:0", out=tmp_path / "run",
        cache=tmp_path / "cache", rename={"red": "warm"}, classes=("warm", "blue"),
    )  # fmt: skip
    assert detector.settings.classes == ("warm", "blue")
    assert detector.settings.rename == {"red": "warm"}
    assert Path(tmp_path / "run/best.safetensors").is_file()
