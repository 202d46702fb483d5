"""Engines agree with eager float32, whatever the batch, and pass on what goes wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frostbox import backbones
from frostbox.errors import BackboneError, SettingsError
from frostbox.features import engine as engine_module
from frostbox.features.engine import (
    BF16_TOLERANCE,
    TOLERANCE,
    create_engine,
)
from frostbox.features.openvino_engine import OpenVinoEngine
from frostbox.features.torch_engine import TorchEngine
from frostbox.precision import uses_bf16

SIZE = (96, 64)  # width, height


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Five pictures with contrast at every scale, channels-last as decoders give them."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(5, 3, 4, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(64, 96), mode="bilinear")
    noise = torch.rand(5, 3, 64, 96, generator=generator)
    picture = ((0.8 * smooth + 0.2 * noise) * 255).to(torch.uint8)
    return picture.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def eager(backbone: backbones.Backbone, pictures: Tensor) -> list[Tensor]:
    return backbone(backbone.normalise(pictures))


def assert_agrees(maps: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(maps, expected, strict=True):
        assert ours.dtype == torch.float16
        assert ours.shape == theirs.shape
        assert (ours.float() - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


@pytest.mark.parametrize("kind", ["torch", "openvino"])
@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("latency", [False, True])
def test_engines_agree_with_float32_eager(kind, batch_size, latency, backbone, pictures):
    engine = create_engine(kind, backbone, SIZE, batch_size=batch_size, latency=latency)
    assert engine.kind == kind
    assert_agrees(engine.run(pictures), eager(backbone, pictures))
    assert_agrees(engine.run(pictures[:1].contiguous()), eager(backbone, pictures[:1]))


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_bfloat16_agrees_within_its_tolerance_and_is_used_where_the_machine_has_it(
    kind, backbone, pictures
):
    engine = create_engine(kind, backbone, SIZE, precision="bf16")
    for ours, theirs in zip(engine.run(pictures), eager(backbone, pictures), strict=True):
        assert ours.dtype == torch.float16
        difference = (ours.float() - theirs).norm() / theirs.norm()
        assert difference <= BF16_TOLERANCE
        # Whether it really is another computation than float32.
        assert (difference > TOLERANCE) == (engine.precision == "bf16")
    fits = create_engine(kind, backbone, SIZE, precision="auto")
    assert fits.precision == ("bf16" if uses_bf16("auto", "cpu") else "32")
    name = {"bf16": "bfloat16", "32": "float32"}[fits.precision]
    assert f", {name} on cpu" in fits.describe()
    assert create_engine(kind, backbone, SIZE).precision == "32"
    with pytest.raises(SettingsError, match="precision '16' is unknown"):
        create_engine(kind, backbone, SIZE, precision="16")


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "shufflenet_v2_x1_0"])
def test_openvino_agrees_on_other_nets(name, pictures):
    other = backbones.create(name, (16, 32), "random")
    assert_agrees(create_engine("openvino", other, SIZE).run(pictures), eager(other, pictures))


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_submissions_come_back_to_their_own_place(kind, backbone, pictures):
    engine = create_engine(kind, backbone, SIZE)
    alone = engine.run(pictures)[0]
    found: dict[int, Tensor] = {}
    for turn in range(20):
        place = turn % 5
        engine.submit(
            pictures[place : place + 1],
            lambda maps, turn=turn: found.__setitem__(turn, maps[0].clone()),
        )
    engine.wait()
    assert sorted(found) == list(range(20))
    for turn, features in found.items():
        torch.testing.assert_close(features[0], alone[turn % 5], rtol=2e-3, atol=2e-3)


def test_openvino_is_the_same_at_every_place_and_time(backbone, pictures):
    engine = create_engine("openvino", backbone, SIZE)
    again = create_engine("openvino", backbone, SIZE)
    for ours, theirs in zip(engine.run(pictures), again.run(pictures.flip(0)), strict=True):
        assert torch.equal(ours, theirs.flip(0))


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_an_error_of_the_callback_comes_out(kind, backbone, pictures):
    def refuse(_maps: list[Tensor]) -> None:
        raise KeyError("mine")

    def submit_and_wait() -> None:
        engine.submit(pictures[:1], refuse)
        engine.wait()

    engine = create_engine(kind, backbone, SIZE)
    with pytest.raises(KeyError, match="mine"):
        submit_and_wait()
    assert_agrees(engine.run(pictures), eager(backbone, pictures))


def test_the_engine_leaves_the_backbone_as_it_is(backbone, pictures):
    before = backbone.weights_hash
    create_engine("openvino", backbone, SIZE).run(pictures)
    create_engine("torch", backbone, SIZE).run(pictures)
    assert backbone.weights_hash == before
    assert next(backbone.parameters()).device.type == "cpu"


def test_auto_says_what_it_chose_and_why(backbone, monkeypatch):
    engine = create_engine("auto", backbone, SIZE)
    found = re.search(
        r"auto: (\d+) pictures/s here, (OpenVINO|PyTorch) (\d+)\)$", engine.describe()
    )
    assert found
    # The one that is not taken is at most a fifth faster.
    assert int(found[1]) >= int(found[3]) / 1.21 - 1
    assert isinstance(engine, OpenVinoEngine) == (found[2] == "PyTorch")
    monkeypatch.setattr(
        "frostbox.features.openvino_engine.openvino_model",
        lambda *_: (_ for _ in ()).throw(RuntimeError("odd op")),
    )
    fallback = create_engine("auto", backbone, SIZE)
    assert isinstance(fallback, TorchEngine)
    assert "OpenVINO cannot convert efficientnet_lite0 (odd op)" in fallback.describe()
    with pytest.raises(BackboneError, match=r"odd op.*choose engine torch"):
        create_engine("openvino", backbone, SIZE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "openvino is not installed" in create_engine("auto", backbone, SIZE).describe()
    with pytest.raises(SettingsError, match="pip install openvino"):
        create_engine("openvino", backbone, SIZE)


@pytest.mark.parametrize(
    ("slow", "kind"), [("OpenVinoEngine", "torch"), ("TorchEngine", "openvino")]
)
def test_auto_takes_the_faster_one(slow, kind, backbone, monkeypatch):
    engine_class = getattr(engine_module, slow)
    run = engine_class.run

    def slowly(self, images):
        time.sleep(2)
        return run(self, images)

    monkeypatch.setattr(engine_class, "run", slowly)
    engine = create_engine("auto", backbone, SIZE)
    assert engine.kind == kind
    found = re.search(r"auto: (\d+) pictures/s here, \w+ (\d+)\)$", engine.describe())
    assert found
    assert int(found[1]) > int(found[2])


@pytest.mark.slow
@pytest.mark.parametrize("latency", [True, False])
def test_a_compiled_net_agrees_with_eager_float32(latency, backbone, pictures):
    engine = create_engine("compile", backbone, SIZE, latency=latency)
    assert engine.kind == "compile"
    assert "compiled, channels-last, float32 on cpu (asked for)" in engine.describe()
    assert_agrees(engine.run(pictures), eager(backbone, pictures))
    assert_agrees(engine.run(pictures[:1].contiguous()), eager(backbone, pictures[:1]))


def test_without_a_compiler_it_says_so(backbone, monkeypatch):
    def no_compiler(*_args, **_options):
        raise RuntimeError("no working C++ compiler found\nsecond line")

    monkeypatch.setattr(torch, "compile", lambda *_args, **_options: no_compiler)
    with pytest.raises(BackboneError, match=r"\(no working C\+\+ compiler found\); it needs"):
        create_engine("compile", backbone, SIZE)


def test_wrong_requests(backbone, pictures):
    with pytest.raises(
        SettingsError, match="'tpu' is unknown; choose one of auto, torch, compile, openvino"
    ):
        create_engine("tpu", backbone, SIZE)
    with pytest.raises(SettingsError, match="not on cuda"):
        create_engine("openvino", backbone, SIZE, "cuda")
    engine = create_engine("torch", backbone, SIZE)
    with pytest.raises(ValueError, match=r"takes uint8 \(B, 3, 64, 96\)"):
        engine.run(pictures[:, :, :32])
    with pytest.raises(ValueError, match="takes uint8"):
        engine.run(pictures.float())


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_torch_on_an_accelerator(device, backbone, pictures):
    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        pytest.skip(f"no {device} device")
    engine = create_engine("auto", backbone, SIZE, device)
    assert engine.kind == "torch"
    maps = engine.run(pictures)
    for ours, theirs in zip(maps, eager(backbone, pictures), strict=True):
        # TF32 and other convolution orders: looser than on the CPU.
        assert (ours.float() - theirs).abs().max() <= 1e-2 * theirs.abs().max()


HELPERS = """
import os
import torch
from frostbox import backbones
from frostbox.features.engine import create_engine

def threads():
    return len(os.listdir("/proc/self/task"))

engine = create_engine("openvino", backbones.create("efficientnet_lite0", (8,)), (320, 320))
pictures = torch.zeros(16, 3, 320, 320, dtype=torch.uint8)
pictures = pictures.contiguous(memory_format=torch.channels_last)
for picture in pictures.split(1):
    engine.submit(picture, lambda maps: None)
engine.wait()
torch.cat([torch.zeros(10**6)] * 2)  # this thread's own helpers
before = threads()
assert [tuple(maps.shape) for maps in engine.run(pictures)] == [(16, 40, 40, 40)]
print(threads() - before, torch.get_num_threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_threads_of_openvino_get_no_helpers_of_torch():
    """Beside them all that is computed later would be a third slower, see threads.py."""
    done = subprocess.run(
        [sys.executable, "-c", HELPERS], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"}, check=False,
    )  # fmt: skip
    assert done.stdout == "0 2\n", done.stderr
