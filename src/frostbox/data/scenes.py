"""One scene of the built-in data set: a backdrop, drawings set into it, and their exact boxes.

Objects are painted from far to near. While painting, a map remembers which object owns each pixel;
boxes, occlusion and truncation are counted from that map, so they hold by construction.
This file makes one scene in memory; files are sample.py's affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from frostbox.data.drawings import Drawing, Split, clutter, drawings_of, rasterise
from frostbox.data.scenery import backdrop

# Longer side of a drawing as a fraction of the picture's longer side.
SMALLEST, LARGEST = 0.08, 0.70
# An object is occluded from this covered share of its pixels on, difficult below the visible one.
OCCLUDED_FROM, DIFFICULT_BELOW = 0.10, 0.35

# Pixels at which drawings are rasterised before they are turned and resized: few sizes, so that a
# rasterised drawing serves again, and small ones, since time goes with the area.
_BASE_SIDES = (64, 128, 208, 352)
_OPAQUE = 110  # alpha from which on a pixel belongs to the object
_AIRBORNE = {"bird", "aeroplane"}
# How far the colours of a class may turn on the colour wheel, in degrees; the rest: any angle.
_HUE_RANGE = {
    "person": 6, "bird": 30, "cat": 14, "cow": 12, "dog": 12, "horse": 12, "sheep": 8,
    "pottedplant": 22, "diningtable": 16, "clutter": 20,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a scene is to show. `seed` alone decides everything that the plan leaves open."""

    split: Split
    seed: tuple[int, ...]
    theme: str
    labels: tuple[str, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class SceneObject:
    """One annotated object; `box` is VOC's: xmin, ymin, xmax, ymax, 1-based, inclusive pixels."""

    drawing: Drawing
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool
    difficult: bool


@dataclass(frozen=True)
class Scene:
    """A picture, its objects, and the map of their visible pixels: owner (H, W) int16 holds the
    index into `objects`, or a negative number where no object shows."""

    image: Image.Image
    objects: tuple[SceneObject, ...]
    owner: NDArray[np.int16]
    quality: int


@dataclass
class _Sprite:
    """A drawing at its final size and colours, and where its top left corner lies."""

    drawing: Drawing
    image: Image.Image
    mask: NDArray[np.bool_]
    x: int = 0
    y: int = 0

    @property
    def bottom(self) -> int:
        return self.y + int(self.mask.shape[0])


class _Stage:
    """The picture being painted and the owner of each of its pixels."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.owner = np.full((image.height, image.width), -1, np.int16)
        self.sprites: list[_Sprite] = []
        self.inside: list[int] = []  # pixels of each sprite within the picture

    def window(self, sprite: _Sprite) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """The owner map under the sprite and the sprite's mask, both cut to the picture."""
        h, w = sprite.mask.shape
        top, left = max(0, -sprite.y), max(0, -sprite.x)
        below = self.owner[max(0, sprite.y) : sprite.y + h, max(0, sprite.x) : sprite.x + w]
        return below, sprite.mask[top : top + below.shape[0], left : left + below.shape[1]]

    def covered_by(self, sprite: _Sprite) -> NDArray[np.float64]:
        """For each earlier sprite, the share of its pixels that `sprite` would newly hide."""
        below, mask = self.window(sprite)
        owners = below[mask]
        counts = np.bincount(owners[owners >= 0], minlength=len(self.sprites))
        return counts / np.maximum(self.inside, 1)

    def visible(self) -> NDArray[np.float64]:
        """For each sprite, the visible share of its pixels within the picture."""
        counts = np.bincount(self.owner[self.owner >= 0], minlength=len(self.sprites))
        return counts / np.maximum(self.inside, 1)

    def paint(self, sprite: _Sprite, rng: np.random.Generator, owned: bool) -> None:
        """Composes the sprite with a soft shadow; `owned` sprites become objects."""
        _shadow(self.image, sprite, rng)
        self.image.paste(sprite.image, (sprite.x, sprite.y), sprite.image)
        below, mask = self.window(sprite)
        below[mask] = len(self.sprites) if owned else -2
        if owned:
            self.sprites.append(sprite)
            self.inside.append(int(mask.sum()))


def render_scene(plan: Plan) -> Scene:
    """The scene of `plan`, the same for the same plan.

    It holds at least three objects; one that finds no place that leaves all others recognisable is
    left away.
    """
    for attempt in range(20):
        rng = np.random.default_rng([*plan.seed, attempt])
        scene = _compose(plan, rng)
        if sum(not o.difficult for o in scene.objects) >= min(3, len(plan.labels)):
            return scene
    raise RuntimeError(f"no scene with three clear objects for {plan}: the picture is too small")


def _compose(plan: Plan, rng: np.random.Generator) -> Scene:
    image, horizon = backdrop(plan.theme, rng, plan.size)
    stage = _Stage(image)
    things = clutter(indoors=plan.theme == "room")
    for _ in range(int(rng.integers(1, 5))):
        sprite = _sprite(things[rng.integers(len(things))], rng.uniform(0.06, 0.26), plan.size, rng)
        _drop(sprite, plan.size, horizon, rng, truncate=bool(rng.random() < 0.2))
        stage.paint(sprite, rng, owned=False)
    fractions = np.sort(np.exp(rng.uniform(np.log(0.09), np.log(LARGEST), len(plan.labels))))
    # One huge object a scene is plenty: a second would hide it or be cut away.
    fractions[:-1] = np.minimum(fractions[:-1], rng.uniform(0.3, 0.5))
    sprites = []
    for label, fraction in zip(plan.labels, rng.permutation(fractions), strict=True):
        choice = drawings_of(label, plan.split)
        sprite = _sprite(choice[rng.integers(len(choice))], fraction, plan.size, rng)
        _drop(sprite, plan.size, horizon, rng, truncate=False)
        sprites.append(sprite)
    for sprite in sorted(sprites, key=lambda s: s.bottom):
        if _place(stage, sprite, plan.size, horizon, rng):
            stage.paint(sprite, rng, owned=True)
    for _ in range(int(rng.integers(0, 3))):
        sprite = _sprite(things[rng.integers(len(things))], rng.uniform(0.08, 0.2), plan.size, rng)
        for _ in range(12):
            _drop(sprite, plan.size, 0.8, rng, truncate=bool(rng.random() < 0.3))
            hidden = stage.covered_by(sprite)
            if np.all(hidden < 0.3) and np.all(stage.visible() - hidden > 0.45):
                stage.paint(sprite, rng, owned=False)
                break
    return Scene(
        image=_finish(stage.image, rng),
        objects=tuple(_annotate(stage, k, plan.size) for k in range(len(stage.sprites))),
        owner=stage.owner,
        quality=int(rng.integers(80, 96)),
    )


def _sprite(
    drawing: Drawing, fraction: float, size: tuple[int, int], rng: np.random.Generator
) -> _Sprite:
    """The drawing mirrored, turned, recoloured, its longer side `fraction` of the picture's."""
    wanted = fraction * max(size)
    base = next((side for side in _BASE_SIDES if side >= wanted), _BASE_SIDES[-1])
    image = rasterise(drawing, int(rng.integers(drawing.variants)), base)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    spread = rng.random()
    angle = rng.normal(0, 6) if spread < 0.7 else rng.uniform(-20, 20)
    if spread > 0.95:
        angle = rng.uniform(-45, 45)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    solid = image.getchannel("A").point(lambda a: 255 * (a >= _OPAQUE)).getbbox()
    image = image.crop(solid)
    scale = wanted / max(image.size)
    stretch = rng.uniform(0.93, 1.0, 2)
    shape = [max(2, round(s * scale * f)) for s, f in zip(image.size, stretch, strict=True)]
    image = image.resize((shape[0], shape[1]), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _recolour(image, _HUE_RANGE.get(drawing.label, 180), rng)
    return _Sprite(drawing, image, np.asarray(image.getchannel("A")) >= _OPAQUE)


def _recolour(image: Image.Image, hue_range: float, rng: np.random.Generator) -> Image.Image:
    """Hue turned about the grey axis, then saturation, contrast and brightness."""
    turn = np.deg2rad(rng.uniform(-hue_range, hue_range) if rng.random() < 0.65 else 0.0)
    c, s = np.cos(turn), np.sin(turn) / np.sqrt(3.0)
    third = (1 - c) / 3
    matrix = np.full((3, 3), third) + c * np.eye(3)
    matrix += s * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    saturation, gain = rng.uniform(0.75, 1.15), rng.uniform(0.8, 1.15)
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    matrix = gain * (saturation * matrix + (1 - saturation) * grey)
    rows = np.hstack([matrix, np.full((3, 1), rng.uniform(-12, 12))])
    colour = image.convert("RGB").convert("RGB", tuple(float(v) for v in rows.ravel()))
    colour.putalpha(image.getchannel("A"))
    return colour


def _drop(
    sprite: _Sprite,
    size: tuple[int, int],
    horizon: float,
    rng: np.random.Generator,
    truncate: bool,
) -> None:
    """A first position: on the ground, or in the air for what flies; past a border on request."""
    (w, h), (sh, sw) = size, sprite.mask.shape
    if sprite.drawing.label in _AIRBORNE and rng.random() < 0.75:
        base = rng.uniform(sh, max(sh + 1.0, 0.7 * h))
    else:
        base = rng.uniform(horizon * h + 0.03 * h, h)
    x, y = rng.uniform(0, max(1, w - sw)), min(max(base - sh, 0), h - sh)
    if truncate:
        past = rng.uniform(0.08, 0.5)
        border = rng.random()
        if border < 0.4:
            x = -past * sw
        elif border < 0.8:
            x = w - (1 - past) * sw
        else:
            y = h - (1 - past) * sh
    sprite.x, sprite.y = int(x), int(y)


def _place(
    stage: _Stage,
    sprite: _Sprite,
    size: tuple[int, int],
    horizon: float,
    rng: np.random.Generator,
) -> bool:
    """Finds the sprite a position that leaves the earlier ones recognisable; False if none is."""
    hide_one = bool(stage.sprites) and rng.random() < 0.36
    truncate = rng.random() < 0.14
    heavy = rng.random() < 0.06
    keep = 0.15 if heavy else 0.42
    visible = stage.visible()
    for attempt in range(90):
        if attempt in (45, 70):  # no room at this size: come smaller
            hide_one = False
            smaller = [max(2, round(s * 0.7)) for s in sprite.image.size]
            if max(smaller) >= 0.09 * max(size):
                sprite.image = sprite.image.resize((smaller[0], smaller[1]), reducing_gap=3.0)
                sprite.mask = np.asarray(sprite.image.getchannel("A")) >= _OPAQUE
        _drop(sprite, size, horizon, rng, bool(truncate))
        if hide_one and not truncate:
            _beside(sprite, stage.sprites[rng.integers(len(stage.sprites))], size, rng)
        hidden = stage.covered_by(sprite)
        if np.any((visible - hidden < keep) & (hidden > 0)):
            continue
        if hide_one and attempt < 40:
            if np.any((hidden > 0.13) & (hidden < (0.8 if heavy else 0.5))):
                return True
        elif np.all(hidden < 0.08):
            return True
    return False


def _beside(
    sprite: _Sprite, other: _Sprite, size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Moves the sprite next to `other`, a little nearer, so that it may hide a part of it."""
    (h, w), (oh, ow) = sprite.mask.shape, other.mask.shape
    x = other.x + ow / 2 + rng.uniform(-0.5, 0.5) * (ow + w) - w / 2
    y = other.bottom - h + rng.uniform(-0.1, 0.4) * min(oh, h)
    sprite.x = int(np.clip(x, 0, max(0, size[0] - w)))
    sprite.y = int(np.clip(y, 0, max(0, size[1] - h)))


def _shadow(image: Image.Image, sprite: _Sprite, rng: np.random.Generator) -> None:
    height, width = sprite.mask.shape
    soft = 1.0 + 0.02 * max(width, height)
    pad = int(3 * soft) + 1
    alpha = Image.new("L", (width + 2 * pad, height + 2 * pad))
    alpha.paste(sprite.image.getchannel("A"), (pad, pad))
    strength = rng.uniform(0.18, 0.42)
    alpha = alpha.filter(ImageFilter.BoxBlur(soft)).point(lambda a: int(a * strength))
    dx, dy = round(rng.uniform(-0.6, 0.6) * soft), round(rng.uniform(0.3, 1.6) * soft)
    image.paste((20, 22, 30), (sprite.x - pad + dx, sprite.y - pad + dy), alpha)


def _finish(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What a camera adds: light, a little blur, grain."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.85, 1.1))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.88, 1.08))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    grain = rng.standard_normal((image.height, image.width, 1), np.float32)
    light = np.asarray(image, np.float32) + np.float32(rng.uniform(1.0, 6.0)) * grain
    return Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))


def _annotate(stage: _Stage, k: int, size: tuple[int, int]) -> SceneObject:
    sprite, shown = stage.sprites[k], stage.owner == k
    columns, rows = np.flatnonzero(shown.any(0)), np.flatnonzero(shown.any(1))
    box = (int(columns[0]) + 1, int(rows[0]) + 1, int(columns[-1]) + 1, int(rows[-1]) + 1)
    all_pixels, count = int(sprite.mask.sum()), int(shown.sum())
    long_side = max(box[2] - box[0], box[3] - box[1]) + 1
    return SceneObject(
        drawing=sprite.drawing,
        box=box,
        truncated=stage.inside[k] < all_pixels,
        occluded=count <= (1 - OCCLUDED_FROM) * stage.inside[k],
        difficult=count < DIFFICULT_BELOW * all_pixels or long_side < SMALLEST * max(size),
    )
