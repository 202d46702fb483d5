"""Real processes that are stopped, robbed of a helper, or get in each other's way."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.torture.kills import Running
from tests.torture.works import Work, files, works

pytestmark = pytest.mark.slow

# As in a training on a GPU, but on a CPU: photos are decoded in two processes.
_IN_PROCESSES = """
import os, sys
import frostbox.loading
frostbox.loading.reading_processes = lambda samples, device: 2 if samples.decodes else 0
from frostbox.cli import main
main()
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    return works(tmp_path_factory.mktemp("data"))


def until(what, seconds: float = 3600.0) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.02)


def way_on(running: Running, words: str) -> list[str]:
    """The command that stands behind these words, which is printed after Ctrl-C."""
    running.wait()
    assert running.process.returncode == 130, running.said
    assert "Traceback" not in running.said
    (line,) = (x for x in running.said.splitlines() if x.startswith("stopped;"))
    return shlex.split(line.partition(words)[2])


def test_ctrl_c_leaves_an_extraction_that_goes_on(known, tmp_path: Path) -> None:
    work = known["extract"]
    running = Running(work.first(tmp_path), tmp_path / "log")
    until(lambda: (tmp_path / "cache" / "shard-00001.safetensors").exists())
    os.kill(running.process.pid, signal.SIGSTOP)
    # A second one at the same cache is refused, and does no harm.
    second = Running(work.first(tmp_path), tmp_path / "second")
    second.wait()
    assert second.process.returncode == 1
    assert "another frostbox is writing the feature cache" in " ".join(second.said.split())
    os.kill(running.process.pid, signal.SIGINT)
    os.kill(running.process.pid, signal.SIGCONT)
    command = way_on(running, "stopped: ")
    assert command == ["frostbox", *work.first(tmp_path)]
    assert not list((tmp_path / "cache").glob("*.tmp"))
    kept = files(tmp_path / "cache")
    again = Running(command[1:], tmp_path / "log")
    again.wait()
    assert again.process.returncode == 0, again.said
    whole = files(tmp_path / "cache")
    assert len(whole) == 5  # four shards and the index
    shards = {name: kept[name] for name in kept if name.endswith(".safetensors")}
    assert {f"{name}.json" for name in shards} < kept.keys()  # what they hold
    assert len(shards) > 1
    assert shards.items() <= whole.items()


def test_ctrl_c_leaves_a_training_that_goes_on(known, tmp_path: Path) -> None:
    work = known["train --thaw"]
    running = Running(work.first(tmp_path), tmp_path / "log")
    until(lambda: (tmp_path / "run" / "thaw" / "last.ckpt").exists())
    os.kill(running.process.pid, signal.SIGINT)
    command = way_on(running, "go on with: ")
    assert command == ["frostbox", *work.again(tmp_path)]
    assert not list((tmp_path / "run").rglob("*.tmp"))
    again = Running(command[1:], tmp_path / "log")
    again.wait()
    assert again.process.returncode == 0, again.said
    with safe_open(tmp_path / "run" / "best.safetensors", framework="np") as file:
        assert file.keys()


def test_a_process_that_decodes_and_is_killed_ends_the_run_in_a_sentence(
    known, tmp_path: Path
) -> None:
    words = known["train"].first(tmp_path)
    words[words.index("--epochs") + 1] = "1"
    words += ["--thaw", "all", "--thaw-epochs", "400"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _IN_PROCESSES, *words], stdout=out, stderr=out,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def helpers() -> list[int]:
        """Processes that decode: started by this one, from its own program."""
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        return [int(number) for path in threads for number in path.read_text().split()]

    try:
        until(lambda: process.poll() is not None or (tmp_path / "run/thaw/last.ckpt").exists())
        assert process.poll() is None, log.read_text()
        (first, *_) = helpers()
        os.kill(first, signal.SIGKILL)
        assert process.wait(600) == 1
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert "Traceback" not in said
    assert "error: a process that decodes photos has ended (DataLoader worker" in said
    assert "go on with --resume" in said
    assert (tmp_path / "run" / "thaw" / "last.ckpt").exists()
