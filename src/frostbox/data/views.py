"""The views in which a cache holds every image: as it is, mirrored, zoomed, in a mosaic of four.

What is drawn follows from the view and the image's id, in mosaics from the list of photos too: the
same request gives the same bytes, an interrupted extraction goes on, and geometry and boxes need no
photo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from frostbox.errors import SettingsError
from frostbox.untrusted import shown

if TYPE_CHECKING:
    from frostbox.data.colour import Colour
    from frostbox.data.transforms import Geometry, Rectangle

MAX_VIEWS = 16
ZOOM_IN, ZOOM_OUT, MOSAIC = "zoom-in", "zoom-out", "mosaic"
PARTNERS = 3  # the other images of a mosaic
_TURNS = (MOSAIC, ZOOM_IN, MOSAIC, ZOOM_OUT)  # after the first two
_LEAST_SIDE = 2  # pixels; torch cannot resize uint8 to 1 x 1 with antialiasing

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """One way in which every image is seen; this one as it is, or mirrored."""

    name: str
    flip: bool = False

    def geometry(
        self,
        image_id: str,
        mode: str,
        original: tuple[int, int],
        size: tuple[int, int],
        part: int = 0,
    ) -> Geometry:
        """The geometry of a picture of `original` (width, height) in this view of an image.

        Args:
            part: 0 for the image itself, then its partners in their order.
        """
        from frostbox.data.transforms import geometry

        return geometry(mode, original, size, flip=self.flip)

    def partners(self, image_id: str, count: int) -> tuple[int, ...]:
        """Which others of `count` photos this view of an image shows beside it."""
        return ()

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
        self,
        image_id: str,
        mode: str,
        original: tuple[int, int],
        size: tuple[int, int],
        part: int = 0,
    ) -> Geometry:
        """See View."""
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
        return _generator(purpose, self.seed, self.number, image_id)


@dataclass(frozen=True, slots=True)
class MosaicView(View):
    """An image and three others of the data set around one point (YOLOv4, arXiv:2004.10934).

    Each fills its quarter of the output with a part of it, mirrored or not.

    Attributes:
        kind: "mosaic". number, seed: as in DrawnView.
        side: smallest and largest size of a picture, as a share of its size in the original view;
            one that would not fill its quarter is larger.
        centre: where the point may lie, in shares of the sides.
        fill: red, green and blue of a quarter whose photo cannot be read.
    """

    kind: str = MOSAIC
    number: int = 0
    seed: int = 0
    side: Range = (0.5, 1.1)
    centre: Range = (0.35, 0.65)
    fill: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The view of an entry of the index; raises KeyError, TypeError or ValueError."""
        (low, high), (near, far) = data["side"], data["centre"]
        red, green, blue = data["fill"]
        changed = {"side": (low, high), "centre": (near, far), "fill": (red, green, blue)}
        return cls(**{**data, **changed})

    def partners(self, image_id: str, count: int) -> tuple[int, ...]:
        """See View."""
        draw = _generator("partners", self.seed, self.number, image_id)
        return tuple(int(draw.random() * count) for _ in range(PARTNERS * (count > 0)))

    def geometry(
        self,
        image_id: str,
        mode: str,
        original: tuple[int, int],
        size: tuple[int, int],
        part: int = 0,
    ) -> Geometry:
        """See View."""
        from frostbox.data.transforms import geometry, placed

        draw = _generator("mosaic", self.seed, self.number, image_id)
        x, y = (round(length * _between(draw, *self.centre)) for length in size)
        column, row = divmod((int(draw.random() * 4) + part) % 4, 2)
        left, right = ((0, x), (x, size[0]))[column]
        top, bottom = ((0, y), (y, size[1]))[row]
        draw = _generator(f"part {part} of mosaic", self.seed, self.number, image_id)
        flip = draw.random() < 0.5
        # Not squeezed: the whole picture would fit into the output, as in a letterbox.
        fitting = min(size[0] / original[0], size[1] / original[1])
        needed = max((right - left) / original[0], (bottom - top) / original[1])
        scale = max(fitting * _between(draw, *self.side), needed)
        shares = [
            (b - a) / scale / o
            for a, b, o in ((left, right, original[0]), (top, bottom, original[1]))
        ]
        window = (0, 0, *original)
        shown = _part(window, window, shares, (draw.random(), draw.random()))
        if flip:  # the mirror is that of the whole output
            left, right = size[0] - right, size[0] - left
        return placed(
            geometry(mode, original, size), shown, (left, top, right, bottom), flip, self.fill
        )


def view_from_json(data: Mapping[str, Any]) -> View:
    """The view of an entry of the index; raises KeyError, TypeError or ValueError."""
    if "kind" not in data:
        view = View(**data)
    else:
        view = (MosaicView if data["kind"] == MOSAIC else DrawnView).from_json(data)
    for one in fields(view):
        _check(one.name, getattr(view, one.name))
    return view


_LIMITS: Mapping[str, Range] = {
    "side": (0.01, 4.0), "centre": (0.01, 0.99), "aspect": (1.0, 16.0), "fill": (0, 255),
}  # fmt: skip


def _check(name: str, value: Any) -> None:
    """Raise ValueError for the value of a view's field that no view of ours has."""
    if name in ("name", "kind") or type(value) is bool:
        kind: type = bool if name == "flip" else str
        fits = type(value) is kind
    elif name in ("number", "seed"):
        fits = type(value) is int
    else:
        low, high = _LIMITS.get(name, (0.0, 1.0))
        values = value if isinstance(value, tuple) else (value,)
        kinds = (int,) if name == "fill" else (int, float)
        fits = all(type(v) in kinds and low <= v <= high for v in values)
        fits = fits and (name == "fill" or list(values) == sorted(values))
    if not fits:
        raise ValueError(f"{name} of a view is {shown(value)}")


def first_views(count: int, fill: tuple[int, int, int]) -> tuple[View, ...]:
    """The first `count` views: as it is, mirrored, then mosaics and zooms in and out by turns.

    Args:
        count: 1 to 16.
        fill: red, green and blue of the canvas around a picture that is zoomed out.

    Raises:
        SettingsError: another count.
    """
    if not 1 <= count <= MAX_VIEWS:
        raise SettingsError(
            f"views is {count}; it can be 1 (original), 2 (and its flip), up to {MAX_VIEWS} (then "
            f"{MOSAIC}s and zooms by turns)"
        )
    return tuple(_view(number, fill) for number in range(count))


def mosaics_among(count: int) -> int:
    """How many of the first `count` views are mosaics."""
    return sum(_kind(number) == MOSAIC for number in range(2, count))


def endless_view(draw: int, fill: tuple[int, int, int], mosaics: bool = True) -> View:
    """One of endlessly many views: by turns as it is, mirrored, and what a cache has after these.

    Args:
        draw: 0 or more; the same draw is the same view.
        fill: as in `first_views`.
        mosaics: False for zooms in their place.
    """
    turn = draw % (2 + len(_TURNS))
    if turn < 2:
        return _view(turn, fill)
    kind = _kind(turn)
    if kind == MOSAIC and not mosaics:
        kind = _kind(turn + 1)
    return _drawn(kind, draw, fill)


def _view(number: int, fill: tuple[int, int, int]) -> View:
    if number < 2:
        return (View("original"), View("flip", flip=True))[number]
    return _drawn(_kind(number), number, fill)


def _kind(number: int) -> str:
    return _TURNS[(number - 2) % len(_TURNS)]


def _drawn(kind: str, number: int, fill: tuple[int, int, int]) -> View:
    if kind == MOSAIC:
        return MosaicView(f"{kind} {number}", number=number, fill=fill)
    side = {ZOOM_IN: (0.4, 1.0), ZOOM_OUT: (0.5, 1.0)}[kind]
    return DrawnView(f"{kind} {number}", kind=kind, number=number, side=side, fill=fill)


def _generator(purpose: str, seed: int, number: int, image_id: str) -> random.Random:
    # Python promises the same `random()` for the same text as seed in every version and process;
    # of its other methods it does not.
    return random.Random(f"{purpose} {seed} {number} {image_id}")


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
