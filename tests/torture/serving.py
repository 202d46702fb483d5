"""kill -9 of a server under load: it starts again on the same port and answers as before."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import torch

from frostbox import backbones
from frostbox.detector import Detector
from frostbox.heads import create_head
from frostbox.learning import feature_spec
from frostbox.selection import Settings
from tests.serve.conftest import picture
from tests.torture.kills import Report, Running

_LONGEST = 2.0  # seconds under load before a kill


def torture_serve(kills: int, folder: Path, seed: int = 0) -> Report:
    """Kill a server so often; every time it must come back, with the same answer to a picture."""
    draw, report = random.Random(f"serve/{seed}"), Report("serve", seconds=_LONGEST)
    folder.mkdir(parents=True, exist_ok=True)
    model = _detector().save(folder / "best.safetensors")
    photo = picture((320, 240), "JPEG", 1)
    # Where uploads lie, so that what is left of them is seen.
    uploads = folder / "tmp"
    uploads.mkdir()
    os.environ["TMPDIR"] = str(uploads)
    try:
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        expected: bytes | None = None
        words = ["serve", str(model), "--port", str(port), "--engine", "torch"]
        for number in range(kills + 1):
            running = Running(words, folder / "log")
            try:
                answer = _answer(port, photo, running)
                expected = answer if expected is None else expected
                if answer != expected:
                    report.differing.append(f"answer {number}")
                left = list(uploads.glob("frostbox-uploads-*"))
                if len(left) != 1:
                    report.differing.append(f"{len(left)} folders of uploads")
                if number == kills:
                    break
                share = draw.uniform(0, 1)
                _load(port, photo, share * _LONGEST)
                report.moments.append(share)
            except AssertionError as error:
                report.refused.append(str(error))
                break
            finally:
                if number < kills:
                    running.kill()
            report.completed += 1
        running.process.send_signal(signal.SIGTERM)
        running.wait()
        if list(uploads.glob("frostbox-uploads-*")):
            report.differing.append("uploads after its end")
    finally:
        del os.environ["TMPDIR"]
    return report


def _detector() -> Detector:
    """One that another process can load, and that answers at once."""
    backbone = backbones.create("efficientnet_lite0", (32,), "random:0")
    torch.manual_seed(0)
    head = create_head("grid", feature_spec(backbone, (96, 96)), 3)
    return Detector(backbone, head, "grid", Settings(("a", "b", "c"), (96, 96)))


def _answer(port: int, photo: bytes, running: Running) -> bytes:
    """The first answer of a server that is starting."""
    limit = time.monotonic() + 3600
    while running.process.poll() is None and time.monotonic() < limit:
        if f":{port} " in running.said:
            with suppress(urllib.error.URLError, ConnectionError):  # it listens a moment later
                return _ask(port, photo)
        time.sleep(0.05)
    raise AssertionError(f"no answer: {running.said}")


def _ask(port: int, photo: bytes) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", photo, {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
    return found


def _load(port: int, photo: bytes, seconds: float) -> None:
    """Two clients that ask without pause, for so long; the kill comes while they wait."""
    stop = time.monotonic() + seconds

    def ask() -> None:
        while True:
            try:
                _ask(port, photo)
            except (OSError, urllib.error.URLError):
                return  # the server is gone
            if time.monotonic() > stop + 30:
                return

    for _ in range(2):
        threading.Thread(target=ask, daemon=True).start()
    time.sleep(seconds)
