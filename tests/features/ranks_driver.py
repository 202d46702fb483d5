"""Extractions by several processes, for tests: `python -m tests.features.ranks_driver JOBS.json`.

JOBS.json holds "devices" and "nodes", seconds of "timeout" and of "silence" once all have started,
and a list of "jobs", which are done one after another: "photos" (a folder of write_photos and their
number), "out", options of `extract`, and what may happen on the way: "pause", a rank that says in
the file "reached" that it has come to a photo, and waits there to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.distributed import Ranks, open_ranks
from frostbox.errors import FrostboxError
from frostbox.features import shards
from frostbox.features.extract import extract
from tests.features.conftest import photo_set
from tests.tiny import tiny

OPTIONS: dict[str, Any] = {"size": (64, 64), "engine": "torch", "batch_size": 2, "shard_images": 2}


def backbone() -> Backbone:
    return tiny("pyramid", size=(64, 64)).backbone


def photos_of(job: dict[str, Any]) -> DetectionSet:
    folder, count = job["photos"]
    return photo_set(Path(folder), count)


def run(job: dict[str, Any], ranks: Ranks) -> None:
    if "pause" in job and job["pause"]["rank"] == ranks.rank:
        load_views, pause = shards.load_views, job["pause"]

        def slow(image: Any, *rest: Any) -> Any:
            if image.image_id == pause["photo"]:
                Path(pause["reached"]).touch()
                time.sleep(600)
            return load_views(image, *rest)

        shards.load_views = slow
    options = {**OPTIONS, **job.get("options", {})}
    seen: list[tuple[int, int]] = []
    cache = extract(
        photos_of(job), backbone(), job["out"], **options, workers=1, ranks=ranks,
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    said = {"rank": ranks.rank, "images": len(cache), "progress": seen}
    os.write(1, f"{json.dumps(said)}\n".encode())  # in one piece: others write there, too


def main() -> None:
    torch.set_num_threads(1)
    asked = json.loads(Path(sys.argv[1]).read_text())
    timeout = timedelta(seconds=asked.get("timeout", 300))
    try:
        with open_ranks(asked.get("devices"), asked.get("nodes"), timeout=timeout) as ranks:
            if "silence" in asked:  # a machine that is busy elsewhere may start slowly
                ranks._silence = asked["silence"]
            for job in asked["jobs"]:
                run(job, ranks)
    except FrostboxError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
