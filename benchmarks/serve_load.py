"""`frostbox serve` under load on this machine: requests a second, latency, memory.

    python benchmarks/serve_load.py MODEL PHOTOS [--clients 16] [--seconds 60] [--queue 32]

Clients run in a process of their own and each asks again as soon as it is answered; one that is
refused with 503 waits as Retry-After says. Beside it: one prediction after the other by the same
detector, prepared the same way, in a program without a server, on the same photos.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from frostbox.inputs import find_images

_PHOTOS = 64


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        seconds: of each answer with status 200. statuses: how often each came. memory: bytes that
        the server held, once a second.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)

    def summary(self, duration: float) -> dict[str, Any]:
        cuts = quantiles(self.seconds, n=100)
        third = max(1, len(self.memory) // 3)
        return {
            "requests_per_second": len(self.seconds) / duration,
            "p50": cuts[49], "p99": cuts[98], "statuses": dict(self.statuses),
            "memory_first_third": max(self.memory[:third]), "memory_last_third":
            max(self.memory[-third:]),
        }  # fmt: skip


def ask(port: int, bodies: list[bytes], until: float, load: Load, first: int) -> None:
    """One client, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    turn = first
    while time.perf_counter() < until:
        turn += 1
        started = time.perf_counter()
        try:
            connection.request("POST", "/predict", bodies[turn % len(bodies)])
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            load.statuses[type(error).__name__] += 1
            connection.close()
            continue
        load.statuses[str(answer.status)] += 1
        if answer.status == 200:
            load.seconds.append(time.perf_counter() - started)
        elif answer.status == 503:
            time.sleep(float(answer.headers["Retry-After"]))


def resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def drive(port: int, bodies: list[bytes], clients: int, seconds: float, process: int) -> Load:
    """All clients at once, for so long; `process` is the server's."""
    load, until = Load(), time.perf_counter() + seconds
    threads = [
        threading.Thread(target=ask, args=(port, bodies, until, load, 7 * k))
        for k in range(clients)
    ]
    for thread in threads:
        thread.start()
    while time.perf_counter() < until:
        load.memory.append(resident(process))
        time.sleep(min(1.0, seconds / 6))
    for thread in threads:
        thread.join()
    return load


def start(model: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """The command `frostbox serve` on a free port; returns when it answers."""
    command = [sys.executable, "-m", "frostbox", "serve", str(model), "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    lines = []
    for line in server.stderr:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+) ", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, int(found.group(1))
    raise RuntimeError(f"the server did not start: {''.join(lines)}")


def bare(model: Path, photos: list[Path]) -> list[float]:
    """Seconds of one prediction after the other."""
    from frostbox import Detector

    detector = Detector.load(model).prepare()
    detector.predict(photos[0])
    found = []
    for photo in photos:
        started = time.perf_counter()
        detector.predict(photo)
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    photos = find_images(options.photos)[:_PHOTOS]
    alone = bare(options.model, photos)
    server, port = start(
        options.model, "--queue", str(options.queue), "--batch", str(options.batch)
    )
    try:
        bodies = [photo.read_bytes() for photo in photos]
        drive(port, bodies, options.clients, 3, server.pid)  # memory settles
        result = drive(port, bodies, options.clients, options.seconds, server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    summary = result.summary(options.seconds)
    print(json.dumps({"bare_p50": median(alone), "bare_per_second": len(alone) / sum(alone),
                      **summary, "exit": server.returncode}, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
