"""The image transform and what it does to boxes, as one object.

A `Geometry` says where a pixel of the original lands in the output. The picture is moved by
`apply_image`, boxes by `Geometry.apply`, and detections come back through `Geometry.invert`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from frostbox.data.photos import check_photo_sizes, image_size, read_image
from frostbox.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MODES",
    "Geometry",
    "Rectangle",
    "apply_image",
    "check_photo_sizes",
    "content",
    "enough",
    "geometry",
    "image_size",
    "placed",
    "read_image",
]

MODES = ("none", "shrink", "crop", "letterbox")
_LETTERBOX_GREY = 114

Picture = TypeVar("Picture", Tensor, Image.Image)
Size = tuple[int, int]
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Scale, then shift, then mirror: `x' = x * sx + ox`, and `x'' = width - x'` when flipped.

    Attributes:
        original: (width, height) of the picture as decoded, in pixels.
        output: (width, height) of the picture that the network sees, in pixels.
        scale: (sx, sy), output pixels a pixel of the original.
        offset: (ox, oy) of the original's corner in output pixels; negative where it is cropped.
        flip: whether the output is mirrored left to right.
        fill: value of output pixels that the original does not cover: grey, or red, green and blue.
        window: part of the original that is shown, in its pixels; None for all that fits.
    """

    original: Size
    output: Size
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0, 0)
    flip: bool = False
    fill: int | tuple[int, int, int] = 0
    window: Rectangle | None = None

    def shown(self) -> Rectangle:
        """Where output pixels may show the original, after the mirror: boxes are clipped to it."""
        if self.window is None:
            return (0, 0, *self.output)
        left, top, right, bottom = self._target(self.window)
        if self.flip:
            left, right = self.output[0] - right, self.output[0] - left
        return (left, top, right, bottom)

    def _target(self, window: Rectangle) -> Rectangle:
        """Where a window of the original lies in the output, before the mirror."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        left, top, right, bottom = window
        width, height = round((right - left) * sx), round((bottom - top) * sy)
        x, y = round(left * sx + ox), round(top * sy + oy)
        return (x, y, x + width, y + height)

    def apply(self, boxes: Tensor) -> Tensor:
        """Boxes of the original in output pixels, not clipped.

        Args:
            boxes: float (N, 4), xyxy in pixels of the original.

        Returns:
            (N, 4) of the same dtype, xyxy in pixels of the output.
        """
        moved = boxes * boxes.new_tensor(self.scale * 2) + boxes.new_tensor(self.offset * 2)
        return self._mirror(moved) if self.flip else moved

    def invert(self, boxes: Tensor) -> Tensor:
        """Boxes of the output in pixels of the original, not clipped; the inverse of `apply`.

        Args:
            boxes: float (N, 4), xyxy in pixels of the output.

        Returns:
            (N, 4) of the same dtype, xyxy in pixels of the original.
        """
        moved = self._mirror(boxes) if self.flip else boxes
        return (moved - boxes.new_tensor(self.offset * 2)) / boxes.new_tensor(self.scale * 2)

    def _mirror(self, boxes: Tensor) -> Tensor:
        mirrored = boxes.clone()
        mirrored[..., 0] = self.output[0] - boxes[..., 2]
        mirrored[..., 2] = self.output[0] - boxes[..., 0]
        return mirrored

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Geometry:
        """The inverse of `to_dict`, also after a journey through JSON."""
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})


def geometry(
    mode: str, original: Size, output: Size | None = None, *, flip: bool = False
) -> Geometry:
    """The geometry that brings a picture of one size to another.

    Args:
        mode: "none" keeps the size, "shrink" squeezes to `output` whatever the aspect ratio,
            "crop" takes the centre by the rounding of torchvision's CenterCrop and pads with black
            where the picture is smaller, "letterbox" scales evenly and pads with grey.
        original: (width, height) in pixels.
        output: (width, height) in pixels; not read for "none".
        flip: whether to mirror the output left to right.

    Raises:
        SettingsError: unknown mode, no output size, or a size below 1.
    """
    if mode not in MODES:
        raise SettingsError(f"resize mode {mode!r} is unknown; choose one of {', '.join(MODES)}.")
    if mode == "none":
        output = original
    if output is None:
        raise SettingsError(f"resize mode {mode!r} needs an output size; give width and height.")
    if min(*original, *output) < 1:
        raise SettingsError(f"image sizes must be at least 1 pixel, not {original} and {output}.")
    (width, height), (out_width, out_height) = original, output
    if mode == "shrink":
        return Geometry(original, output, (out_width / width, out_height / height), flip=flip)
    if mode == "crop":
        offset = (_centre_offset(width, out_width), _centre_offset(height, out_height))
        return Geometry(original, output, offset=offset, flip=flip)
    if mode == "letterbox":
        factor = min(out_width / width, out_height / height)
        inner = (max(1, round(width * factor)), max(1, round(height * factor)))
        # The scale of whole pixels, so that boxes follow the pixels exactly.
        scale = (inner[0] / width, inner[1] / height)
        offset = ((out_width - inner[0]) // 2, (out_height - inner[1]) // 2)
        return Geometry(original, output, scale, offset, flip, _LETTERBOX_GREY)
    return Geometry(original, output, flip=flip)


def content(base: Geometry) -> tuple[Rectangle, Rectangle]:
    """The part of the original that a geometry of `geometry` shows, and where, without its mirror.

    Returns:
        In pixels of the original, and in pixels of the output.
    """
    left, top, right, bottom = base._target((0, 0, *base.original))
    target = (max(0, left), max(0, top), min(base.output[0], right), min(base.output[1], bottom))
    sx, sy = base.scale
    window = (
        round((target[0] - left) / sx),
        round((target[1] - top) / sy),
        round((target[2] - left) / sx),
        round((target[3] - top) / sy),
    )
    return window, target


def placed(
    base: Geometry,
    window: Rectangle,
    target: Rectangle,
    flip: bool,
    fill: int | tuple[int, int, int],
) -> Geometry:
    """The geometry that shows a window of the original in a rectangle of the output, and no more.

    Args:
        base: gives the sizes of original and output.
        window: in pixels of the original, inside it.
        target: in pixels of the output, inside it.
        flip: whether to mirror the whole output after that.
        fill: of the output outside `target`.
    """
    scale = (
        (target[2] - target[0]) / (window[2] - window[0]),
        (target[3] - target[1]) / (window[3] - window[1]),
    )
    offset = (target[0] - window[0] * scale[0], target[1] - window[1] * scale[1])
    return Geometry(base.original, base.output, scale, offset, flip, fill, window)


def enough(geometries: Iterable[Geometry]) -> float:
    """The share of the sides of a photo that these pictures of it need, at most 1.

    Twice the pixels that are shown leave the resampling enough to be smooth.
    """
    return min(1.0, 2 * max(max(g.scale) for g in geometries))


def apply_image(image: Picture, geometry: Geometry, *, reduced: bool = False) -> Picture:
    """Bring a picture to the output size.

    Args:
        image: uint8 tensor (3, H, W) or PIL image of the geometry's original size.
        geometry: what `geometry` returned for that size.
        reduced: the picture may be the original with fewer pixels, see photos.read_enough.

    Returns:
        The same type, of the geometry's output size. Scaling is bilinear with antialiasing.

    Raises:
        SettingsError: the picture has another size than the geometry was made for.
    """
    width, height = image.size if isinstance(image, Image.Image) else image.shape[:-3:-1]
    if (width, height) != geometry.original and not reduced:
        raise SettingsError(
            f"the picture is {width} x {height} pixels and the geometry is for "
            f"{geometry.original[0]} x {geometry.original[1]}; make one for this picture."
        )
    window = geometry.window or (0, 0, *geometry.original)
    shown = _reduced(window, geometry.original, (width, height))
    moved: Any = image
    if shown != (0, 0, width, height):
        # Before the resize, which then touches only pixels that are shown.
        moved = F.crop(moved, shown[1], shown[0], shown[3] - shown[1], shown[2] - shown[0])
    left, top, right, bottom = geometry._target(window)
    if (right - left, bottom - top) != (shown[2] - shown[0], shown[3] - shown[1]):
        moved = F.resize(
            moved,
            [bottom - top, right - left],
            interpolation=InterpolationMode.BILINEAR,
            antialias=True,
        )
    out_width, out_height = geometry.output
    padding = [max(0, side) for side in (left, top, out_width - right, out_height - bottom)]
    if any(padding):
        fill = geometry.fill if isinstance(geometry.fill, int) else list(geometry.fill)
        moved = F.pad(moved, padding, fill=fill)
    if min(left, top, out_width - right, out_height - bottom) < 0:
        moved = F.crop(moved, max(0, -top), max(0, -left), out_height, out_width)
    if geometry.flip:
        moved = F.horizontal_flip(moved)
    result: Picture = moved
    return result


def _reduced(window: Rectangle, original: Size, size: Size) -> Rectangle:
    """A window of the original in whole pixels of a picture of it that has `size`."""
    if size == original:
        return window
    ends = []
    for k in range(2):
        low, high = (window[i] * size[k] / original[k] for i in (k, k + 2))
        first = min(round(low), size[k] - 1)
        ends.append((first, max(first + 1, round(high))))
    (left, right), (top, bottom) = ends
    return (left, top, right, bottom)


def _centre_offset(size: int, output: int) -> int:
    """Where CenterCrop puts the picture's edge: padding rounds down, cropping half to even."""
    return (output - size) // 2 if output > size else -round((size - output) / 2)
