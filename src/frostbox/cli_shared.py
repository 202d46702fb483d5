"""What the commands of the command line share: arguments and options, words, JSON."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import typer

from frostbox.inputs import check_not_folders

Data = Annotated[
    str,
    typer.Argument(
        help="Folder or file, also on s3://: VOC, COCO JSON, YOLO, Hugging Face or parquet; or "
        "coco2017, voc2007, voc2012, voc2007+2012."
    ),
]


def _checked_target(target: str | None) -> str | None:
    """Refuse a file that cannot be written before the work, not after it."""
    check_not_folders(None if target == "-" else target)
    return target


Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE|-", help="Write JSON; - is stdout.", callback=_checked_target
    ),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write one self-contained HTML page."),
]
Classes = Annotated[
    str | None,
    typer.Option(help="Classes to keep, in label order, separated by commas; others are left out."),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="OLD=NEW", help="Rename or merge classes: dog=animal,cat=animal."
    ),
]
Backbone = Annotated[
    str, typer.Option(help="efficientnet_lite0|1|2, or a torchvision or timm name.")
]
Weights = Annotated[str, typer.Option(help="auto, random:SEED, or a local .pth/.safetensors file.")]
Size = Annotated[str, typer.Option(help="Network input in pixels: 224, or WIDTHxHEIGHT.")]
Resize = Annotated[str, typer.Option(help="shrink, crop or letterbox.")]
Strict = Annotated[bool, typer.Option("--strict", help="A broken photo is an error, not skipped.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Lowest score shown, after --calibrated.",
        show_default="each class's of the best F1 on val",
    ),
]
Split = Annotated[str, typer.Option(help="Name of the image list.")]
Bootstrap = Annotated[int, typer.Option(help="Resamples for the intervals; 0 for none.", min=0)]
Model = Annotated[
    Path,
    typer.Argument(
        help="best.safetensors, the folder of a run, hf://USER/REPO, or a .json of COCO results."
    ),
]
DetectorModel = Annotated[
    Path, typer.Argument(help="best.safetensors, the folder of a run, or hf://USER/REPO.")
]
Nms = Annotated[
    str | None,
    typer.Option(help="IoU above which boxes count as of one object, or none.", show_default="0.5"),
]
Suppression = Annotated[
    str | None,
    typer.Option(
        help="nms (class-wise), agnostic, soft-linear, soft-gaussian, wbf or none.",
        show_default="nms",
    ),
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Predict on the mirrored picture too: twice the time.")
]
VIEWS_HELP = (
    "Views of each image, 1 to 16: as it is, mirrored, then in mosaics and zoomed, by turns."
)
PRECISION_HELP = "32, bf16, or auto: bf16 where the machine computes with it."
FEATURES_HELP = "How a cache stores them: float16, or int8 for half of the disk."
Engine = Annotated[str, typer.Option(help="auto, openvino, torch or compile.")]
Precision = Annotated[str, typer.Option(help=PRECISION_HELP)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Devices = Annotated[
    int | None,
    typer.Option(
        help="Processes on this machine, one a GPU.", show_default="as many as were started, or 1"
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(help="Machines that share the work.", show_default="as many as take part"),
]
Score = Annotated[
    str | None, typer.Option(help="Grid head: product (objectness x class) or objectness.")
]


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    typer.echo(text, err=True)


@contextmanager
def resumable() -> Iterator[None]:
    """Where Ctrl-C ends a command that goes on where it stopped, say so."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["frostbox", *sys.argv[1:]])
        say(f"stopped; the same command goes on where it stopped: {command}")
        raise


def write_json(value: Any, target: str | None) -> None:
    """Write JSON to a file, or to stdout for "-"."""
    if target == "-":
        typer.echo(json.dumps(value, indent=2))
    elif target is not None:
        Path(target).write_text(json.dumps(value, indent=2) + "\n")
        say(f"written {target}")


class JsonList:
    """A JSON list that is written entry by entry, a line each; a context manager.

    Whatever ends it, what was added is a whole list; after an error, nothing is no list. `target`
    is a file, "-" for stdout, or None.
    """

    def __init__(self, target: str | None) -> None:
        # The stream of now: a progress bar puts another one into sys.stdout.
        self._target, self._stdout = target, sys.stdout
        self._file: IO[str] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, entry: Any) -> None:
        """Write one more entry."""
        if self._target is None:
            return
        # The comma stands in front, so that who reads along has whole lines.
        before = "," if self._file is not None else "[\n"
        self._open().write(f"{before}{json.dumps(entry)}\n")
        if self._target == "-":
            self._stdout.flush()  # who reads a camera's frames waits for them

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._target is None or (self._file is None and kind is not None):
            return
        end = "]\n" if self._file is not None else "[]\n"
        self._open().write(end)
        if self._target != "-":
            self._stack.close()
            say(f"written {self._target}")

    def _open(self) -> IO[str]:
        if self._file is None:
            path = Path(self._target or "-")
            on_stdout = self._target == "-"
            self._file = self._stdout if on_stdout else self._stack.enter_context(path.open("w"))
        return self._file
