"""Every stage of frostbox beside what people do today and beside the machine's limit, in one run.

    make bench                                    # or with DATA=$VOCDEVKIT/VOC2007
    python benchmarks/speed.py [DATA] [--images 256] [--pairs 3] [--write]

Rivals take turns, so that a noisy machine disturbs all alike; a ratio is the median over the turns,
with the lowest and the highest. `--write` puts the table into docs/results.md and the figures into
benchmarks/speed.json, with which the next run is compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from frostbox import backbones
from frostbox.data.sample import write_sample
from frostbox.data.voc import load
from frostbox.data.voc_layout import find_voc
from speed_extraction import extraction
from speed_prediction import prediction, start_up
from speed_training import child, training
from turns import NAME, ROOT, STRIDES, Bench, Row, machine, number, write_part

LAST = ROOT / "benchmarks" / "speed.json"
_MANY = 4  # times as many photos, for extraction: the first and the last shard must not count much
BEGIN, END = "<!-- make bench begins -->", "<!-- make bench ends -->"


def table(rows: list[Row], last: dict[str, list[float]]) -> str:
    """Markdown; the last column is the median of the last run on the same machine."""
    lines = [
        "| part | what | this run (lowest to highest) | aim | before |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        before = number(median(last[row.key])) if row.key in last else ""
        lines.append(f"| {row.part} | {row.what} | {row.text()} | {row.target} | {before} |")
    return "\n".join(lines)


def write(rows: list[Row], text: str, photos: str) -> None:
    """Into docs/results.md, between the marks, and into speed.json."""
    write_part(BEGIN, END, f"{machine()}, {photos}:\n\n{text}")
    found = {"machine": machine(), "rows": {row.key: row.values for row in rows}}
    LAST.write_text(json.dumps(found, indent=1) + "\n")


def last_rows() -> dict[str, list[float]]:
    """Those of the last run that was written, if this is the same machine."""
    last = json.loads(LAST.read_text()) if LAST.exists() else {"machine": "none"}
    if last["machine"] != machine():
        print(f"not compared with the last run, which was on another machine: {last['machine']}")
        return {}
    rows: dict[str, list[float]] = last["rows"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="a VOC folder; without one, drawn scenes")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=3, help="turns of the rivals")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--parts", nargs="*", default=["extraction", "training", "prediction", "start-up"]
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.data:
            root = find_voc(given.data)
        else:
            root = write_sample(folder / "scenes", train=_MANY * given.images, val=0)
        every = load(root, "train")
        dataset = every.subset(every.photos[: given.images])
        many = every.subset(every.photos[: _MANY * given.images])
        bench = Bench(dataset, many, folder, given.pairs, backbones.create(NAME, STRIDES))
        if given.child:
            child(bench, given.child[0], Path(given.child[1]))
            return
        started = time.perf_counter()
        cache = extraction(bench)
        if "training" in given.parts:
            training(bench, cache)
        if "prediction" in given.parts:
            prediction(bench, cache)
        if "start-up" in given.parts:
            start_up(bench)
        text = table(bench.rows, last_rows())
        photos = f"{len(dataset.photos)} photos of {dataset.name}, extraction {len(many.photos)}"
        photos += f", in {time.perf_counter() - started:.0f} s"
        print(f"\n{text}\n\n{photos}")
        if given.write:
            write(bench.rows, text, photos)


if __name__ == "__main__":
    main()
