"""Real processes (gloo) that run a function of a test module together, started from outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LONGEST = 300  # seconds


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    status: int
    out: str
    err: str


def together(
    module: str, function: str, *arguments: object, count: int = 2, pods: bool = False
) -> list[Ended]:
    """Run `function` of `module` in so many processes, with the arguments as texts.

    Args:
        pods: whether each is told what a PyTorchJob of Kubernetes tells a pod.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
    running = []
    for rank in range(count):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if pods:
            shared |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
        else:
            shared |= {"LOCAL_RANK": str(rank)}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                env={**os.environ, **shared, "OMP_NUM_THREADS": "1"},
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    try:
        said = [process.communicate(timeout=_LONGEST) for process in running]
    finally:
        for process in running:
            process.kill()
    return [Ended(p.returncode, *texts) for p, texts in zip(running, said, strict=True)]
