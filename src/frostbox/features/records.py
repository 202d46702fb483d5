"""What each of several processes leaves beside a shard that it has written, until rank 0 writes
the index: the shard's entry there. A run that was cut off finds its whole shards by them.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict
from pathlib import Path

from frostbox.features.index import Shard
from frostbox.features.remote_cache import content, hand_over, names, remove
from frostbox.files import write_whole
from frostbox.untrusted import once, parse_json

_LOG = logging.getLogger("frostbox")
_RECORD = re.compile(r"shard-\d+\.safetensors\.json")


def write_record(folder: Path, shard: Shard) -> None:
    """Put a shard's entry beside it, in one step. Raises OSError, RemoteError."""
    name = f"{shard.file}.json"
    write_whole(folder / name, json.dumps(asdict(shard), ensure_ascii=False))
    hand_over(folder, name)


def read_records(folder: Path) -> list[Shard]:
    """The entries that lie in a folder; one that cannot be read is said, and its shard not there.

    Raises OSError, RemoteError.
    """
    found = []
    for name in sorted(filter(_RECORD.fullmatch, names(folder))):
        try:
            shard = Shard.from_json(parse_json(content(folder, name), once))
            if shard.file != name.removesuffix(".json"):
                raise ValueError("it is of another file")
            found.append(shard)
        except (KeyError, TypeError, ValueError) as error:
            _LOG.warning("%s/%s is damaged (%s): its shard is extracted again", folder, name, error)
    return found


def remove_records(folder: Path) -> None:
    """Take away the entries, which the index holds now. Raises OSError."""
    for name in filter(_RECORD.fullmatch, names(folder)):
        remove(folder, name)
