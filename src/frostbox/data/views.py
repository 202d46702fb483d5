"""The views in which a cache holds every image: as it is, mirrored, zoomed in and out, recoloured.

What is drawn follows from the view and the image's id alone: the same request gives the same
bytes, an interrupted extraction goes on, and geometry and boxes need no photo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from frostbox.errors import SettingsError

if TYPE_CHECKING:
    from frostbox.data.colour import Colour
    from frostbox.data.transforms import Geometry, Rectangle

MAX_VIEWS = 16
ZOOM_IN, ZOOM_OUT = "zoom-in", "zoom-out"
_LEAST_SIDE = 2  # pixels; torch cannot resize uint8 to 1 x 1 with antialiasing

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """One way in which every image is seen; this one as it is, or mirrored."""

    name: str
    flip: bool = False

    def geometry(
        self, image_id: str, mode: str, original: tuple[int, int], size: tuple[int, int]
    ) -> Geometry:
        """The geometry of an image of `original` (width, height) in this view."""
        from frostbox.data.transforms import geometry

        return geometry(mode, original, size, flip=self.flip)

    def colour(self, image_id: str) -> Colour | None:
        """How the colours of an image are changed in this view; None when they are not."""
        return None


@dataclass(frozen=True, slots=True)
class DrawnView(View):
    """A view that is drawn anew for each image, and mirrored for half of them.

    Zoomed in, a part of the picture fills the place of the whole (the random crop of SSD,
    arXiv:1512.02325). Zoomed out, the whole picture lies somewhere on a canvas of the size that
    the network sees (SSD's expansion).

    Attributes:
        kind: "zoom-in" or "zoom-out".
        number: of the view in its cache.
        seed: of the draw, beside `number` and the image's id.
        side: smallest and largest share of the side: of the picture that is seen when zoomed in, of
            its size in the original view that is left when zoomed out.
        aspect: largest factor by which width to height changes; the smallest is its inverse.
        brightness, contrast, saturation: largest change of these factors up and down from 1.
        hue: largest rotation either way, in turns.
        fill: red, green and blue of the canvas.
    """

    kind: str = ZOOM_IN
    number: int = 0
    seed: int = 0
    side: Range = (1.0, 1.0)
    aspect: float = 4 / 3
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.02
    fill: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The view of an entry of the index; raises KeyError, TypeError or ValueError."""
        low, high = data["side"]
        red, green, blue = data["fill"]
        if data["kind"] not in (ZOOM_IN, ZOOM_OUT):
            raise ValueError(f"a view is of kind {data['kind']!r}")
        return cls(**{**data, "side": (low, high), "fill": (red, green, blue)})

    def geometry(
        self, image_id: str, mode: str, original: tuple[int, int], size: tuple[int, int]
    ) -> Geometry:
        """The geometry of an image of `original` (width, height) in this view."""
        from frostbox.data.transforms import content, geometry, placed

        draw = self._generator(image_id, "geometry")
        flip = draw.random() < 0.5
        side = _between(draw, *self.side)
        factor = _between(draw, 1.0, self.aspect)
        ratio = (factor if draw.random() < 0.5 else 1 / factor) ** 0.5
        shares = (min(1.0, side * ratio), min(1.0, side / ratio))
        place = (draw.random(), draw.random())
        base = geometry(mode, original, size)
        window, target = content(base)
        if self.kind == ZOOM_IN:
            return placed(base, _part(window, window, shares, place), target, flip, base.fill)
        canvas = (0, 0, *base.output)
        return placed(base, window, _part(target, canvas, shares, place), flip, self.fill)

    def colour(self, image_id: str) -> Colour:
        """How the colours of an image are changed in this view."""
        from frostbox.data.colour import Colour

        draw = self._generator(image_id, "colour")
        widths = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (_between(draw, 1 - w, 1 + w) for w in widths)
        return Colour(brightness, contrast, saturation, _between(draw, -self.hue, self.hue))

    def _generator(self, image_id: str, purpose: str) -> random.Random:
        # Python promises the same `random()` for the same text as seed in every version and
        # process; of its other methods it does not.
        return random.Random(f"{purpose} {self.seed} {self.number} {image_id}")


def first_views(count: int, fill: tuple[int, int, int]) -> tuple[View, ...]:
    """The first `count` views: as it is, mirrored, then zoomed in and zoomed out by turns.

    Args:
        count: 1 to 16.
        fill: red, green and blue of the canvas around a picture that is zoomed out.

    Raises:
        SettingsError: another count.
    """
    if not 1 <= count <= MAX_VIEWS:
        raise SettingsError(
            f"views is {count}; it can be 1 (original), 2 (and its flip), up to {MAX_VIEWS} (then "
            f"{ZOOM_IN} and {ZOOM_OUT} by turns)"
        )
    return tuple(_view(number, number, fill) for number in range(count))


def endless_view(draw: int, fill: tuple[int, int, int]) -> View:
    """One of endlessly many views: as it is, mirrored, zoomed in or out, by turns of four.

    Args:
        draw: 0 or more; the same draw is the same view.
        fill: as in `first_views`.
    """
    return _view(draw % 4, draw, fill)


def _view(place: int, number: int, fill: tuple[int, int, int]) -> View:
    if place < 2:
        return (View("original"), View("flip", flip=True))[place]
    kind, side = ((ZOOM_IN, (0.4, 1.0)), (ZOOM_OUT, (0.5, 1.0)))[place % 2]
    return DrawnView(f"{kind} {number}", kind=kind, number=number, side=side, fill=fill)


def _between(draw: random.Random, low: float, high: float) -> float:
    return low + (high - low) * draw.random()


def _part(
    whole: Rectangle, limits: Rectangle, shares: Sequence[float], place: Sequence[float]
) -> Rectangle:
    """Whole pixels with these shares of the sides of `whole`, somewhere inside `limits`."""
    ends = []
    for k in range(2):
        length = whole[k + 2] - whole[k]
        side = min(length, max(_LEAST_SIDE, round(length * shares[k])))
        start = limits[k] + int((limits[k + 2] - limits[k] - side + 1) * place[k])
        ends.append((start, start + side))
    (left, right), (top, bottom) = ends
    return (left, top, right, bottom)
