"""What is published: a wheel that anybody can build again to the byte, and a list of its parts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")


def _built(folder: Path, umask: int) -> Path:
    """The wheel, built from a copy of the sources."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            left = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=left)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    now = time.time() - len(str(folder)) * 1e5  # files of different days
    for path in folder.rglob("*"):
        os.utime(path, (now, now))
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"],
        cwd=folder, capture_output=True, text=True, umask=umask,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.mark.slow
def test_two_wheels_of_one_source_are_equal(tmp_path: Path) -> None:
    pytest.importorskip("build")
    one = _built(tmp_path / "a", 0o022)
    two = _built(tmp_path / "another" / "and a longer folder", 0o022)
    assert one.name == two.name
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()
    with zipfile.ZipFile(one) as wheel:
        names = wheel.namelist()
        assert {info.date_time for info in wheel.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    for part in ("py.typed", "data/artwork", "report/page/page.html", "serve/page", "untrusted.py"):
        assert any(name.startswith(f"frostbox/{part}") for name in names), part
    assert not any(name.startswith(("tests", "docs")) for name in names)


@pytest.mark.slow
def test_the_list_of_parts_names_what_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    path = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible",
               "--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON",
               "--output-file", str(path), sys.executable]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert found["bomFormat"] == "CycloneDX"
    assert found["metadata"]["component"]["name"] == "frostbox"
    parts = {part["name"].lower(): part for part in found["components"]}
    for name in ("torch", "safetensors", "pillow", "defusedxml", "pyyaml"):
        assert parts[name]["version"]
        assert parts[name]["purl"].startswith(f"pkg:pypi/{name}@")
