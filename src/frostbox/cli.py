"""The command line: one thin function a command. No logic lives here.

Modules are imported inside the commands, so that `frostbox --help` starts at once. Results go to
stdout, everything else to stderr: `--json -` leaves stdout pure JSON.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from frostbox import cli_cache, cli_export, cli_hub, cli_predict, cli_serve, cli_train
from frostbox._version import __version__
from frostbox.arguments import parse_counts, parse_names, parse_nms, parse_renames, parse_size
from frostbox.cli_shared import (
    FEATURES_HELP,
    VIEWS_HELP,
    Backbone,
    Bootstrap,
    Classes,
    Data,
    Device,
    Devices,
    Engine,
    Flip,
    Json,
    Map,
    Model,
    Nms,
    Nodes,
    Precision,
    Report,
    Resize,
    Score,
    Size,
    Split,
    Strict,
    Suppression,
    Weights,
    resumable,
    say,
    write_json,
)
from frostbox.errors import FrostboxError, RankError, told, visible

app = typer.Typer(
    name="frostbox",
    help="Train object detectors by transfer learning: frozen features, cached once, in minutes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(cli_cache.app, name="cache")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"frostbox {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Of scenes, weights and order.")] = 0,
    compare_random: Annotated[
        bool, typer.Option("--compare-random", help="Add the same head on random weights.")
    ] = False,
) -> None:
    """Train a detector on the built-in pictures and show what it finds in unseen ones."""
    from frostbox.demo import run_demo

    run_demo(out, seed=seed, compare_random=compare_random)


@app.command()
def explore(
    data: Data,
    split: Split = "train",
    json_file: Json = None,
    out: Annotated[Path | None, typer.Option(help="Folder for plots and samples.")] = None,
    report: Report = None,
    classes: Classes = None,
    rename: Map = None,
) -> None:
    """Count images, objects and sizes of a data set. Works on annotations alone."""
    from frostbox import diagnosis, reporting
    from frostbox.data import explore as exploring
    from frostbox.data.formats import load, recognise

    source = recognise(data)
    dataset = load(source, split, parse_names(classes), parse_renames(rename))
    say(source.seen(dataset))
    numbers = exploring.explore(dataset)
    if json_file != "-":
        reporting.print_explore(dataset, numbers)
    if out is not None:
        for path in reporting.write_explore(dataset, numbers, out):
            say(f"written {path}")
    if report is not None:
        also = tuple(parse_renames(rename)) if classes is None else None
        found = diagnosis.examined(source, split, also)
        say(f"written {reporting.write_explore_page(dataset, numbers, found, report)}")
    write_json(numbers, json_file)


@app.command()
def doctor(
    data: Data,
    split: Annotated[
        list[str] | None, typer.Option(help="A list to examine; repeat for more; else all.")
    ] = None,
    classes: Classes = None,
    size: Size = "320",
    strides: Annotated[str, typer.Option(help="Strides of the feature maps.")] = "8,16,32",
    cells: Annotated[str, typer.Option(help="Grids whose capacity is checked.")] = "7,10,13,20",
    photos: Annotated[bool, typer.Option(help="Decode the photos too.")] = True,
    json_file: Json = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write a repaired copy to --out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Empty folder for the copy.")] = None,
) -> None:
    """Find what is wrong with a data set, worst first; status 1 if it breaks or spoils training."""
    from frostbox.diagnosis import run_doctor

    healthy, found = run_doctor(
        data, split, parse_names(classes), size=parse_size(size),
        stride=min(parse_counts(strides, "strides")), cells=parse_counts(cells, "cells"),
        photos=photos, fix=fix, out=out, quiet=json_file == "-",
    )  # fmt: skip
    write_json(found, json_file)
    if not healthy:
        raise typer.Exit(1)


@app.command()
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="DST", help="New or empty folder.")],
    to: Annotated[str, typer.Option(help="voc, coco or yolo.")],
    split: Annotated[
        list[str] | None, typer.Option(help="A split to write; repeat for more; all by default.")
    ] = None,
    classes: Classes = None,
    rename: Map = None,
    copy: Annotated[
        bool, typer.Option("--copy/--link", help="Copy photos; else they are hard links.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write a data set in another format, and list what that format cannot hold."""
    from frostbox import reporting
    from frostbox.convert import convert as convert_data

    done = convert_data(
        data, out, to, splits=split, classes=parse_names(classes), rename=parse_renames(rename),
        copy=copy,
    )  # fmt: skip
    if json_file != "-":
        reporting.print_converted(done)
    write_json(done.to_json(), json_file)


@app.command()
def extract(
    data: Data,
    out: Annotated[str | None, typer.Option(help="Folder of this one cache; or")] = None,
    cache: Annotated[
        str | None, typer.Option(help="folder of caches, in which `train --cache` finds it.")
    ] = None,
    backbone: Backbone = "efficientnet_lite0",
    size: Size = "224",
    split: Split = "train",
    views: Annotated[int, typer.Option(help=VIEWS_HELP)] = 1,
    strides: Annotated[str, typer.Option(help="Feature maps to keep, as in 8,16,32.")] = "32",
    weights: Weights = "auto",
    resize: Resize = "shrink",
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    features: Annotated[str, typer.Option(help=FEATURES_HELP)] = "float16",
    classes: Classes = None,
    rename: Map = None,
    strict: Strict = False,
    devices: Devices = None,
    nodes: Nodes = None,
) -> None:
    """Run the frozen backbone over the photos once and keep its features."""
    from frostbox.extraction import extract_features

    with resumable():
        extract_features(
            data, out, cache=cache, backbone=backbone, weights=weights, size=parse_size(size),
            split=split, views=views, strides=parse_counts(strides, "strides"), resize=resize,
            engine=engine, device=device, precision=precision, features=features,
            classes=parse_names(classes), rename=parse_renames(rename), strict=strict,
            devices=devices, nodes=nodes,
        )  # fmt: skip


app.command()(cli_train.train)


@app.command()
def evaluate(
    model: Model,
    data: Data,
    split: Split = "val",
    json_file: Json = None,
    report: Report = None,
    save_predictions: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the detections: COCO results.")
    ] = None,
    bootstrap: Bootstrap = 1000,
    classes: Classes = None,
    rename: Map = None,
    nms: Nms = None,
    suppression: Suppression = None,
    flip: Flip = False,
    score: Score = None,
    engine: Engine = "auto",
    precision: Precision = "32",
    device: Device = "auto",
    strict: Strict = False,
) -> None:
    """Measure a detector, or predictions of any tool, on a split by VOC's and COCO's rules."""
    from frostbox import reporting
    from frostbox.inference import evaluate as evaluate_model

    result = evaluate_model(
        model, data, split, bootstrap=bootstrap, report=report, save_predictions=save_predictions,
        classes=parse_names(classes), rename=parse_renames(rename),
        nms=parse_nms(nms, suppression, flip), score=score, engine=engine, precision=precision,
        device=device, strict=strict,
    )  # fmt: skip
    if json_file != "-":
        reporting.print_evaluation(result)
    for path in (report, save_predictions):
        if path is not None:
            say(f"written {path}")
    write_json(result, json_file)


@app.command()
def compare(
    a: Model,
    b: Model,
    data: Data,
    split: Split = "val",
    json_file: Json = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the images.", min=1)] = 1000,
    classes: Classes = None,
    rename: Map = None,
    nms: Nms = None,
    device: Device = "auto",
    strict: Strict = False,
) -> None:
    """Which of two detectors is better: both on the same resampled images, class by class."""
    from frostbox import reporting
    from frostbox.inference import compare as compare_models

    result = compare_models(
        a, b, data, split, bootstrap=bootstrap, classes=parse_names(classes),
        rename=parse_renames(rename), nms=parse_nms(nms), device=device, strict=strict,
    )  # fmt: skip
    if json_file != "-":
        reporting.print_comparison(result)
    write_json(result, json_file)


app.command()(cli_predict.predict)
app.command()(cli_export.export)
app.command()(cli_serve.serve)
app.command()(cli_hub.push)
app.command()(cli_hub.pull)


def main() -> None:
    """Run the command; an error meant for a person is one sentence and exit status 1."""
    # Warnings, such as a photo that is skipped, are sentences for the person at the terminal.
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible())
    logging.getLogger("frostbox").handlers = [handler]
    try:
        app()
    except RankError as error:
        # A machine's first process says it for all of them.
        if error.told and os.environ.get("LOCAL_RANK", "0") != "0":
            sys.exit()  # a failure here would have Fabric kill the first before it has spoken
        _fail(str(error))
    except FrostboxError as error:
        _fail(str(error))
    except OSError as error:
        # A full disk, a folder that is a file, no permission: the system's own words are clear.
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; check the path, its permissions and free space")


class _Visible(logging.Formatter):
    """Messages repeat names of files and classes, which may hold what a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return told(visible(super().format(record)))


def _fail(message: str) -> NoReturn:
    typer.secho(f"error: {told(visible(message))}", fg=typer.colors.RED, err=True)
    sys.exit(1)
