"""A server on loopback, in a thread of the tests, with an untrained detector."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from frostbox import Detector, backbones
from frostbox.heads import FeatureSpec, create_head
from frostbox.selection import Selection, Settings
from frostbox.serve.guard import Guard
from frostbox.serve.limits import Limits
from frostbox.serve.server import ServeSettings, build, http_server, open_port
from tests.report.reports import EVIL

CLASSES = (EVIL, "green", "${window.pwned=3}{{pwned}}")
LIMITS = Limits(max_body=3_000_000, max_pixels=4_000_000, queue=16, batch=4)


@dataclass(frozen=True)
class Running:
    """A server that runs: its address, what stands in front of it, and a client."""

    address: str
    guard: Guard
    client: httpx.Client
    model: Path
    uploads: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def picture(
    size: tuple[int, int] = (240, 160), form: str = "PNG", seed: int = 0, **options: object
) -> bytes:
    """The bytes of a picture of noise."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with names that are markup, and an example beside the detector."""
    folder = tmp_path_factory.mktemp("runs") / "<img src=x onerror='window.pwned=4'>"
    (folder / "examples").mkdir(parents=True)
    (folder / "examples" / "one.png").write_bytes(picture((120, 90), seed=3))
    torch.manual_seed(0)
    size = (160, 160)
    backbone = backbones.create("efficientnet_lite0", (32,), "auto")
    head = create_head(
        "grid", FeatureSpec((32,), backbone.channels, backbone.map_sizes(size)), len(CLASSES)
    )
    with torch.no_grad():  # untrained, most cells hold nothing; here many do
        head.classification[0].bias[-1] += 2.5
    selection = Selection(threshold=0.1, class_thresholds=(0.15, 1.0, 0.15))
    return Detector(backbone, head, "grid", Settings(CLASSES, size, selection=selection)).save(
        folder / "best.safetensors"
    )


@pytest.fixture(scope="session")
def running(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    uploads = tmp_path_factory.mktemp("uploads")
    guard = build(model, ServeSettings(limits=LIMITS, engine="torch"), uploads)
    with open_port("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        server = http_server(guard)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            yield Running(address, guard, client, model, uploads)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
