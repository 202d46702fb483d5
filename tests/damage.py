"""Pictures whose headers are sound and whose data are not; a loss that is no number."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image
from torch import Tensor

from frostbox.steps import Batch, HeadModule

PNG_FAULTS = ("checksum", "filter", "middle")


def damaged_png(fault: str) -> bytes:
    """An 80 x 60 PNG with one of PNG_FAULTS in its compressed data."""
    whole = io.BytesIO()
    Image.new("RGB", (80, 60)).save(whole, "PNG")
    rows = [bytes([7 if fault == "filter" and y == 20 else 0]) + bytes(240) for y in range(60)]
    data = bytearray(zlib.compress(b"".join(rows), 0))
    if fault == "checksum":
        data[-4:] = b"abcd"
    if fault == "middle":
        data[2:7] = b"\xff\xff\xff\xff\xff"
    return whole.getvalue()[:33] + _chunk(b"IDAT", bytes(data)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def spoil_loss(monkeypatch: pytest.MonkeyPatch, step: int, value: float) -> None:
    """Make the loss of one step of a training so, such as nan."""
    original = HeadModule.training_step

    def spoiled(self: HeadModule, batch: Batch, index: int) -> Tensor:
        total = original(self, batch, index)
        return total * value if self.global_step == step else total

    monkeypatch.setattr(HeadModule, "training_step", spoiled)
