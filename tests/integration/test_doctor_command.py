"""`frostbox doctor` as a user types it, and the check before a training."""

from __future__ import annotations

import json
import subprocess
import sys

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
