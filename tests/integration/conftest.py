"""Commands as a user types them, in this process: argv in; exit status, stdout and stderr out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import frostbox as package
from frostbox import cli
from tests.shapes import write_shapes


@dataclass(frozen=True)
class Finished:
    status: int
    out: str
    err: str


@pytest.fixture
def frostbox(capfd, monkeypatch) -> Callable[..., Finished]:
    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["frostbox", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capfd.readouterr()
        return Finished(status, out, " ".join(err.split()))

    return run


@pytest.fixture(scope="session")
def shapes_voc(tmp_path_factory):
    """Pictures with red, green and blue rectangles; VOCdevkit/VOC2012 below the returned folder."""
    parent = tmp_path_factory.mktemp("data")
    write_shapes(parent / "VOCdevkit" / "VOC2012", train=48, val=16)
    return parent


@pytest.fixture(scope="session")
def trained(shapes_voc, tmp_path_factory):
    """A grid detector trained from Python."""
    folder = tmp_path_factory.mktemp("trained")
    detector = package.train(
        shapes_voc, head="grid", out=folder / "run", cache=folder / "cache", size=(160, 160),
        epochs=40, batch_size=8, lr=3e-3, neck=1, neck_width=64, width=64,
    )  # fmt: skip
    return folder, detector
