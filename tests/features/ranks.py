"""What tests of extraction by several processes share: starting the driver, waiting, comparing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from frostbox.features.cache import FeatureCache
from frostbox.features.extract import extract
from tests.features.conftest import photo_set
from tests.features.ranks_driver import OPTIONS, backbone

ROOT = Path(__file__).parents[2]
DRIVER = (sys.executable, "-m", "tests.features.ranks_driver")
HURRY = 300  # seconds for what takes ten on a machine that does nothing else
_OURS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE")
Start = Callable[..., subprocess.Popen[str]]


def files(folder: Path) -> dict[str, bytes]:
    """What a cache consists of."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".lock")}


def one_process(photos: Path, count: int, out: Path, **options: Any) -> FeatureCache:
    chosen = {**OPTIONS, **options}
    return extract(photo_set(photos, count), backbone(), out, workers=1, **chosen)


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """A function that starts the driver with jobs; each is ended, with what it started, after."""
    started: list[subprocess.Popen[str]] = []

    def start(
        asked: dict[str, Any], before: tuple[str, ...] = (), **variables: str
    ) -> subprocess.Popen[str]:
        path = folder / f"jobs{len(started)}.json"
        path.write_text(json.dumps(asked))
        environment = {k: v for k, v in os.environ.items() if k not in _OURS}
        process = subprocess.Popen(
            [*before, *DRIVER, str(path)], cwd=ROOT, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environment, "OMP_NUM_THREADS": "1", **variables},
        )  # fmt: skip
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def finished(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What the ranks of a driver that succeeds have printed."""
    out, err = process.communicate(timeout=HURRY)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def await_file(path: Path, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HURRY
    while not path.exists():
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.05)
