"""The train command: its options are the settings of a training, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frostbox.arguments import parse_names, parse_options, parse_renames, parse_size, parse_time
from frostbox.cli_shared import (
    FEATURES_HELP,
    PRECISION_HELP,
    VIEWS_HELP,
    Classes,
    Data,
    Devices,
    Map,
    Nodes,
)


def train(
    data: Data,
    head: Annotated[
        str | None, typer.Option(help="pyramid, anchors, grid or single.", show_default="pyramid")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="efficientnet_lite0|1|2, or a torchvision or timm name.",
            show_default="efficientnet_lite0; pyramid up to 1000 images and on a GPU lite2",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Network input in pixels: 320, or WIDTHxHEIGHT.",
            show_default="320; pyramid up to 1000 images and on a GPU 512; 224 for grid and single",
        ),
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Images to learn from.", show_default="train")
    ] = None,
    val_split: Annotated[
        str | None,
        typer.Option(help="Images that choose the best weights, or none.", show_default="val"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="RUN", help="Folder of the run.", show_default="runs/NAME-HEAD"
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time for everything, as in 10min or 2h: backbone, size, views, thawing and "
            "epochs are chosen to fill it; --backbone, --size, --views and --thaw pin theirs.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images, with frozen features.")
    ] = None,
    thaw: Annotated[
        str | None,
        typer.Option(
            metavar="STAGES|all",
            help="Then train the last stages of the backbone too: 1, 2, ..., or all.",
            show_default="pyramid 1 (above 1000 images on a GPU all), but none with --epochs, "
            "--start or another backbone or size; else none",
        ),
    ] = None,
    thaw_epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes with thawed stages.",
            show_default="6 to 16; 12 to 50 up to 1000 images and on a GPU",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Start from a trained detector, or its run."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step, of all devices together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and machine, same weights.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without gain; 0 never.")
    ] = None,
    views: Annotated[int | None, typer.Option(help=VIEWS_HELP)] = None,
    cache: Annotated[str | None, typer.Option(help="Folder for cached features.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, random:SEED, or a local file.", show_default="auto")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="shrink, crop or letterbox.", show_default="shrink")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="auto")
    ] = None,
    devices: Devices = None,
    nodes: Nodes = None,
    precision: Annotated[
        str | None, typer.Option(help=PRECISION_HELP, show_default="auto; 32 for grid and single")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help=FEATURES_HELP, show_default="float16")
    ] = None,
    difficult: Annotated[
        bool | None,
        typer.Option("--difficult/--no-difficult", help="Learn from difficult objects."),
    ] = None,
    empty: Annotated[
        bool | None,
        typer.Option("--empty/--no-empty", help="Learn from images without objects."),
    ] = None,
    classes: Classes = None,
    rename: Map = None,
    class_loss: Annotated[
        str | None,
        typer.Option(
            help="ce or focal; pyramid also quality or varifocal.",
            show_default="quality for pyramid, else ce",
        ),
    ] = None,
    box_loss: Annotated[
        str | None,
        typer.Option(
            help="giou, diou, ciou, smooth_l1 or l1.", show_default="giou; smooth_l1 for single"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the head, or any other of the training; repeat for more.",
        ),
    ] = None,
    logger: Annotated[
        str | None,
        typer.Option(
            help="tensorboard, csv, wandb, mlflow, several with commas, or none.",
            show_default="tensorboard",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Replay a run's settings.json.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in RUN.")] = False,
    strict: Annotated[
        bool | None, typer.Option("--strict", help="A broken photo is an error, not skipped.")
    ] = None,
) -> None:
    """Train a detector. Features are extracted first where no matching cache exists."""
    from frostbox import ranks, reporting
    from frostbox.pipeline import train_run

    given = {
        "head": head, "backbone": backbone, "weights": weights, "resize": resize, "views": views,
        "train_split": train_split, "val_split": val_split, "epochs": epochs, "lr": lr,
        "batch_size": batch_size, "seed": seed, "patience": patience, "device": device,
        "precision": precision, "features": features, "difficult": difficult, "empty": empty,
        "strict": strict, "thaw": thaw, "logger": logger,
        "thaw_epochs": thaw_epochs, "start": None if start is None else str(start),
        "class_loss": class_loss, "box_loss": box_loss, "classes": parse_names(classes),
        "rename": parse_renames(rename) or None,
        "size": parse_size(size) if size is not None else None, **parse_options(option or []),
    }  # fmt: skip
    trained = train_run(
        data,
        out=out,
        cache=cache,
        budget=parse_time(budget),
        resume=resume,
        overwrite=overwrite,
        config=config,
        devices=devices,
        nodes=nodes,
        **{k: v for k, v in given.items() if v is not None},
    )
    if ranks.first():
        reporting.print_trained(trained)
