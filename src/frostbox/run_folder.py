"""The folder of a training: empty or with the run that goes on, and written by one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from frostbox.card import CARD
from frostbox.errors import SettingsError
from frostbox.files import locked
from frostbox.learning import THAW
from frostbox.loggers import RUNS, logged_folders
from frostbox.resuming import BEFORE, DAMAGED, LAST

SETTINGS = "settings.json"
_LOCK = ".lock"
_MARKS = (LAST, BEFORE, "best.safetensors", f"{THAW}/{LAST}", f"{THAW}/{BEFORE}")
_REST = ("best.ckpt", DAMAGED, "metrics.csv", SETTINGS, "splits.json", "summary.json")


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
    check_free(run, resume=resume, overwrite=overwrite)
    run.mkdir(parents=True, exist_ok=True)
    with _locked(run):
        if overwrite and _held(run):
            _empty(run)
        yield


def check_free(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Whether a training may begin or go on in a folder, which is left as it is.

    Raises:
        SettingsError: as `opened_run`.
    """
    if run.exists() and not run.is_dir():
        raise SettingsError(f"{run} is a file: give a folder for the run with --out")
    if _held(run) and not resume and not overwrite:
        # Where a training is under way it is refused for that, as neither would be a way on.
        with _locked(run) if (run / _LOCK).exists() else nullcontext():
            raise SettingsError(
                f"{run} already holds a run: go on with --resume, replace it with --overwrite, or "
                "name another folder with --out"
            )


def _held(run: Path) -> bool:
    """Whether a training has left something to go on with, or to use."""
    return any((run / mark).exists() for mark in _MARKS)


def _locked(run: Path) -> AbstractContextManager[None]:
    return locked(
        run / _LOCK,
        f"another frostbox is training in {run}: wait for it, or name another folder with --out",
    )


def _empty(run: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for name in (*_MARKS, *_REST, CARD, RUNS):
        (run / name).unlink(missing_ok=True)
    for folder in (*logged_folders(run), run / THAW):
        shutil.rmtree(folder, ignore_errors=True)
