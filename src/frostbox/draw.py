"""Boxes on pictures, and sheets of pictures.

Boxes are drawn with Pillow: supervision without OpenCV, which frostbox does not need, has neither
smooth text nor smooth corners.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont, ImageOps

from frostbox.data.voc import CLASSES
from frostbox.errors import DataError

if TYPE_CHECKING:
    from frostbox.data.annotations import DetectionSet, ImageAnnotation

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

# Bright enough for a dark photo, dark enough for a white page; neighbours differ in hue.
_PALETTE = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#a234d1", "#12b5cb", "#f032e6", "#8bc34a",
    "#ff7f9f", "#008080", "#b28dff", "#9a6324", "#ffd60a", "#7a0c2e", "#22d3a0", "#8a8a00",
    "#ffab66", "#1b2a6b", "#ffe0bd", "#5ac8fa", "#d98cb3", "#00a676", "#c6e05a", "#ff3b30",
)  # fmt: skip
_LARGEST_SUPERSAMPLED = 4_000_000  # pixels; beyond, an edge of one pixel is not seen anyway
_PAGE, _INK, _CELL = (250, 250, 252), (32, 33, 36), (238, 239, 243)


def class_colour(name: str, classes: Sequence[str] = CLASSES) -> Colour:
    """The colour of a class: by its place in `classes`, else by its name; the same in every run."""
    place = classes.index(name) if name in classes else zlib.crc32(name.encode())
    red, green, blue = bytes.fromhex(_PALETTE[place % len(_PALETTE)][1:])
    return red, green, blue


def draw_boxes(
    image: Image.Image,
    boxes: ArrayLike,
    labels: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    tracks: Sequence[int] | None = None,
    classes: Sequence[str] = CLASSES,
    dashed: bool | Sequence[bool] = False,
    chips: bool = True,
    fit: tuple[int, int] | None = None,
    smooth: bool = True,
    side: int | None = None,
) -> Image.Image:
    """A copy of a picture with boxes on it, each with a chip that says its name and score.

    Args:
        image: the picture.
        boxes: (N, 4) xyxy in pixels of `image`; parts outside the picture are not drawn.
        labels: N class names.
        scores: N scores in [0, 1], or None to write names alone.
        tracks: N numbers of objects in a video, written beside the name; none below 0.
        classes: names in label order, which gives each class its colour.
        dashed: the style for ground truth, or difficult objects; for all boxes or for each.
        chips: whether to write names and scores.
        fit: (width, height); the picture is first scaled to fit there, so that lines and text
            keep their thickness on a contact sheet.
        smooth: draw twice as fine and scale down; without it in a fraction of the time, for video.
        side: pixels by which lines and text are sized; None for the picture's shorter side.

    Returns:
        An RGB image.

    Raises:
        ValueError: boxes, labels, scores and styles differ in number.
    """
    corners = np.asarray(boxes, dtype=float).reshape(-1, 4)
    styles = [dashed] * len(labels) if isinstance(dashed, bool) else list(dashed)
    counts = [len(corners), len(labels), len(styles), *([] if scores is None else [len(scores)])]
    if len(set(counts)) > 1:
        raise ValueError(f"boxes, labels, styles and scores differ in number: {counts}")
    picture = image.convert("RGB")
    if fit is not None:
        picture = ImageOps.contain(picture, fit, Image.Resampling.LANCZOS)
        corners = corners * np.tile(np.divide(picture.size, image.size), 2)
    corners = np.clip(corners, 0, np.tile(picture.size, 2))
    zoom = 2 if smooth and picture.width * picture.height <= _LARGEST_SUPERSAMPLED else 1
    shorter = min(picture.size)
    pen = _Pen(picture.size, zoom, min(side or shorter, shorter), picture if not smooth else None)
    # Large boxes first and chips last, so that nothing hides a small object or a name.
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order = [int(k) for k in np.argsort(-areas, kind="stable") if areas[k] > 0]
    for k in order:
        pen.outline(_rectangle(corners[k]), class_colour(labels[k], classes), styles[k])
    if chips:
        for k in order:
            number = f" #{tracks[k]}" if tracks is not None and tracks[k] >= 0 else ""
            text = labels[k] + number + ("" if scores is None else f" {scores[k]:.2f}")
            pen.chip(text, _rectangle(corners[k]), class_colour(labels[k], classes))
    if not smooth:
        return picture
    layer = pen.layer.reduce(zoom) if zoom > 1 else pen.layer
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def contact_sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 4,
    cell: tuple[int, int] = (360, 270),
    title: str | None = None,
) -> Image.Image:
    """Pictures in rows, each scaled down to its cell, with a caption below.

    Args:
        pictures: any number of pictures, at least one.
        captions: one a picture, shortened where too long.
        columns: pictures a row.
        cell: (width, height) of the room for a picture, in pixels.
        title: a line above all.

    Returns:
        An RGB image.

    Raises:
        DataError: no picture.
    """
    if not pictures:
        raise DataError("there is no picture to put on the sheet; choose a split with photos.")
    columns = min(columns, len(pictures))
    gap, line = 14, 26 if captions else 0
    top = 52 if title else gap
    rows = -(-len(pictures) // columns)
    width = gap + columns * (cell[0] + gap)
    sheet = Image.new("RGB", (width, top + rows * (cell[1] + line + gap)), _PAGE)
    draw = ImageDraw.Draw(sheet)
    if title:
        text = _shorten(title, width - 2 * gap, 20)
        draw.text((gap, top / 2), text, fill=_INK, font=_font(20), anchor="lm")
    for k, picture in enumerate(pictures):
        x = gap + k % columns * (cell[0] + gap)
        y = top + k // columns * (cell[1] + line + gap)
        small = picture.convert("RGB")
        if small.width > cell[0] or small.height > cell[1]:
            small = ImageOps.contain(small, cell, Image.Resampling.LANCZOS)
        draw.rectangle((x, y, x + cell[0] - 1, y + cell[1] - 1), fill=_CELL)
        sheet.paste(small, (x + (cell[0] - small.width) // 2, y + (cell[1] - small.height) // 2))
        if captions:
            text = _shorten(captions[k], cell[0], 13)
            draw.text((x, y + cell[1] + line / 2), text, fill=_INK, font=_font(13), anchor="lm")
    return sheet


def annotated_samples(dataset: DetectionSet, count: int = 12, seed: int = 0) -> Image.Image:
    """A sheet of photos drawn at random with their ground truth; difficult objects are dashed.

    Photos that cannot be decoded are passed over.

    Raises:
        DataError: the split has no photo that can be decoded.
    """
    photos = dataset.photos
    order = np.random.default_rng(seed).permutation(len(photos))
    pictures: list[Image.Image] = []
    captions: list[str] = []
    for k in order:
        if len(pictures) == count:
            break
        drawn = _annotated(photos[int(k)], dataset)
        if drawn is not None:
            pictures.append(drawn)
            captions.append(photos[int(k)].image_id)
    return contact_sheet(pictures, captions, title=f"{dataset.name} {dataset.split}")


@dataclass
class _Pen:
    """Draws on a transparent layer `zoom` times the picture; coordinates are the picture's.

    With `onto`, an RGB picture, it draws there.
    """

    size: tuple[int, int]
    zoom: int
    side: int
    onto: Image.Image | None = None
    layer: Image.Image = field(init=False)
    taken: list[Rectangle] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole = (self.size[0] * self.zoom, self.size[1] * self.zoom)
        self.layer = self.onto or Image.new("RGBA", whole)
        self.draw = ImageDraw.Draw(self.layer, "RGBA")
        # Text of 3 % of the shorter side reads well from a thumbnail to a poster.
        self.text_size = max(11, round(0.03 * self.side))
        self.width = max(2, round(0.005 * self.side))

    def outline(self, box: Rectangle, colour: Colour, dashed: bool) -> None:
        """A frame inside the box, with a rim that keeps it visible on its own colour."""
        x1, y1, x2, y2 = (value * self.zoom for value in box)
        width, radius = self.width * self.zoom, 2 * self.zoom
        if dashed:
            self._dashes((x1, y1, x2, y2), colour, width)
            return
        rim = self.zoom
        shade = (0, 0, 0, 110) if _luma(colour) > 60 else (255, 255, 255, 110)
        outer = (x1 - rim, y1 - rim, x2 + rim - 1, y2 + rim - 1)
        self.draw.rounded_rectangle(outer, radius, outline=shade, width=width + 2 * rim)
        frame = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
        self.draw.rounded_rectangle(frame, radius, outline=(*colour, 255), width=width)

    def _dashes(self, box: Rectangle, colour: Colour, width: int) -> None:
        x1, y1, x2, y2 = box
        step = 4 * width
        for start in np.arange(x1, x2, 2 * step):
            end = min(start + step, x2)
            for low in (y1, max(y1, y2 - width)):
                self.draw.rectangle((start, low, end, low + width - 1), fill=(*colour, 255))
        for start in np.arange(y1, y2, 2 * step):
            end = min(start + step, y2)
            for low in (x1, max(x1, x2 - width)):
                self.draw.rectangle((low, start, low + width - 1, end), fill=(*colour, 255))

    def chip(self, text: str, box: Rectangle, colour: Colour) -> None:
        """The text on its colour: above the box, else inside or below, where no other chip is."""
        pad = max(3, self.text_size // 4)
        text = _shorten(text, self.size[0] - 2 * pad, self.text_size)
        width = _font(self.text_size).getlength(text) + 2 * pad
        height = self.text_size + 2 * (pad - 1)
        left = min(max(0.0, box[0]), max(0.0, self.size[0] - width))
        right = min(max(0.0, box[2] - width), max(0.0, self.size[0] - width))
        rows = (box[1] - height, box[1], box[3] - height, box[3], box[1] + height)
        places = [
            (x, y, x + width, y + height)
            for y in rows
            for x in (left, right)
            if 0 <= y <= self.size[1] - height
        ] or [(left, 0.0, left + width, height)]
        place = min(places, key=lambda p: sum(_overlap(p, other) for other in self.taken))
        self.taken.append(place)
        x1, y1, x2, y2 = (value * self.zoom for value in place)
        self.draw.rounded_rectangle((x1, y1, x2, y2), 3 * self.zoom, fill=(*colour, 235))
        ink = (*_INK, 255) if _luma(colour) > 140 else (255, 255, 255, 255)
        font = _font(self.text_size * self.zoom)
        self.draw.text((x1 + pad * self.zoom, (y1 + y2) / 2), text, ink, font, anchor="lm")


def _annotated(image: ImageAnnotation, dataset: DetectionSet) -> Image.Image | None:
    from frostbox.data.photos import read_image

    assert image.photo is not None
    try:
        pixels = read_image(image.photo, exif=image.exif).permute(1, 2, 0).contiguous().numpy()
    except DataError:
        return None
    picture = ImageOps.contain(Image.fromarray(pixels), (360, 270), Image.Resampling.LANCZOS)
    scale = np.tile(np.divide(picture.size, (image.width, image.height)), 2)
    boxes = np.array([obj.box for obj in image.objects]).reshape(-1, 4) * scale
    names = [obj.name for obj in image.objects]
    difficult = [obj.difficult or obj.crowd for obj in image.objects]
    return draw_boxes(picture, boxes, names, classes=dataset.classes, dashed=difficult)


def _luma(colour: Colour) -> float:
    """Brightness from 0 to 255 by the weights of ITU-R BT.601."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _rectangle(corners: Iterable[float]) -> Rectangle:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return x1, y1, x2, y2


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Area of the intersection in square pixels."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib, so every machine draws the same text, beyond ASCII too.
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def _shorten(text: str, width: float, size: int) -> str:
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
