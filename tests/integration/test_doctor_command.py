"""`frostbox doctor` as a user types it, and the check before a training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from frostbox.convert import convert
from tests.conftest import xml_object
from tests.shapes import write_shapes


def _break(root):
    path = root / "Annotations" / "shape_000.xml"
    broken = xml_object("red", (30, 31, 10, 39)) + "</annotation>"
    path.write_text(path.read_text().replace("</annotation>", broken))


def test_status_and_json(frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012")
    fine = frostbox("doctor", root, "--json", "-")
    assert fine.status == 0
    assert json.loads(fine.out)["healthy"]
    _break(root)
    broken = frostbox("doctor", tmp_path, "--json", tmp_path / "found.json")
    assert broken.status == 1
    assert "breaks training: box-inverted (1)" in broken.out
    assert "Traceback" not in broken.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"]["breaks"] == 1
    fixed = frostbox("doctor", root, "--fix", "--out", tmp_path / "fixed")
    assert fixed.status == 0
    assert frostbox("doctor", tmp_path / "fixed").status == 0
    again = frostbox("doctor", root, "--fix", "--out", tmp_path / "fixed")
    assert again.status == 1
    assert "not an empty folder" in again.err


def test_bad_options_are_one_sentence(frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012", train=2, val=2)
    for options, message in (
        (["--fix"], "give both or neither"),
        (["--cells", "7,0"], "cells is '7,0'"),
        (["--split", "nosuch"], "nosuch.txt does not exist"),
    ):
        result = frostbox("doctor", root, *options)
        assert result.status == 1
        assert message in result.err
        assert "Traceback" not in result.err


def test_training_stops_before_it_starts(frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012")
    _break(root)
    result = frostbox("train", root, "--size", 64, "--out", tmp_path / "run")
    assert result.status == 1
    assert "shape_000.xml: object" in result.err
    assert "a maximum below its minimum" in result.err
    assert not (tmp_path / "run").exists()


def test_a_yolo_set_with_faults(frostbox, tmp_path):
    convert(write_shapes(tmp_path / "VOC2012"), tmp_path / "yolo", "yolo")
    label = tmp_path / "yolo/labels/train/shape_000.txt"
    good = label.read_text()
    count = len(good.splitlines())
    label.write_text(good + "9 0.5 0.5 0.1 0.1\n" + good.splitlines()[0] + "\n")
    told = frostbox("doctor", tmp_path / "yolo", "--json", tmp_path / "found.json")
    assert told.status == 1
    place = f"labels/train/shape_000.txt: line {count + 1}"
    assert f"{place} has class 9, and data.yaml names 0 to 2" in told.out
    assert "spoils training: box-duplicate (1)" in told.out
    assert "--fix" not in told.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"]["breaks"] == 1
    assert frostbox("doctor", tmp_path / "yolo", "--split", "val").status == 0
    label.write_text(good + good.splitlines()[0] + "\n")
    run = ("train", tmp_path / "yolo", "--head", "grid", "--size", 64, "--epochs", 1)
    done = frostbox(*run, "--weights", "random:0", "--out", tmp_path / "run",
                    "--cache", tmp_path / "cache")  # fmt: skip
    assert done.status == 0, done.err
    assert "warning: the same box twice: " in done.err
    assert f"`frostbox doctor {tmp_path / 'yolo'}` says more." in done.err


def test_xml_beside_photos_is_fixed(frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012", train=8, val=4)
    flat = tmp_path / "flat"
    shutil.copytree(root / "JPEGImages", flat)
    shutil.copytree(root / "Annotations", flat, dirs_exist_ok=True)
    assert frostbox("doctor", flat).status == 0
    path = flat / "shape_000.xml"
    broken = xml_object("red", (30, 31, 10, 39)) + "</annotation>"
    path.write_text(path.read_text().replace("</annotation>", broken))
    told = frostbox("doctor", flat)
    assert told.status == 1
    assert "spoils training: box-inverted (1)" in told.out
    fixed = frostbox("doctor", flat, "--fix", "--out", tmp_path / "fixed")
    assert fixed.status == 0, fixed.out
    assert "1 repairs, all listed in" in fixed.out


def test_the_doctor_needs_no_torch(tmp_path):
    root = write_shapes(tmp_path / "VOC2012", train=4, val=2)
    code = (
        "import sys; sys.argv = ['frostbox', 'doctor', sys.argv[1]]\n"
        "from frostbox.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, root], check=True, capture_output=True)
