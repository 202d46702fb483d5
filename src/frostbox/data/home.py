"""Where frostbox keeps what belongs to a user's data: downloads, made splits, photos of tables."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def data_home() -> Path:
    """The folder that FROSTBOX_DATA names, else the system's place for a user's data."""
    given = os.environ.get("FROSTBOX_DATA")
    return Path(given).expanduser() if given else user_data_path("frostbox", appauthor=False)
