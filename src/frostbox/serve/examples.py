"""Pictures that the page offers to try, kept in memory: no file is read while it is served."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from frostbox.data.voc import CLASSES
from frostbox.errors import SettingsError
from frostbox.inputs import SUFFIXES, find_images
from frostbox.serve.limits import Limits, Refused
from frostbox.serve.pictures import check

MOST = 6
_DRAWN = 3
_SIZE = (480, 360)


@dataclass(frozen=True)
class Example:
    """A picture's file: its name for people, its bytes, and what it is."""

    name: str
    body: bytes
    media_type: str


def find_examples(
    model: Path, classes: Sequence[str], given: Sequence[str], limits: Limits
) -> list[Example]:
    """At most six pictures: those that were given, else those in `examples` beside the model, else
    drawn scenes with the classes that the detector shares with the built-in data set.

    Args:
        model: the detector's file, or the folder of its run.
        classes: of the detector.
        given: files, folders or patterns.

    Raises:
        NotFoundError: what was given does not exist.
        SettingsError: a picture that the server itself would not take.
    """
    folder = (model if model.is_dir() else model.parent) / "examples"
    beside = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    paths = find_images(given) if given else beside
    return [_read(path, limits) for path in paths[:MOST]] or _drawn(classes)


def _read(path: Path, limits: Limits) -> Example:
    body = path.read_bytes()
    try:
        check(body, limits)
        if len(body) > limits.max_body:
            raise Refused(413, "The file is larger than the body that is taken.")
    except Refused as refusal:
        raise SettingsError(f"{path} is no example for the page: {refusal}") from refusal
    with Image.open(io.BytesIO(body)) as image:
        return Example(path.name, body, image.get_format_mimetype() or "image/jpeg")


def _drawn(classes: Sequence[str]) -> list[Example]:
    from frostbox.data.sample import plan_scenes
    from frostbox.data.scenes import render_scene

    shared = [name for name in CLASSES if name in classes]
    if not shared:
        return []
    found = []
    for number, plan in enumerate(plan_scenes(0, _DRAWN, 0, _SIZE, shared), start=1):
        scene, file = render_scene(plan), io.BytesIO()
        scene.image.save(file, "JPEG", quality=scene.quality)
        found.append(Example(f"drawing-{number}.jpg", file.getvalue(), "image/jpeg"))
    return found
