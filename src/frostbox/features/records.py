"""What each of several processes leaves beside a shard that it has written, until rank 0 writes
the index: the shard's entry there. A run that was cut off finds its whole shards by them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from frostbox.features.index import Shard
from frostbox.files import write_whole
from frostbox.untrusted import once, parse_json

_LOG = logging.getLogger("frostbox")
_PATTERN = "shard-*.safetensors.json"


def write_record(folder: Path, shard: Shard) -> None:
    """Put a shard's entry beside it, in one step. Raises OSError."""
    write_whole(folder / f"{shard.file}.json", json.dumps(asdict(shard), ensure_ascii=False))


def read_records(folder: Path) -> list[Shard]:
    """The entries that lie in a folder; one that cannot be read is said, and its shard not there.

    Raises OSError.
    """
    found = []
    for path in sorted(folder.glob(_PATTERN)):
        try:
            shard = Shard.from_json(parse_json(path.read_bytes(), once))
            if shard.file != path.name.removesuffix(".json"):
                raise ValueError("it is of another file")
            found.append(shard)
        except (KeyError, TypeError, ValueError) as error:
            _LOG.warning("%s is damaged (%s): its shard is extracted again", path, error)
    return found


def remove_records(folder: Path) -> None:
    """Take away the entries, which the index holds now. Raises OSError."""
    for path in folder.glob(_PATTERN):
        path.unlink(missing_ok=True)
