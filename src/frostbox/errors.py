"""The errors that frostbox raises for a person to read.

Each message says what was found, where (file and field) and what to do. The command line prints
the message alone and exits with status 1; anything else that escapes is a defect of frostbox.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path


def one_line(text: object) -> str:
    """What others wrote, on one line and without what a terminal would obey, for a message."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def visible(text: str) -> str:
    """A text in which what a terminal would obey is written out, but for ends of lines."""
    obeyed = {
        c for c in text if not (c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs")
    }
    return "".join(ascii(c)[1:-1] if c in obeyed else c for c in text) if obeyed else text


_LONGEST = 4000  # characters of a message
_known_as: dict[str, str] = {}


def know_as(folder: str, address: str) -> None:
    """Have messages name a folder's files by an address: that is where a person mends them."""
    _known_as[folder] = address


def told(text: str) -> str:
    """A text with such addresses in place of their folders."""
    for folder, address in _known_as.items():
        text = text.replace(folder, address)
    return text


def never_long(text: str) -> str:
    """A message without its middle, where what it repeats is longer than anyone reads."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST * 3 // 4]} [...] {text[-_LONGEST // 5 :]}"


class FrostboxError(Exception):
    """Base of every error that frostbox raises on purpose.

    Its message is one line of a few thousand characters at most, in which nothing is for a terminal
    to obey, whatever it repeats.
    """

    def __init__(self, *args: object) -> None:
        lines = (
            never_long(told(visible(a)).replace("\n", " ")) if isinstance(a, str) else a
            for a in args
        )
        super().__init__(*lines)


class DataError(FrostboxError, ValueError):
    """Annotations, lists or photos that cannot be used as they are."""


class NotFoundError(FrostboxError, FileNotFoundError):
    """A file, folder or split that was asked for and does not exist."""


class CacheError(FrostboxError, ValueError):
    """A feature cache that is damaged or does not match the request."""


class CheckpointError(FrostboxError, ValueError):
    """A detector file that is damaged, of another version, or does not match the request."""


class BackboneError(FrostboxError, ValueError):
    """An unknown backbone, a stride that it does not have, or weights that cannot be had."""


class SettingsError(FrostboxError, ValueError):
    """A setting outside its range, or settings that exclude each other."""


class HubError(FrostboxError):
    """The Hugging Face hub cannot be reached, or does not let this be done there."""


class RemoteError(FrostboxError):
    """A remote folder that cannot be reached, or does not let this be done there."""


class ExportError(FrostboxError):
    """An exported file that does not find what PyTorch finds."""


class TrainingError(FrostboxError, RuntimeError):
    """A training that cannot go on: of what it left or needs, something is damaged or gone."""


class DivergedError(TrainingError):
    """A loss that is no number. `kept` is the checkpoint whose weights the head has now, if any."""

    kept: Path | None = None


class RankError(FrostboxError):
    """Another process of the same run has failed, or cannot be reached.

    Attributes:
        told: whether this is the other's own reason, which it has printed itself.
    """

    def __init__(self, message: str, *, told: bool = False) -> None:
        super().__init__(message)
        self.told = told
