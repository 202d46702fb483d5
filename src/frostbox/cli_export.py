"""`frostbox export`: a detector for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frostbox.arguments import parse_nms
from frostbox.cli_shared import (
    DetectorModel,
    Flip,
    Json,
    Nms,
    Score,
    Suppression,
    Threshold,
    say,
    write_json,
)


def export(
    model: DetectorModel,
    to: Annotated[str, typer.Option("--format", help="onnx, openvino or torch.")],
    precision: Annotated[
        str, typer.Option(help="32; 16: float16 weights; int8: needs --data.")
    ] = "32",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .onnx, .xml (and .bin) or .pt2.",
            show_default="detector beside the model",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Photos, a folder or a pattern to compare on; repeat for more.",
            show_default="drawn scenes",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set: calibrates int8, and its AP is printed beside PyTorch's."),
    ] = None,
    split: Annotated[str, typer.Option(help="Image list that AP is measured on.")] = "val",
    threshold: Threshold = None,
    nms: Nms = None,
    suppression: Suppression = None,
    flip: Flip = False,
    score: Score = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Scores as probabilities, by val's temperature.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write a detector for other runtimes and prove that it finds what PyTorch finds."""
    from frostbox import reporting
    from frostbox.export import export as export_model

    done = export_model(
        model, to, precision=precision, out=out, images=images or (), data=data, split=split,
        threshold=threshold, nms=parse_nms(nms, suppression, flip), score=score,
        calibrated=calibrated,
    )  # fmt: skip
    if json_file != "-":
        reporting.print_exported(done)
    for path in done.files:
        say(f"written {path}")
    write_json(done.to_json(), json_file)
