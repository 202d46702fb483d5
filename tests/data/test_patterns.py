"""Co-occurrence and heat maps of a data set made by hand."""

from __future__ import annotations

import json

from frostbox.data.patterns import patterns
from frostbox.data.voc import read_voc
from tests.conftest import TinyVoc

CLASSES = ["cat", "dog", "cow"]


def test_what_lies_together(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(
        {
            "a": [("dog", (1, 1, 9, 9)), ("dog", (5, 5, 20, 20)), ("cat", (2, 2, 30, 30))],
            "b": [("dog", (1, 1, 9, 9))],
            "c": [],
        },
        splits={"train": "abc"},
    )
    # Two images with a dog, of which one holds two dogs and a cat.
    assert patterns(read_voc(root, "train", CLASSES))["cooccurrence"] == [
        [0, 1, 0],
        [1, 1, 0],
        [0, 0, 0],
    ]


def test_where_centres_lie(tiny_voc: TinyVoc) -> None:
    # The image is 60 x 40. A raw box 1..30 is 0..30: its centre is at 1/4 of the width.
    root = tiny_voc(
        {"a": [("cat", (1, 1, 30, 20)), ("dog", (31, 1, 60, 40)), ("dog", (51, 31, 60, 40))]},
        splits={"train": "a"},
    )
    found = patterns(read_voc(root, "train", CLASSES), cells=2)["centres"]
    assert list(found) == CLASSES
    assert found["cat"] == [[1, 0], [0, 0]]
    assert found["dog"] == [[0, 0], [0, 2]]
    assert found["cow"] == [[0, 0], [0, 0]]


def test_a_split_without_objects(tiny_voc: TinyVoc) -> None:
    found = patterns(read_voc(tiny_voc({"a": []}), "train", CLASSES))
    assert json.loads(json.dumps(found)) == found
    assert found["anchors"] == []
    assert found["cooccurrence"] == [[0] * 3] * 3
    assert sum(map(sum, found["centres"]["cat"])) == 0
