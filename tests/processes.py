"""Real processes (gloo) that run a function of a test module together, started from outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def together(module: str, function: str, *arguments: str, count: int = 2) -> list[str]:
    """What each process prints, after checking that all ended well; arguments are texts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
    running = []
    for rank in range(count):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": str(rank)}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env={**os.environ, **shared, "OMP_NUM_THREADS": "1"},
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    ended = [process.communicate(timeout=300) for process in running]
    for process, (_, said) in zip(running, ended, strict=True):
        assert process.returncode == 0, said
    return [printed for printed, _ in ended]
