"""Valid documents, changed in a few places: what a reader gets of them passes its first line.

All draws come from one `random.Random`, so that a seed and a number are an input.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Tree = Any
"""What JSON holds."""

_NUMBERS: Sequence[Any] = (
    0, 1, -1, 2, 3, 7, 63, 64, 65, 255, 256, 2**31, 2**63, 10**9, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5,
    -0.5, 1e-320, 1e308, -1e308, 1e18, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
_TEXTS: Sequence[str] = (
    "", " ", "0", "1", "1.0", "-1", "nan", "inf", "1e999", "1_000", "\u0661", "true", "None", "a",
    "b", "dog", "a.jpg", "../a.jpg", "../../secret.jpg", "/etc/passwd", "C:\\a.jpg", "..\\a.jpg",
    "a/./b.jpg", "file:///a.jpg", "~", ".", "..", "/", "\\", "a\0b", "a\nb", "\x1b[2J", "\ud800",
    "\udce9", "\u202e", "\u2028", "x" * 300, "x" * 5000, "<script>alert(1)</script>", "%s%n",
    "${x}", "{0}", "=1+1", "'", '"', "&e;", "a" + "/a" * 600,
)  # fmt: skip
_OTHERS: Sequence[Any] = (
    None, True, False, [], {}, [[]], [{}], {"a": 1}, [0, 0, 1, 1], [1, 2, 3], ["a"], [None] * 4,
)  # fmt: skip


def odd_value(draw: Random) -> Any:
    """A value that few think of."""
    if draw.random() < 0.03:
        return _nested(draw.randrange(60))
    return copy.deepcopy(draw.choice(draw.choice((_NUMBERS, _TEXTS, _OTHERS))))


def _nested(depth: int) -> Any:
    value: Any = 1
    for k in range(depth):
        value = [value] if k % 3 else {"a": value}
    return value


def near(value: Any, draw: Random) -> Any:
    """A value of the same kind, close by."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw.choice((-2, -1, 1, 2, 10))
    if isinstance(value, float):
        return value * draw.choice((0.5, 0.99, 1.01, 2.0, -1.0))
    if isinstance(value, str) and value:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(("", "x", "/", ".", " ", value)) + value[at + 1 :]
    return odd_value(draw)


def changed(tree: Tree, draw: Random, most: int = 3) -> Tree:
    """The document with up to `most` changes; one time in eight with none."""
    tree = copy.deepcopy(tree)
    if draw.random() < 0.125:
        return tree
    for _ in range(draw.randint(1, most)):
        places = list(_places(tree))
        if not places:
            break
        holder, key = draw.choice(places)
        draw.choice(_CHANGES)(holder, key, draw, places)
    return tree


def _places(tree: Tree) -> Any:
    stack = [tree]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)) and len(stack) < 2000:
                stack.append(holder[key])


def _replace(holder: Any, key: Any, draw: Random, _: Any) -> None:
    holder[key] = odd_value(draw)


def _shift(holder: Any, key: Any, draw: Random, _: Any) -> None:
    holder[key] = near(holder[key], draw)


def _remove(holder: Any, key: Any, draw: Random, _: Any) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any, draw: Random, _: Any) -> None:
    if isinstance(holder, list):
        holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[str(odd_value(draw))[:50]] = copy.deepcopy(holder[key])


def _swap(holder: Any, key: Any, draw: Random, places: Any) -> None:
    other, there = draw.choice(places)
    if isinstance(other, dict) == isinstance(other, list):
        return
    inside = there in other if isinstance(other, dict) else there < len(other)
    if inside:
        holder[key] = copy.deepcopy(other[there])


_CHANGES: Sequence[Callable[[Any, Any, Random, Any], None]] = (
    _replace, _replace, _shift, _shift, _shift, _remove, _repeat, _swap,
)  # fmt: skip


def as_json(tree: Tree, draw: Random) -> bytes:
    """The document as text; now and then with a key twice, or with bytes that are changed."""
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.02:
        text = text.replace("{", '{"id": 1, "id": 2, ', 1)
    if draw.random() < 0.02:
        # Around the depth that Python's reader takes, which what is made of it may exceed.
        depth = draw.choice((200, 600, 900, 950, 960, 970, 980, 990, 1000, 100_000))
        text = text.replace("1", "[" * depth + "]" * depth, 1)
    content = text.encode("utf-8", "surrogatepass")
    return scrambled(content, draw) if draw.random() < 0.08 else content


def scrambled(content: bytes, draw: Random) -> bytes:
    """Bytes of which some are changed, left out, repeated, or cut off."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        if not found:
            break
        at = draw.randrange(len(found))
        kind = draw.randrange(6)
        if kind == 0:
            found[at] = draw.randrange(256)
        elif kind == 1:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del found[at : at + draw.randint(1, 16)]
        elif kind == 3:
            found[at:at] = found[at : at + draw.randint(1, 64)]
        elif kind == 4:
            odd = draw.choice(
                (b"\xff" * 4, b"\0" * 8, b"\x7f\xff\xff\xff", b"\xff\xd8", b"[" * 3000)
            )
            found[at : at + len(odd)] = odd
        else:
            del found[at:]
    return bytes(found)
