"""How a frozen backbone is executed: uint8 pictures in, float16 feature maps out.

Normalisation and the conversion to float16 are part of what is executed, so that a picture crosses
into the engine as bytes and comes out as what the cache stores; a whole detector is executed the
same way (pictures.py). Engines agree with the backbone in float32 eager PyTorch within `TOLERANCE`,
with bfloat16 inside within `BF16_TOLERANCE`; they differ in speed only. Extraction submits pictures
and is called back in the engine's time; prediction calls `run`. No photo is read here.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from typing import TYPE_CHECKING

import torch

from frostbox.errors import BackboneError, SettingsError
from frostbox.features.engine_contract import Engine
from frostbox.features.openvino_engine import OpenVinoEngine
from frostbox.features.pictures import FeaturePictures, Pictures
from frostbox.features.torch_engine import TorchEngine
from frostbox.precision import PRECISIONS, uses_bf16

if TYPE_CHECKING:
    from frostbox.backbones import Backbone

KINDS = ("auto", "torch", "compile", "openvino")

# Against float32 eager, as |a - b| <= TOLERANCE * max(|b| over the map): float16 keeps 11 bits
# (5e-4 of the value), and sums in another order add some 1e-5.
TOLERANCE = 1e-3
# Of the difference's norm as a share of the map's. bfloat16 keeps 8 bits of every value in between;
# measured: 0.02 to 0.07.
BF16_TOLERANCE = 0.1

_TRIED = 8  # pictures by eager PyTorch, and one by one where latency counts
_CLEARLY = 1.2  # times as fast


def create_engine(
    kind: str,
    net: Backbone | Pictures,
    size: tuple[int, int],
    device: str = "cpu",
    *,
    precision: str = "32",
    latency: bool = False,
    batch_size: int | None = None,
) -> Engine:
    """The engine for pictures of one size.

    Args:
        kind: "torch" (eager), "compile" (torch.compile, which needs a C++ compiler and most of a
            minute), "openvino", or "auto": on a CPU OpenVINO where it is installed and can convert
            the net, unless a few pictures show that eager PyTorch is faster there; else PyTorch.
        net: a backbone, or other `Pictures`; stays as it is, the engine works on a copy.
        size: (width, height) of the pictures, in pixels.
        device: "cpu", "cuda", "cuda:1" or "mps".
        precision: "32", "bf16", or "auto": bf16 where the device computes with it.
        latency: tune for one picture at a time instead of for many.
        batch_size: pictures a submission; None for what is fast on the device.

    Raises:
        SettingsError: unknown kind or precision, or OpenVINO asked for where it is not to be had.
        BackboneError: OpenVINO or torch.compile was asked for and cannot take this net.
    """
    if kind not in KINDS:
        raise SettingsError(f"engine {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    if precision not in PRECISIONS:
        raise SettingsError(
            f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}"
        )
    bf16 = uses_bf16(precision, device)
    pictures = net if isinstance(net, Pictures) else FeaturePictures(net)
    installed = importlib.util.find_spec("openvino") is not None
    if kind == "openvino" and not device.startswith("cpu"):
        raise SettingsError(f"engine openvino runs on the CPU, not on {device}; choose torch")
    if kind == "openvino" and not installed:
        raise SettingsError("engine openvino needs the package openvino; run pip install openvino")
    reason = "asked for"
    most = batch_size or (1 if kind == "compile" and latency else None)
    torch_engine = functools.partial(TorchEngine, pictures, size, most, device=device)
    if kind in ("auto", "openvino") and device.startswith("cpu"):
        if installed:
            try:
                engine = OpenVinoEngine(
                    pictures, size, batch_size, bf16=bf16, latency=latency, reason=reason
                )
                if kind == "openvino":
                    return engine
                return _faster(engine, torch_engine(bf16=bf16, reason=""), size, latency)
            except BackboneError as error:
                if kind == "openvino":
                    raise
                reason = f"auto: {error}"
        else:
            reason = "auto: openvino is not installed"
    elif kind == "auto":
        reason = f"auto: the device is {device}"
    return torch_engine(bf16=bf16, reason=reason, compiled=kind == "compile")


def _faster(
    engine: OpenVinoEngine, other: TorchEngine, size: tuple[int, int], latency: bool
) -> Engine:
    """The faster of the two as it will be used; the first unless the other is clearly so."""
    width, height = size
    most = _TRIED if latency else max(_TRIED, 2 * engine.at_once)
    rivals: list[tuple[Engine, int]] = [(engine, most), (other, _TRIED)]
    speeds = []
    for tried, count in rivals:
        together = 1 if latency else count
        pictures = torch.zeros(together, 3, height, width, dtype=torch.uint8)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        tried.run(pictures)  # the first run allocates
        started = time.perf_counter()
        for _ in range(count // together):
            tried.run(pictures)
        speeds.append(count / (time.perf_counter() - started))
    if speeds[1] > _CLEARLY * speeds[0]:
        other.reason = f"auto: {speeds[1]:.0f} pictures/s here, OpenVINO {speeds[0]:.0f}"
        return other
    engine.reason = f"auto: {speeds[0]:.0f} pictures/s here, PyTorch {speeds[1]:.0f}"
    return engine
