"""Tiles cover the picture, and what several of them see is found once."""

from __future__ import annotations

import numpy as np
import pytest

from frostbox.detections import Detections
from frostbox.tiles import OVERLAP, merge, tile_rectangles

WHOLE = (0, 0, 300, 100)
LEFT, RIGHT = (0, 0, 100, 100), (75, 0, 175, 100)


def found(size: tuple[int, int], *rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections.create(
        [box for box, *_ in rows],
        [score for _, score, _ in rows],
        [label for *_, label in rows],
        ("cat", "dog"),
        size,
    )


NOTHING, TILE = found((300, 100)), (100, 100)


@pytest.mark.parametrize("size", [(1000, 700), (321, 320), (641, 100), (320, 5000)])
def test_tiles_cover_the_picture_and_overlap(size):
    tiles = tile_rectangles(size, (320, 320))
    covered = np.zeros(size[::-1], dtype=int)
    for x1, y1, x2, y2 in tiles:
        assert (x2 - x1, y2 - y1) == (min(320, size[0]), min(320, size[1]))
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in tiles})
        assert starts[0] == 0
        assert starts[-1] == max(0, size[axis] - 320)
        assert all(np.diff(starts) <= round((1 - OVERLAP) * 320))
    assert len(tiles) == len(set(tiles))


def test_a_picture_of_the_size_of_a_tile_has_none():
    assert tile_rectangles((320, 200), (320, 320)) == []


def test_what_two_tiles_and_the_whole_see_is_one_object():
    merged = merge(
        [
            found((300, 100), ((80, 20, 99, 40), 0.5, 0)),
            found(TILE, ((80, 20, 97, 40), 0.7, 0)),
            found(TILE, ((5, 20, 23, 40), 0.9, 0), ((60, 60, 80, 80), 0.6, 1)),
        ],
        [WHOLE, LEFT, RIGHT],
        0.5,
    )
    assert merged.boxes.tolist() == [[80, 20, 98, 40], [135, 60, 155, 80]]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.6])
    assert merged.image_size == (300, 100)


def test_a_cut_part_gives_way_to_the_whole_object_whatever_its_score():
    parts = [found(TILE, ((60, 10, 100, 90), 0.95, 0)), found(TILE, ((0, 10, 60, 90), 0.9, 0))]
    merged = merge(
        [found((300, 100), ((58, 8, 136, 92), 0.4, 0)), *parts], [WHOLE, LEFT, RIGHT], 0.5
    )
    assert merged.boxes.tolist() == [[58, 8, 136, 92]]
    other = merge(
        [found((300, 100), ((58, 8, 136, 92), 0.4, 1)), *parts], [WHOLE, LEFT, RIGHT], 0.5
    )
    assert other.labels.tolist() == [0, 1]  # of another class, it is another object


def test_parts_of_an_object_that_nothing_sees_whole_stay_once():
    parts = [found(TILE, ((60, 10, 100, 90), 0.7, 0)), found(TILE, ((0, 10, 60, 90), 0.9, 0))]
    merged = merge([NOTHING, *parts], [WHOLE, LEFT, RIGHT], 0.5)
    assert merged.boxes.tolist() == [[75, 10, 135, 90]]


def test_a_box_at_the_border_of_the_picture_is_whole():
    merged = merge(
        [
            found((300, 100), ((0, 30, 40, 100), 0.3, 0)),
            found(TILE, ((0, 30, 40, 100), 0.9, 0), ((0, 0, 20, 20), 0.8, 0)),
        ],
        [WHOLE, LEFT],
        0.5,
    )
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])


def test_without_nms_everything_stays():
    twice = found((300, 100), ((80, 20, 99, 40), 0.5, 0)), found(TILE, ((80, 20, 99, 40), 0.7, 0))
    assert len(merge(list(twice), [WHOLE, LEFT], None)) == 2
