"""Markdown of other people's names: escaped, so that nothing in them is markup, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from frostbox.errors import one_line

# What CommonMark, GitHub's tables and the hub's formulas give a meaning to anywhere in a line ("@"
# and "://" begin mentions and links), and what at its start alone.
_ACTIVE = re.compile(r"([\\`*_\[\]<|~$&@]|:(?=//))")
_AT_START = re.compile(r"^([#+=>-])")


def escaped(text: str) -> str:
    """A text on one line that shows as it is."""
    line = one_line(text)
    line = _AT_START.sub(r"\\\1", _ACTIVE.sub(r"\\\1", line))
    line = re.sub(r"(?i)\b(www)\.", r"\1\\.", line)  # such names become links
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table; the first `left` columns are text, the others numbers. Cells are Markdown."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
