"""The folder of a training: empty or with the run that goes on, and written by one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from frostbox.card import CARD
from frostbox.errors import SettingsError
from frostbox.learning import THAW
from frostbox.loggers import RUNS, logged_folders
from frostbox.resuming import BEFORE, LAST

SETTINGS = "settings.json"
_LOCK = ".lock"


def folder_of(out: str | Path | None, name: str, head: str) -> Path:
    """Where a run of this head on a data set of this name goes, unless `out` says otherwise."""
    return Path(out) if out is not None else Path("runs") / f"{name}-{head}"


@contextmanager
def opened_run(run: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Keep others from writing into the folder, which is made, or emptied with `overwrite`.

    Raises:
        SettingsError: it is a file; another process trains in it; it holds a run, and neither
            resume nor overwrite is asked for. OSError: it cannot be written.
    """
    if run.exists() and not run.is_dir():
        raise SettingsError(f"{run} is a file: give a folder for the run with --out")
    marks = [run / mark for mark in (LAST, "best.safetensors", f"{THAW}/{LAST}")]
    held = not resume and any(mark.exists() for mark in marks)
    if held and not overwrite:
        raise SettingsError(
            f"{run} already holds a run: go on with --resume, replace it with --overwrite, or "
            "name another folder with --out"
        )
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SettingsError(
            f"another frostbox is training in {run}: wait for it, or name another folder with --out"
        ) from error
    try:
        if held:
            _empty(run, marks)
        yield
    finally:
        lock.release()


def _empty(run: Path, marks: list[Path]) -> None:
    """Remove what an earlier run left, and nothing else."""
    names = ["best.ckpt", BEFORE, "metrics.csv", SETTINGS, "splits.json", "summary.json"]
    for mark in (*marks, *(run / name for name in (*names, CARD, RUNS))):
        mark.unlink(missing_ok=True)
    for folder in (*logged_folders(run), run / THAW):
        shutil.rmtree(folder, ignore_errors=True)
