"""Tiles cover the picture, and what several of them see is found once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from frostbox.data.transforms import apply_image, geometry
from frostbox.detections import Detections
from frostbox.errors import DataError
from frostbox.selection import Selection, Settings
from frostbox.sources import pixels
from frostbox.tiles import OVERLAP, merge, predict_tiled, tile_rectangles

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


class Reds:
    """Stands for a detector: finds red things that have six pixels a side at its input's size."""

    settings = Settings(("red",), (160, 160), "shrink", Selection())

    def predict(self, pictures: Sequence[Any], **_: Any) -> list[Detections]:
        return [self.look(*pixels(picture)) for picture in pictures]

    def look(self, picture: Any, size: tuple[int, int]) -> Detections:
        small = apply_image(picture, geometry("shrink", size, self.settings.size)).numpy()
        parts, _ = ndimage.label((small[0] > 150) & (small[1] < 90))
        scale = np.divide(size, self.settings.size)
        boxes = [
            np.array([x.start, y.start, x.stop, y.stop]) * np.tile(scale, 2)
            for y, x in ndimage.find_objects(parts)
            if min(y.stop - y.start, x.stop - x.start) >= 6
        ]
        return Detections.create(boxes, [0.9] * len(boxes), [0] * len(boxes), ("red",), size)


def scene() -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """A drawn picture of 1600 x 1200 with 24 small things and a large one."""
    rng = np.random.default_rng(3)
    picture = np.full((1200, 1600, 3), 120, dtype=np.uint8)
    boxes = [(350, 20, 1250, 420)]
    for k in range(24):
        x, y = 40 + k % 8 * 195 + int(rng.integers(0, 120)), 460 + k // 8 * 240
        y += int(rng.integers(0, 150))
        width, height = rng.integers(14, 39, 2).tolist()
        boxes.append((x, y, x + width, y + height))
    for x1, y1, x2, y2 in boxes:
        picture[y1:y2, x1:x2] = (210, 40, 40)
    return picture, boxes


def test_in_a_drawn_scene_tiles_find_every_small_thing_once_and_the_large_one():
    picture, boxes = scene()
    plain = Reds().predict([picture])[0]
    assert len(plain) == 1  # the large one
    [(row, tiled)] = predict_tiled(Reds(), [picture])
    assert (row, tiled.image_size) == (0, (1600, 1200))
    found = sorted(tiled.boxes.tolist())
    assert len(found) == len(boxes)
    for box, true in zip(found, sorted(boxes), strict=True):
        assert box == pytest.approx(true, abs=12 if true[2] - true[0] > 300 else 1.5)


def test_a_picture_that_is_broken_is_left_out(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    small = np.full((100, 100, 3), 120, dtype=np.uint8)
    found = list(predict_tiled(Reds(), [tmp_path / "broken.jpg", small], skip=True))
    assert [(row, len(detections)) for row, detections in found] == [(1, 0)]
    with pytest.raises(DataError, match=r"broken.jpg"):
        list(predict_tiled(Reds(), [tmp_path / "broken.jpg", small]))
