"""Commands on a data set in a bucket, as a user types them, against a real S3 server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from frostbox import Detector
from frostbox.remote import RemoteFolder, remote_home
from tests.s3 import bucket, s3_server  # noqa: F401
from tests.shapes import write_shapes

QUICK = ("--head", "grid", "--size", 64, "--epochs", 1, "--weights", "random:0", "--device", "cpu")


@pytest.fixture
def shapes(bucket, tmp_path, data_home):  # noqa: F811
    """A VOC folder, and its address."""
    folder = write_shapes(tmp_path / "shapes", train=10, val=4)
    there = RemoteFolder(bucket)
    there._fs.put(f"{folder}/", f"{there._base}/shapes/", recursive=True)
    return folder, f"{bucket}/shapes"


def test_what_is_wrong_is_named_by_its_address(shapes, frostbox, tmp_path):
    folder, url = shapes
    there = RemoteFolder(url)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    there.put(tmp_path / "broken.jpg", "JPEGImages/shape_003.jpg")
    done = frostbox("doctor", url)
    assert done.status == 1
    assert "JPEGImages/shape_003.jpg is not an image in a known format" in done.out
    assert "14 photos decoded" in done.out
    assert done.out.startswith(f"{url}\n")
    assert str(remote_home()) not in done.out
    assert frostbox("doctor", url, "--fix", "--out", tmp_path / "mended").status == 0
    for photo in (folder / "JPEGImages").iterdir():
        if photo.stem != "shape_003":
            assert (tmp_path / "mended/JPEGImages" / photo.name).read_bytes() == photo.read_bytes()
    xml = (folder / "Annotations/shape_000.xml").read_text()
    (tmp_path / "bad.xml").write_text(xml.replace("</annotation>", ""))
    there.put(tmp_path / "bad.xml", "Annotations/shape_000.xml")
    done = frostbox("train", url, *QUICK, "--out", tmp_path / "run")
    assert done.status == 1
    assert f"{url}/Annotations/shape_000.xml" in done.err
    assert str(remote_home() / "sets") not in done.err.partition("error:")[2]
    done = frostbox("explore", f"{url}-not")
    assert done.status == 1
    assert f"error: {url}-not does not exist, or nothing lies in it" in done.err


def test_explore_and_convert(shapes, frostbox, tmp_path):
    folder, url = shapes
    here, there = (frostbox("explore", data, "--json", "-") for data in (folder, url))
    assert json.loads(here.out) == json.loads(there.out)
    for data, name in ((folder, "here"), (url, "there")):
        assert not frostbox("convert", data, tmp_path / name, "--to", "yolo").status
    files = {p.relative_to(tmp_path / "here") for p in (tmp_path / "here").rglob("*.*")}
    assert files == {p.relative_to(tmp_path / "there") for p in (tmp_path / "there").rglob("*.*")}
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.slow
def test_a_training_in_a_process_of_its_own(shapes, frostbox, tmp_path):
    folder, url = shapes
    runs = {}
    for data, name in ((folder, "here"), (url, "there")):
        command = [sys.executable, "-m", "frostbox", "train", data, *QUICK,
                   "--out", tmp_path / name, "--cache", tmp_path / f"{name}-cache"]  # fmt: skip
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert not done.returncode, done.stderr
        runs[name] = Detector.load(tmp_path / name / "best.safetensors").state_dict()
    assert all(torch.allclose(runs["here"][k], v, atol=1e-4) for k, v in runs["there"].items())
    summary = json.loads((tmp_path / "there" / "summary.json").read_text())
    assert summary["data"]["root"] == url
    # The features of the one are those of the other.
    done = frostbox("train", folder, *QUICK, "--out", tmp_path / "third",
                    "--cache", tmp_path / "there-cache")  # fmt: skip
    assert "features of 'train' reused from" in done.err
    done = frostbox("evaluate", tmp_path / "there", url, "--json", "-")
    assert not done.status
    same = frostbox("evaluate", tmp_path / "there", folder, "--json", "-")
    assert json.loads(done.out) == json.loads(same.out)


@pytest.mark.slow
def test_two_processes_share_what_is_fetched(shapes, tmp_path):
    _, url = shapes
    command = [sys.executable, "-m", "frostbox", "train", url, *QUICK, "--devices", 2,
               "--out", tmp_path / "run", "--cache", tmp_path / "cache"]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    assert len([*(remote_home() / "sets").iterdir()]) == 1
    assert done.stderr.count("fetched into") == 1
