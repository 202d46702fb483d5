"""Fixtures for all tests: the real VOC where there is one, small generated data sets, a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No test is timed: a machine that is busy elsewhere is no defect.
settings.register_profile("frostbox", deadline=None)
settings.load_profile("frostbox")

RawObject = tuple[str, tuple[float, float, float, float]]
TinyVoc = Callable[..., Path]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera
)  # fmt: skip

TINY: dict[str, list[RawObject]] = {
    "a": [("dog", (5, 6, 30, 35)), ("person", (31, 1, 60, 40))],
    "b": [("person", (10, 10, 50, 30))],
    "c": [("cat", (1, 1, 60, 40))],
    "d": [("dog", (20, 5, 40, 25)), ("cat", (2, 20, 12, 39))],
}


def voc_year(name: str) -> Path:
    """A year folder of VOCDEVKIT; skips without the variable, fails without the folder."""
    devkit = os.environ.get("VOCDEVKIT")
    if not devkit:
        pytest.skip("VOCDEVKIT is not set")
    folder = Path(devkit) / name
    if not folder.is_dir():
        pytest.fail(f"VOCDEVKIT is {devkit} and has no {name}")
    return folder


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for what frostbox keeps of a user's data."""
    home = tmp_path / "frostbox-data"
    monkeypatch.setenv("FROSTBOX_DATA", str(home))
    return home


@pytest.fixture(scope="session")
def voc2007() -> Path:
    """The folder of the real VOC2007."""
    return voc_year("VOC2007")


@pytest.fixture(scope="session")
def voc2012() -> Path:
    """The folder of the real VOC2012."""
    return voc_year("VOC2012")


def xml_object(name: str, box: Sequence[object], extra: str = "") -> str:
    """One object element with VOC's raw coordinates; `extra` is put beside its bndbox."""
    tags = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def xml_annotation(
    image_id: str, objects: Sequence[RawObject], size: tuple[int, int] = (60, 40)
) -> str:
    """A whole annotation with nothing optional in it."""
    return (
        f"<annotation><filename>{image_id}.jpg</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>"
        + "".join(xml_object(name, box) for name, box in objects)
        + "</annotation>"
    )


@pytest.fixture
def tiny_voc(tmp_path: Path) -> TinyVoc:
    """A function that writes a small data set in VOC layout and returns its folder.

    `tiny_voc(objects, splits=..., size=..., name=..., photos=...)`: `objects` maps ids to
    `(name, raw VOC box)` pairs, `splits` names of lists to ids; the photos are coloured noise.
    """

    def write(
        objects: Mapping[str, Sequence[RawObject]] | None = None,
        *,
        splits: Mapping[str, Sequence[str]] | None = None,
        size: tuple[int, int] = (60, 40),
        name: str = "VOC2012",
        photos: bool = True,
    ) -> Path:
        contents = TINY if objects is None else objects
        ids = list(contents)
        lists = splits or {"train": ids[: len(ids) // 2 or 1], "val": ids[len(ids) // 2 :] or ids}
        root = tmp_path / name
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True)
        rng = np.random.default_rng(0)
        for image_id, found in contents.items():
            xml = xml_annotation(image_id, found, size)
            (root / "Annotations" / f"{image_id}.xml").write_text(xml)
            if photos:
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}.jpg")
        for split, named in lists.items():
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(named) + "\n")
        return root

    return write


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, in a profile of its own; skipped without one, unless
    FROSTBOX_REQUIRE_BROWSER is set."""
    from playwright.sync_api import sync_playwright

    given = os.environ.get("FROSTBOX_CHROMIUM")
    path = given or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        missing = "no Chromium: install it (apt-get install chromium) or set FROSTBOX_CHROMIUM"
        if os.environ.get("FROSTBOX_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=_BROWSER_FLAGS
        )
        yield browser
        browser.close()
