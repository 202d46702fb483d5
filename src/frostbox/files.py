"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from frostbox.errors import SettingsError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file so that a process that is killed, or a disk that is full, leaves the old one.

    Text is UTF-8. What was written lies on the disk, not only in its queue, before it has its name.

    Raises:
        OSError: it cannot be written; nothing of it is left behind.
    """
    return write_parts(path, [content.encode("utf-8") if isinstance(content, str) else content])


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> Path:
    """`write_whole` of what lies in several places of memory, none of which is copied."""
    partial = path.with_name(path.name + ".tmp")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path


@contextmanager
def locked(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, which ends with its process. SettingsError(refusal): another holds it."""
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout as error:
        raise SettingsError(refusal) from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; it becomes `out`, new or empty, when all is written.

    It lies beside `out`, in `.NAME-unfinished`. After an error it is removed; what a process that
    was killed has left there, by the next. A disk that is mounted as `out` is written at once.

    Raises:
        SettingsError: another process is writing it. OSError: it cannot be written.
    """
    out = out.absolute()
    if out.is_mount():
        yield out
        return
    room = out.with_name(f".{out.name}-unfinished")
    room.mkdir(parents=True, exist_ok=True)
    refusal = f"another frostbox is writing {out}: wait for it, or give another folder"
    with locked(room / ".lock", refusal):
        try:
            begun = room / out.name
            if begun.exists():
                shutil.rmtree(begun)
            begun.mkdir()
            yield begun
            if out.exists():
                out.rmdir()
            begun.replace(out)
        finally:
            shutil.rmtree(room, ignore_errors=True)
