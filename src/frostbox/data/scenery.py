"""Backdrops of the built-in data set: a meadow, a street, the sea, snow, a room, open sky.

Each is an SVG built from a random generator, so no two are alike, and holds nothing that belongs
to one of the classes. This file draws places; what stands in them is scenes.py's affair.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import resvg_py
from PIL import Image, ImageColor

THEMES: tuple[str, ...] = ("meadow", "street", "sea", "snow", "room", "sky")


def backdrop(
    theme: str, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[Image.Image, float]:
    """An empty place.

    Args:
        theme: one of `THEMES`.
        rng: consumed for colours and shapes.
        size: (width, height) in pixels.

    Returns:
        The RGB picture, and the height of its horizon (where ground begins) as a fraction of the
        picture, 0 at the top.
    """
    horizon = float(rng.uniform(0.3, 0.55))
    # Drawn on a canvas 480 units wide, so that strokes keep their weight at every size.
    width, height = 480.0, 480.0 * size[1] / size[0]
    body = _PAINTERS[theme](rng, width, height, horizon * height)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:.2f}" '
        f'preserveAspectRatio="none" width="{size[0]}" height="{size[1]}">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size[0], height=size[1], skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as opened:
        return opened.convert("RGB").resize(size), horizon


def _hsl(rng: np.random.Generator, hue: float, sat: float, light: float) -> str:
    """A colour near the given one: hue in degrees, the others in per cent."""
    h, s, v = hue + rng.uniform(-9, 9), sat + rng.uniform(-9, 9), light + rng.uniform(-6, 6)
    return f"hsl({h % 360:.0f},{np.clip(s, 0, 100):.0f}%,{np.clip(v, 3, 97):.0f}%)"


def _shade(x: float, y: float, w: float, h: float, top: str, bottom: str) -> str:
    """A rectangle that passes from one colour to the other, in steps that the grain will hide.

    An SVG gradient would be smoother, and takes resvg five times as long.
    """
    steps = max(4, round(h / 5))
    first, last = np.array(ImageColor.getrgb(top)), np.array(ImageColor.getrgb(bottom))
    parts = []
    for k in range(steps):
        r, g, b = np.rint(first + (last - first) * k / (steps - 1)).astype(int)
        # Each step reaches under the next, so that no seam shows between them.
        deep = h / steps + (1.5 if k < steps - 1 else 0)
        parts.append(_rect(x, y + h * k / steps, w, deep, f"rgb({r},{g},{b})"))
    return "".join(parts)


def _rect(x: float, y: float, w: float, h: float, fill: str, extra: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" {extra}/>'


def _ridge(rng: np.random.Generator, w: float, base: float, rise: float, fill: str) -> str:
    """A filled silhouette from the left border to the right one, its crest near base - rise."""
    n = int(rng.integers(3, 7))
    xs = np.linspace(-20, w + 20, n + 1)
    ys = base - rise * rng.uniform(0.15, 1.0, n + 1)
    path = f"M-20 {base + 400:.0f}L{xs[0]:.0f} {ys[0]:.0f}"
    for k in range(n):
        middle = (xs[k] + xs[k + 1]) / 2
        path += f"C{middle:.0f} {ys[k]:.0f} {middle:.0f} {ys[k + 1]:.0f} "
        path += f"{xs[k + 1]:.0f} {ys[k + 1]:.0f}"
    return f'<path d="{path}V{base + 400:.0f}Z" fill="{fill}"/>'


def _heavens(rng: np.random.Generator, w: float, down_to: float) -> str:
    """Sky with clouds and perhaps a sun; by day, at dusk, or under an overcast."""
    mood = rng.choice(["day", "day", "dusk", "grey"])
    top, low, cloud = {
        "day": (_hsl(rng, 208, 65, 60), _hsl(rng, 200, 65, 84), "#ffffff"),
        "dusk": (_hsl(rng, 250, 35, 45), _hsl(rng, 25, 80, 74), "#f7cdbd"),
        "grey": (_hsl(rng, 210, 16, 62), _hsl(rng, 205, 18, 82), "#eef1f3"),
    }[str(mood)]
    parts = [_shade(0, 0, w, down_to + 60, top, low)]
    if mood != "grey" and rng.random() < 0.6:
        x, y, r = rng.uniform(20, w - 20), rng.uniform(0.1, 0.7) * down_to, rng.uniform(12, 24)
        for scale, alpha in ((2.1, 0.18), (1.5, 0.25), (1.0, 0.95)):
            parts.append(
                f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{r * scale:.0f}" fill="#fff0b8" '
                f'opacity="{alpha}"/>'
            )
    for _ in range(int(rng.integers(2, 7))):
        x, y, s = rng.uniform(0, w), rng.uniform(0, 0.85) * down_to, rng.uniform(12, 34)
        puffs = "".join(
            f'<ellipse cx="{x + s * dx:.0f}" cy="{y + s * dy:.0f}" rx="{s * r:.0f}" '
            f'ry="{s * r * 0.62:.0f}"/>'
            for dx, dy, r in ((-0.9, 0.1, 0.7), (0, -0.2, 0.95), (0.9, 0.05, 0.75), (0.2, 0.2, 1.2))
        )
        parts.append(f'<g fill="{cloud}" opacity="{rng.uniform(0.45, 0.9):.2f}">{puffs}</g>')
    return "".join(parts)


def _tufts(rng: np.random.Generator, w: float, y0: float, y1: float, color: str, n: int) -> str:
    strokes = []
    for x, t in zip(rng.uniform(0, w, n), rng.random(n), strict=True):
        y, s = y0 + (y1 - y0) * t, 2 + 6 * t
        strokes.append(
            f"M{x:.0f} {y:.0f}l{-s * 0.5:.1f} {-s:.1f}M{x:.0f} {y:.0f}l0 {-s * 1.3:.1f}"
            f"M{x:.0f} {y:.0f}l{s * 0.5:.1f} {-s:.1f}"
        )
    return f'<path d="{"".join(strokes)}" stroke="{color}" stroke-width="1.2" opacity=".55"/>'


def _trees(rng: np.random.Generator, w: float, y: float, hue: float, pines: bool) -> str:
    parts = []
    for x in rng.uniform(0, w, int(rng.integers(3, 10))):
        s, leaf = rng.uniform(12, 34), _hsl(rng, hue, 38, 32)
        parts.append(_rect(x - s * 0.07, y - s * 0.6, s * 0.14, s * 0.7, _hsl(rng, 25, 35, 26)))
        if pines:
            for k in range(3):
                half, top = s * (0.26 + 0.1 * k), y - s * (1.5 - 0.4 * k)
                parts.append(
                    f'<path d="M{x:.0f} {top:.0f}l{half:.0f} {s * 0.6:.0f}h{-2 * half:.0f}z" '
                    f'fill="{leaf}"/>'
                )
        else:
            for dx, dy, r in ((0, -1.1, 0.5), (-0.3, -0.8, 0.38), (0.32, -0.82, 0.38)):
                parts.append(
                    f'<circle cx="{x + dx * s:.0f}" cy="{y + dy * s:.0f}" r="{r * s:.0f}" '
                    f'fill="{leaf}"/>'
                )
    return "".join(parts)


def _meadow(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    hue = float(rng.choice([95, 110, 75, 48]))
    parts = [_heavens(rng, w, horizon)]
    for k in range(2):
        hill = _hsl(rng, hue + 25, 22, 62 - 10 * k)
        parts.append(_ridge(rng, w, horizon + 8 * k, 70 - 30 * k, hill))
    parts.append(_trees(rng, w, horizon + 6, hue, bool(rng.random() < 0.5)))
    far, near = _hsl(rng, hue, 42, 58), _hsl(rng, hue, 46, 38)
    parts.append(_ridge(rng, w, horizon + 12, 10, far))
    parts.append(_shade(0, horizon + 12, w, h - horizon - 12, far, near))
    if rng.random() < 0.45:
        y, wood = horizon + 26, _hsl(rng, 30, 30, 50)
        parts += [_rect(x, y - 16, 4, 24, wood) for x in range(8, int(w), 38)]
        parts += [_rect(0, y - 12, w, 3, wood), _rect(0, y - 2, w, 3, wood)]
    if rng.random() < 0.5:
        x0, x1 = rng.uniform(0.2, 0.8, 2) * w
        parts.append(
            f'<path d="M{x0 - 5:.0f} {horizon + 14:.0f}Q{w / 2:.0f} {(horizon + h) / 2:.0f} '
            f"{x1 - 60:.0f} {h:.0f}H{x1 + 70:.0f}Q{w / 2 + 60:.0f} {(horizon + h) / 2:.0f} "
            f'{x0 + 5:.0f} {horizon + 14:.0f}Z" fill="{_hsl(rng, 38, 35, 66)}"/>'
        )
    parts.append(_tufts(rng, w, horizon + 30, h, _hsl(rng, hue, 45, 26), 90))
    for x, y in zip(rng.uniform(0, w, 26), rng.uniform(horizon + 35, h, 26), strict=True):
        bloom = _hsl(rng, float(rng.choice([0, 50, 290, 330])), 75, 75)
        parts.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{rng.uniform(1, 2.6):.1f}" fill="{bloom}"/>'
        )
    return "".join(parts)


def _street(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    parts = [_heavens(rng, w, horizon)]
    x = -rng.uniform(0, 40)
    while x < w:
        wide, tall = rng.uniform(46, 110), rng.uniform(0.45, 1.25) * horizon
        wall = _hsl(rng, float(rng.choice([8, 28, 40, 205, 220, 350])), 24, rng.uniform(42, 74))
        glass = _hsl(rng, float(rng.choice([205, 205, 48])), 45, rng.uniform(45, 78))
        y = horizon + 10 - tall
        parts.append(_rect(x, y, wide, tall, wall))
        if rng.random() < 0.4:
            roof = _hsl(rng, 12, 40, 40)
            parts.append(
                f'<path d="M{x - 4:.0f} {y:.0f}l{wide / 2 + 4:.0f} -22l{wide / 2 + 4:.0f} 22z" '
                f'fill="{roof}"/>'
            )
        step = rng.uniform(15, 24)
        for wy in np.arange(y + 8, horizon - 14, step * 1.15):
            for wx in np.arange(x + 7, x + wide - 11, step):
                parts.append(_rect(wx, wy, step * 0.5, step * 0.66, glass))
        x += wide + rng.choice([0, 0, 6])
    walk, road = _hsl(rng, 35, 8, 70), rng.uniform(24, 48)
    parts.append(_rect(0, horizon + 8, w, h, walk))
    slabs = "".join(f"M{sx:.0f} {horizon + 8:.0f}l-8 {road:.0f}" for sx in range(0, 520, 26))
    parts.append(f'<path d="{slabs}" stroke="#00000022" stroke-width="1"/>')
    edge = horizon + 8 + road
    top, low = _hsl(rng, 220, 6, 40), _hsl(rng, 220, 6, 30)
    parts.append(_shade(0, edge, w, h - edge, top, low))
    parts.append(_rect(0, edge, w, 4, "#d8d4cc"))
    lane, shift = edge + (h - edge) * rng.uniform(0.35, 0.6), rng.uniform(-60, 0)
    parts += [_rect(shift + k * 70, lane, 40, 5, "#e9e4cf") for k in range(9)]
    if rng.random() < 0.35:
        at = rng.uniform(40, 380)
        parts += [_rect(at + k * 16, edge + 8, 9, h, "#e6e4dc", 'opacity=".8"') for k in range(5)]
    for _ in range(int(rng.integers(0, 3))):
        lx = rng.uniform(10, w - 10)
        parts.append(_rect(lx, horizon - 70, 3, 90, "#4c545b"))
        parts.append(
            f'<path d="M{lx:.0f} {horizon - 70:.0f}q12 -12 24 0" fill="none" '
            'stroke="#4c545b" stroke-width="3"/>'
        )
    return "".join(parts)


def _sea(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    hue = float(rng.choice([195, 208, 178]))
    parts = [_heavens(rng, w, horizon)]
    if rng.random() < 0.6:
        parts.append(_ridge(rng, w, horizon + 4, rng.uniform(15, 55), _hsl(rng, 150, 18, 58)))
    far, near = _hsl(rng, hue, 48, 64), _hsl(rng, hue, 55, 40)
    parts.append(_shade(0, horizon, w, h - horizon, far, near))
    waves = []
    for x, t in zip(rng.uniform(-20, w, 70), rng.random(70), strict=True):
        s, y = 8 + 26 * t, horizon + 5 + (h - horizon) * t
        waves.append(f"M{x:.0f} {y:.0f}q{s / 2:.0f} {-s / 6:.1f} {s:.0f} 0")
    parts.append(
        f'<path d="{"".join(waves)}" fill="none" stroke="#fff" stroke-width="1.6" '
        'stroke-linecap="round" opacity=".45"/>'
    )
    if rng.random() < 0.5:
        parts.append(_ridge(rng, w, h - 8, rng.uniform(25, 60), _hsl(rng, 42, 50, 76)))
    return "".join(parts)


def _snow(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    parts = [_heavens(rng, w, horizon)]
    for x in rng.uniform(0, w, int(rng.integers(2, 6))):
        tall, half = rng.uniform(40, 110), rng.uniform(50, 110)
        y = horizon + 10
        rock = _hsl(rng, 215, 18, rng.uniform(50, 66))
        parts.append(
            f'<path d="M{x - half:.0f} {y:.0f}L{x:.0f} {y - tall:.0f}L{x + half:.0f} '
            f'{y:.0f}Z" fill="{rock}"/>'
        )
        cap = 0.36
        parts.append(
            f'<path d="M{x - half * cap:.0f} {y - tall * (1 - cap):.0f}L{x:.0f} {y - tall:.0f}'
            f"L{x + half * cap:.0f} {y - tall * (1 - cap):.0f}l{-half * cap * 0.7:.0f} -6"
            f'l{-half * cap * 0.5:.0f} 9z" fill="#f7fafc"/>'
        )
    parts.append(_trees(rng, w, horizon + 10, 150, True))
    far, near = _hsl(rng, 210, 30, 94), _hsl(rng, 214, 32, 80)
    parts.append(_ridge(rng, w, horizon + 14, 14, far))
    parts.append(_shade(0, horizon + 14, w, h - horizon - 14, far, near))
    parts.append(_ridge(rng, w, horizon + (h - horizon) * 0.6, 24, "#ffffff66"))
    for x, y in zip(rng.uniform(0, w, 70), rng.uniform(0, h, 70), strict=True):
        parts.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{rng.uniform(0.7, 2.2):.1f}" '
            'fill="#fff" opacity=".85"/>'
        )
    return "".join(parts)


def _room(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    floor_y = horizon + (h - horizon) * 0.3
    hue = float(rng.choice([32, 45, 95, 185, 210, 340, 15]))
    wall = _hsl(rng, hue, 26, rng.uniform(62, 84))
    parts = [_rect(0, 0, w, h, wall)]
    paper = str(rng.choice(["plain", "stripes", "dots", "panel"]))
    tint = _hsl(rng, hue, 32, 58)
    if paper == "stripes":
        parts += [_rect(x, 0, 9, floor_y, tint, 'opacity=".3"') for x in range(4, 480, 24)]
    if paper == "dots":
        parts += [
            f'<circle cx="{x + (y // 22 % 2) * 12}" cy="{y}" r="3" fill="{tint}" opacity=".4"/>'
            for y in range(8, int(floor_y), 22)
            for x in range(6, 490, 24)
        ]
    if paper == "panel":
        parts.append(_rect(0, floor_y * 0.62, w, floor_y * 0.38, tint, 'opacity=".5"'))
        parts.append(_rect(0, floor_y * 0.6, w, 5, "#f5efe4"))
    if rng.random() < 0.75:
        x, ww, hh = rng.uniform(20, 330), rng.uniform(80, 130), rng.uniform(0.4, 0.62) * floor_y
        y = rng.uniform(0.06, 0.16) * floor_y
        parts += [
            _rect(x - 6, y - 6, ww + 12, hh + 12, "#f6f2ea"),
            _shade(x, y, ww, hh, _hsl(rng, 205, 60, 70), _hsl(rng, 195, 50, 88)),
            _rect(x, y + hh * 0.75, ww, hh * 0.25, _hsl(rng, 110, 35, 55)),
            _rect(x + ww / 2 - 2.5, y, 5, hh, "#f6f2ea"),
            _rect(x, y + hh / 2 - 2.5, ww, 5, "#f6f2ea"),
            _rect(x - 12, y + hh + 6, ww + 24, 7, "#e6dfd2"),
        ]
        drape = _hsl(rng, float(rng.uniform(0, 360)), 40, 55)
        parts += [
            _rect(x - 22, y - 12, 24, hh + 34, drape, 'opacity=".9"'),
            _rect(x + ww - 2, y - 12, 24, hh + 34, drape, 'opacity=".9"'),
        ]
    for _ in range(int(rng.integers(0, 4))):
        x, y, s = rng.uniform(0, 430), rng.uniform(5, floor_y * 0.45), rng.uniform(24, 56)
        parts += [
            _rect(x - 4, y - 4, s + 8, s * 0.8 + 8, _hsl(rng, 30, 40, 32)),
            _rect(x, y, s, s * 0.8, _hsl(rng, float(rng.uniform(0, 360)), 40, 72)),
            f'<path d="M{x:.0f} {y + s * 0.8:.0f}l{s * 0.4:.0f} {-s * 0.45:.0f} '
            f"{s * 0.25:.0f} {s * 0.2:.0f} {s * 0.15:.0f} {-s * 0.15:.0f} {s * 0.2:.0f} "
            f'{s * 0.4:.0f}z" fill="{_hsl(rng, float(rng.uniform(0, 360)), 40, 48)}"/>',
        ]
    ground = float(rng.choice([28, 24, 35, 210]))
    far, near = _hsl(rng, ground, 32, 58), _hsl(rng, ground, 34, 42)
    parts.append(_shade(0, floor_y, w, h - floor_y, far, near))
    parts.append(_rect(0, floor_y - 8, w, 8, "#f4efe6"))
    vanish = rng.uniform(0.3, 0.7) * w
    planks = "".join(
        f"M{vanish + (k - 12) * 22:.0f} {floor_y:.0f}L{vanish + (k - 12) * 75:.0f} {h:.0f}"
        for k in range(25)
    )
    parts.append(f'<path d="{planks}" stroke="#00000030" stroke-width="1.3"/>')
    if rng.random() < 0.6:
        rug = _hsl(rng, float(rng.uniform(0, 360)), 38, 56)
        cx, cy = rng.uniform(0.3, 0.7) * w, floor_y + (h - floor_y) * 0.55
        rx, ry = rng.uniform(90, 180), (h - floor_y) * 0.34
        for scale, color in ((1.0, rug), (0.86, "#f4ecdc"), (0.8, rug)):
            parts.append(
                f'<ellipse cx="{cx:.0f}" cy="{cy:.0f}" rx="{rx * scale:.0f}" '
                f'ry="{ry * scale:.0f}" fill="{color}"/>'
            )
    return "".join(parts)


def _sky(rng: np.random.Generator, w: float, h: float, horizon: float) -> str:
    parts = [_heavens(rng, w, h * 0.8)]
    low = h * 0.8
    parts.append(_ridge(rng, w, low, 30, _hsl(rng, 210, 20, 66)))
    parts.append(_rect(0, low, w, h, _hsl(rng, 95, 30, 48)))
    if rng.random() < 0.6:
        parts.append(
            f'<path d="M{w * 0.4:.0f} {low + 4:.0f}H{w * 0.6:.0f}L{w * 0.9:.0f} {h:.0f}'
            f'H{w * 0.1:.0f}Z" fill="#6a6f75"/>'
        )
        for k in range(4):
            y = low + 8 + 16 * k
            parts.append(_rect(w / 2 - 2 - k, y, 4 + 2 * k, 8 + k * 2, "#f1efe6"))
    return "".join(parts)


_PAINTERS: dict[str, Callable[[np.random.Generator, float, float, float], str]] = {
    "meadow": _meadow,
    "street": _street,
    "sea": _sea,
    "snow": _snow,
    "room": _room,
    "sky": _sky,
}
