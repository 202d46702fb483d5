"""A data set in which nothing is wrong, into which each test plants one fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RawObject, TinyVoc

HEALTHY: dict[str, list[RawObject]] = {
    "a": [("dog", (5, 6, 30, 35)), ("person", (31, 2, 60, 40))],
    "b": [("person", (10, 10, 50, 30)), ("dog", (1, 1, 8, 9))],
    "c": [("person", (2, 2, 58, 30)), ("dog", (20, 31, 40, 40))],
    "d": [("dog", (20, 5, 40, 25)), ("person", (2, 20, 12, 39))],
}


@pytest.fixture
def healthy(tiny_voc: TinyVoc) -> Path:
    """The VOC folder; train has a and b, val c and d; photos of 60 x 40 pixels."""
    return tiny_voc(HEALTHY)
