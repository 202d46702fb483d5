"""Give each reader inputs, and say what became of them.

    python -m tests.fuzz.run --inputs 20000            # in two minutes on one core
    python -m tests.fuzz.run --inputs 1000000 --seed 7 # make torture-fuzz
    python -m tests.fuzz.run --reader coco --only 1234 # one of them again

An input that finds something is put into `--found`, in the form of `tests/fuzz/corpus`.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from frostbox.errors import FrostboxError
from tests.fuzz.readers import READERS, Files, Reader

SECONDS = 20.0
"""Of the processor that one input may take: a machine that is busy elsewhere is no defect."""
GROWTH = 100_000_000
"""Bytes by which the process may grow after the first tenth of the inputs."""


class Hang(BaseException):
    """An input that takes too long. No Exception, so that nothing catches it."""


@dataclass
class Outcome:
    """What became of a reader's inputs.

    Attributes:
        accepted, refused: how many. seconds: of the processor, in all; slowest: of one.
        grown: bytes of memory.
        defects: number of the input and what it raised.
    """

    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    grown: int = 0
    defects: list[tuple[int, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.accepted + self.refused + len(self.defects)


def anonymous_bytes() -> int:
    """Memory of this process that is no file's (RssAnon of Linux); 0 where that is not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds:g} s of the processor")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def put(files: Files, folder: Path) -> None:
    """Write an input into a folder that may hold another one."""
    for name, content in files.items():
        path = folder / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        path.write_bytes(content)


def attempt(reader: Reader, folder: Path, outcome: Outcome, number: int) -> bool:
    """Read what lies in the folder; whether that went as promised."""
    begun = time.process_time()
    good = True
    try:
        with _limited(SECONDS):
            reader.read(folder)
        outcome.accepted += 1
    except FrostboxError as error:
        outcome.refused += 1
        if "\n" in str(error) or len(str(error)) > 20_000:
            good = False
            outcome.refused -= 1
            outcome.defects.append((number, f"a message of {len(str(error))} characters"))
    except (Exception, Hang):
        good = False
        outcome.defects.append((number, traceback.format_exc(limit=-6)))
    taken = time.process_time() - begun
    outcome.seconds += taken
    outcome.slowest = max(outcome.slowest, taken)
    return good


def fuzz(name: str, numbers: range, seed: int, folder: Path, found: Path | None) -> Outcome:
    """Give a reader the inputs of these numbers."""
    reader, outcome = READERS[name](), Outcome()
    reader.prepare(folder)
    settled = 0
    for k, number in enumerate(numbers):
        if k == max(20, len(numbers) // 10):
            gc.collect()
            settled = anonymous_bytes()
        files = reader.make(Random(f"{seed} {name} {number}"))
        put(files, folder)
        if not attempt(reader, folder, outcome, number) and found is not None:
            put(files, found / name / f"{seed}-{number}")
    gc.collect()
    outcome.grown = anonymous_bytes() - settled if settled else 0
    return outcome


def counts(inputs: int, names: list[str]) -> dict[str, int]:
    """How many of so many inputs each reader gets."""
    total = sum(READERS[name].share for name in names)
    return {name: max(1, inputs * READERS[name].share // total) for name in names}


def quiet() -> None:
    """No warning of what is meant to be wrong."""
    logging.getLogger("frostbox").setLevel(logging.CRITICAL)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


def main(argv: list[str] | None = None) -> int:
    """The command; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, action="append")
    parser.add_argument("--only", type=int, help="number of one input")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"))
    given = parser.parse_args(argv)
    quiet()
    names = given.reader or list(READERS)
    failed = False
    print(f"{'reader':10}{'inputs':>9}{'accepted':>10}{'ms each':>9}{'slowest':>9}{'grown MB':>10}")
    for name, count in counts(given.inputs, names).items():
        numbers = range(count) if given.only is None else range(given.only, given.only + 1)
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder:
            outcome = fuzz(name, numbers, given.seed, Path(folder), given.found)
        share = outcome.accepted / outcome.inputs
        each = 1000 * outcome.seconds / outcome.inputs
        print(
            f"{name:10}{outcome.inputs:9,}{share:10.0%}{each:9.2f}{outcome.slowest:9.2f}"
            f"{outcome.grown / 1e6:10.1f}", flush=True,
        )  # fmt: skip
        failed |= bool(outcome.defects) or outcome.grown > GROWTH
        seen: set[str] = set()
        for number, what in outcome.defects:
            last = what.strip().splitlines()[-1]
            if last not in seen:
                seen.add(last)
                print(f"  {name} {number}: {what}", file=sys.stderr)
    return int(failed)


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
