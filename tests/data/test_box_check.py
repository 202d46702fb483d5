"""Boxes that do not fit: few are slips, many are another meaning of the numbers."""

from __future__ import annotations

import logging

import pytest

from frostbox.data.box_check import BoxCheck
from frostbox.errors import DataError

GOOD = (1.0, 1.0, 9.0, 9.0)
OUTSIDE = (8.0, 8.0, 30.0, 30.0)


def _closed(good: int, bad: int) -> tuple[str, ...]:
    check = BoxCheck("labels", "are they shares?")
    for k in range(good + bad):
        box = GOOD if k < good else OUTSIDE
        check.fit(box, (10, 10), f"line {k + 1}".format)
    return check.close()


@pytest.mark.parametrize(("good", "bad"), [(8, 1), (2, 1), (5, 4), (41, 4), (46, 5)])
def test_a_few_are_left_out_and_the_first_is_named(
    good: int, bad: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "frostbox"):
        words = _closed(good, bad)
    assert words == (f"{bad} boxes that lie mostly outside their images and are left out",)
    (message,) = (record.getMessage() for record in caplog.records)
    assert f"{bad} of {good + bad} boxes lie mostly outside" in message
    assert f"line {good + 1} is (8, 8, 30, 30) in an image of 10 x 10" in message


@pytest.mark.parametrize(("good", "bad"), [(0, 1), (1, 1), (0, 3), (4, 4), (40, 5), (6, 5)])
def test_half_of_them_or_more_than_a_few_and_a_tenth_are_refused(good: int, bad: int) -> None:
    with pytest.raises(DataError, match=f"labels: {bad} of {good + bad} boxes reach outside"):
        _closed(good, bad)


def test_nothing_to_say() -> None:
    assert _closed(0, 0) == _closed(9, 0) == ()
