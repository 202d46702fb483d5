"""From the text of an option to its value; SettingsError says what is wrong with the text."""

from __future__ import annotations

import json
import re
from typing import Any

from frostbox.errors import SettingsError


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """'dog, cat' as a tuple of names; None for nothing."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None


def parse_renames(pairs: list[str] | None) -> dict[str, str]:
    """['dog=animal,cat=animal', 'tvmonitor=tv'] as {old: new}; {} for nothing."""
    found: dict[str, str] = {}
    for pair in (pair for text in pairs or () for pair in text.split(",")):
        old, equals, new = (part.strip() for part in pair.partition("="))
        if not (old and equals and new):
            raise SettingsError(f"--map {pair.strip()!r}: give OLD=NEW, such as dog=animal")
        if found.get(old, new) != new:
            raise SettingsError(f"--map gives {old!r} two names, {found[old]!r} and {new!r}")
        found[old] = new
    return found


def parse_size(text: str) -> tuple[int, int]:
    """'224' or '320x240' as (width, height)."""
    parts = text.lower().split("x")
    try:
        width, height = (int(parts[0]), int(parts[-1]))
    except ValueError:
        width = height = 0
    if len(parts) > 2 or min(width, height) < 32:
        raise SettingsError(
            f"size is '{text}': give pixels as 224 or as WIDTHxHEIGHT, each at least 32"
        )
    return width, height


_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}


def parse_time(text: str | None) -> float | None:
    """'10min', '2h', '90s' or '1h30min' as seconds; None for nothing."""
    if text is None:
        return None
    compact = text.replace(" ", "").lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)(sec|s|min|m|h)", compact)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not seconds or "".join(number + unit for number, unit in parts) != compact:
        raise SettingsError(f"budget is '{text}': give a time such as 10min, 2h or 1h30min")
    return seconds


def parse_counts(text: str, name: str) -> tuple[int, ...]:
    """'8,16,32' as a tuple; `name` is that of the option."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise SettingsError(f"{name} is '{text}': give numbers above 0 such as 8,16,32")
    return counts


Suppressing = dict[str, float | str | bool | None]


def parse_nms(text: str | None, suppression: str | None = None, flip: bool = False) -> Suppressing:
    """The settings of what is suppressed that are given: {} for the model's own."""
    chosen: Suppressing = {"flip": True} if flip else {}
    if "none" in (text, suppression):
        return {**chosen, "nms": None}
    if suppression is not None:
        chosen["suppression"] = suppression
    if text is None:
        return chosen
    try:
        return {**chosen, "nms": float(text)}
    except ValueError as error:
        raise SettingsError(f"nms is '{text}': give an IoU such as 0.5, or none") from error


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; values are read as JSON where they are, else as text."""
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: give NAME=VALUE, such as --set pooled=true")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values
