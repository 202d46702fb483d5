"""The command `serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from frostbox.cli_shared import DetectorModel, Device, Engine, Precision, say


def serve(
    model: DetectorModel,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for a free one.", min=0, max=65535)] = 7860,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Lowest score, unless a request gives one.",
            show_default="each class's of the best F1 on val",
        ),
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures that the page offers: files or folders; repeat for more.",
            show_default="the folder examples beside MODEL, or drawn scenes",
        ),
    ] = None,
    max_body: Annotated[float, typer.Option(help="Megabytes of a request at most.")] = 20,
    max_pixels: Annotated[float, typer.Option(help="Megapixels of a picture at most.")] = 50,
    queue: Annotated[int, typer.Option(help="Pictures inside at a time; then 503.")] = 32,
    batch: Annotated[int, typer.Option(help="Pictures predicted together at most.")] = 8,
    engine: Engine = "auto",
    precision: Precision = "32",
    device: Device = "auto",
) -> None:
    """A page to try a detector on, and an HTTP interface (POST /predict), on this machine."""
    from frostbox.serve.limits import Limits
    from frostbox.serve.server import ServeSettings
    from frostbox.serve.server import serve as serve_model

    limits = Limits(int(max_body * 1e6), int(max_pixels * 1e6), queue, batch)
    serve_model(
        model,
        ServeSettings(
            host, port, threshold, tuple(examples or ()), limits, engine, precision, device
        ),
        say,
    )
