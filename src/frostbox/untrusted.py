"""Reading what strangers wrote: JSON whatever stands in it, names, and values for a message.

Python's own JSON reader raises three unrelated errors on a file that means harm; messages that
repeat a value must not grow with it.
"""

from __future__ import annotations

import json
import reprlib
import unicodedata
from collections.abc import Callable
from typing import Any

Hook = Callable[[list[tuple[str, Any]]], Any]

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxlist, _SHOWN.maxdict = 3, 8, 8
_SHOWN.maxstring, _SHOWN.maxlong, _SHOWN.maxother = 120, 60, 120


class Repeated(ValueError):
    """A key stands twice in one object, of which readers would take the last."""


def parse_json(text: str | bytes, pairs: Hook | None = None) -> Any:
    """The value in a text.

    Args:
        text: bytes are UTF-8, as all JSON of frostbox is; a byte order mark is left out.
        pairs: makes of the (key, value) pairs of an object what stands in its place.

    Raises:
        ValueError: it is no JSON, no UTF-8, nested too deeply, or has a number of thousands of
            digits.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply in it") from None
    except ValueError as error:
        if isinstance(error, (json.JSONDecodeError, Repeated)) or "digits" not in str(error):
            raise
        # Python's own words speak of a setting of Python.
        raise ValueError("a number in it has thousands of digits") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `parse_json`. Raises Repeated for a key that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise Repeated(f"an object in it has the key {shown(twice)} twice")
    return found


def is_plain(name: str) -> bool:
    """Whether a name is free of control characters, other ends of lines and halves of letters."""
    return name.isprintable() or not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name
    )


def shown(value: Any) -> str:
    """A value for a message, as `repr` gives it, but never long and never deep."""
    return _SHOWN.repr(value)
