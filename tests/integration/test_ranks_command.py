"""`frostbox extract` by two processes, as Fabric, torchrun and one process alone start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.shapes import write_shapes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def many(tmp_path):
    """Enough pictures for two shards, of 512 and 8; one cannot be read."""
    root = write_shapes(tmp_path / "VOCdevkit" / "VOC2012", train=520, val=1)
    (root / "JPEGImages" / "shape_515.jpg").write_bytes(b"\xff\xd8\xff broken")
    return tmp_path


def extract(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, "-m", "frostbox", "extract", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip


def test_the_command_writes_the_bytes_of_one_process(many, frostbox, tmp_path):
    options = (
        many, "--size", 64, "--weights", "random:0", "--engine", "torch", "--device", "cpu",
        "--precision", "32",
    )  # fmt: skip
    fabric = extract(*options, "--out", tmp_path / "fabric", "--devices", 2)
    torchrun = extract(*options, "--out", tmp_path / "torchrun", before=TORCHRUN)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = frostbox("extract", *options, "--out", tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    for done in (fabric, torchrun):
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        said = " ".join(done.stderr.split())
        assert said.count("519 images x 1 views in") == 1
        assert said.count("shape_515.jpg") == 1
        assert "extracting 520 views of 520 photos by 2 processes on 1 machine: about" in said
        assert "distributed_backend" not in said
    assert alone.status == 0
    expected = caches(tmp_path / "alone")
    assert set(expected) == {"index.json", *(f"shard-0000{k}.safetensors" for k in range(2))}
    assert caches(tmp_path / "fabric") == expected
    assert caches(tmp_path / "torchrun") == expected

    missing = extract(tmp_path / "nowhere", "--out", tmp_path / "x", "--devices", 2)
    assert missing.returncode == 1
    assert missing.stderr.count("error: ") == 1
    assert "nowhere" in missing.stderr


def caches(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".lock")}
