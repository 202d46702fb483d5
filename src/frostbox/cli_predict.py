"""The predict command."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from frostbox.arguments import parse_nms
from frostbox.cli_shared import (
    DetectorModel,
    Device,
    Engine,
    Flip,
    Json,
    JsonList,
    Nms,
    Precision,
    Score,
    Strict,
    Suppression,
    Threshold,
    say,
)


def predict(
    model: DetectorModel,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Photos, videos, folders, glob patterns, URLs, - for a photo through stdin, or "
            "the number of a camera.",
        ),
    ],
    threshold: Threshold = None,
    nms: Nms = None,
    suppression: Suppression = None,
    flip: Flip = False,
    score: Score = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Scores as probabilities, by val's temperature.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for annotated pictures and videos, or for data.",
            show_default="predictions; with --json alone, nothing is drawn",
        ),
    ] = None,
    json_file: Json = None,
    save_as: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Write data into --out instead: photos with boxes to correct and train on, as "
            "voc, coco or yolo; or csv.",
        ),
    ] = None,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Large photos in overlapping tiles too: small objects.")
    ] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Number the objects of a video (ByteTrack).")
    ] = False,
    max_frames: Annotated[
        int | None, typer.Option(metavar="N", help="Stop a video or camera after N frames.")
    ] = None,
    engine: Engine = "auto",
    precision: Precision = "32",
    device: Device = "auto",
    strict: Strict = False,
) -> None:
    """Find objects in photos and videos; write them annotated and, with --json, the boxes."""
    from frostbox import predicting, reporting

    if out is None and (json_file is None or save_as is not None):
        out = Path("predictions")
    wanted = predicting.Wanted(out, save_as, tiles, track, max_frames, strict)
    lines: list[str] = []  # in a terminal they would stand among those of the progress bar
    at_once = not sys.stdout.isatty()
    with JsonList(json_file) as file:
        found = predicting.predict(
            model, inputs, wanted, threshold=threshold, calibrated=calibrated, score=score,
            nms=parse_nms(nms, suppression, flip), engine=engine, precision=precision,
            device=device,
        )  # fmt: skip
        with closing(found) as entries:
            for entry in entries:
                file.add(entry)
                if json_file != "-" and "frame" not in entry:
                    line = reporting.prediction_line(entry)
                    if at_once:
                        sys.stdout.write(f"{line}\n")
                        sys.stdout.flush()
                    else:
                        lines.append(line)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    if out is not None and save_as is None:
        say(f"annotated pictures in {out}")
