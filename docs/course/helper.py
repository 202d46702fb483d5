"""What the pages of the course share: their data, pictures on the screen, detectors of other pages.

Nothing here is about detection. Everything a page makes lies in one folder, `WORK`: by default
in this user's cache, or where the environment variable FROSTBOX_COURSE says.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from platformdirs import user_cache_path

from frostbox import data
from frostbox.data.sample import write_sample
from frostbox.draw import contact_sheet

HERE = Path(__file__).parent
WORK = Path(
    os.environ.get("FROSTBOX_COURSE") or user_cache_path("frostbox", appauthor=False) / "course"
)
ANNOTATION = HERE / "2008_000008.xml"
"""The first annotation of VOC2012's training list, which the published examples are about."""
CLASSES = ("person", "bird", "dog", "aeroplane", "boat", "car")
"""Six of Pascal VOC's twenty: few enough to be learnt within seconds."""


def voc(year: str) -> Path | None:
    """The folder of the real VOC2007 or VOC2012, where VOCDEVKIT names the folder of both."""
    devkit = os.environ.get("VOCDEVKIT")
    folder = Path(devkit) / year if devkit else None
    return folder if folder is not None and folder.is_dir() else None


def data_folder() -> Path:
    """A small data set in VOC's layout, made once: drawn scenes, or photos where there is VOC."""
    real = voc("VOC2007")
    if real is None:
        return write_sample(WORK / "scenes", train=240, val=60, size=(360, 270), classes=CLASSES)
    folder = WORK / "photos"
    if not folder.is_dir():
        part = WORK / "photos-unfinished"
        shutil.rmtree(part, ignore_errors=True)
        _copy_some(real, part, {"train": 400, "val": 120})
        part.rename(folder)
    return folder


def _copy_some(source: Path, target: Path, counts: dict[str, int]) -> None:
    """Photos, spread over the lists of `source`, that show our six classes and no other."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (target / name).mkdir(parents=True)
    for split, count in counts.items():
        images = [
            image
            for image in data.load(source, split).photos
            if {obj.name for obj in image.objects} <= set(CLASSES)
        ]
        chosen = images[:: max(1, len(images) // count)][:count]
        for image in chosen:
            assert image.photo is not None
            shutil.copy(image.photo, target / "JPEGImages")
            shutil.copy(image.source, target / "Annotations")
        ids = "".join(f"{image.image_id}\n" for image in chosen)
        (target / "ImageSets" / "Main" / f"{split}.txt").write_text(ids)


def trained(page: str) -> Path:
    """The folder of the run that another page leaves; that page is run now if it was not yet."""
    folder = WORK / page
    if not (folder / "best.safetensors").exists():
        print(f"running {page}.py first, which trains this detector")
        with _hidden(), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(HERE / f"{page}.py"), run_name="__main__")
    return folder


# --- pictures -----------------------------------------------------------------------------------

COLLECTED: list[Image.Image] | None = None
"""Where the site's build takes pictures from; None when a person runs the script."""
_counts: dict[str, int] = {}


def plot(columns: int = 1, *, rows: int = 1, height: float = 3.2) -> tuple[Figure, list]:
    """An empty figure of the width of a page, and its axes from left to right, top to bottom."""
    figure = Figure(figsize=(7.4, height * rows), layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9)
    return figure, axes


def frame(ax: Axes, box: Sequence[float], **style: object) -> None:
    """Draw the outline of a box (xmin, ymin, xmax, ymax) into a figure."""
    x1, y1, x2, y2 = (float(value) for value in box)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))


def show(
    shown: Figure | Image.Image | Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 2,
) -> None:
    """Show a figure, a picture, or several pictures as one sheet with a caption below each.

    In a notebook it appears below the cell; a script writes it into `WORK`/pictures.
    """
    script = Path(sys._getframe(1).f_globals.get("__file__", "course")).stem
    picture = _as_picture(shown, captions, columns)
    if COLLECTED is not None:
        COLLECTED.append(picture)
    elif "ipykernel" in sys.modules:
        from IPython.display import display

        display(picture)
    else:
        _counts[script] = _counts.get(script, 0) + 1
        path = WORK / "pictures" / f"{script}-{_counts[script]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        print(f"picture: {path}")


def _as_picture(shown: object, captions: Sequence[str] | None, columns: int) -> Image.Image:
    if isinstance(shown, Figure):
        buffer = io.BytesIO()
        shown.savefig(buffer, dpi=200)
        return Image.open(buffer).convert("RGB")
    if isinstance(shown, Image.Image):
        return shown
    assert isinstance(shown, Sequence)
    width = (740 - 14 * (columns + 1)) // columns
    heights = sorted(round(p.height * min(1, width / p.width)) for p in shown)
    # The middle one: a single photo taken upright must not make every row as high as itself.
    return contact_sheet(shown, captions, columns=columns, cell=(width, heights[len(shown) // 2]))


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Pictures of a page that only runs for what it trains are not this page's."""
    global COLLECTED
    before, COLLECTED = COLLECTED, []
    try:
        yield
    finally:
        COLLECTED = before
