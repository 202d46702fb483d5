"""What evaluation says where there is nothing to predict on."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from frostbox.errors import DataError
from frostbox.evaluation import predict_photos
from tests.scored import dataset


def test_a_split_without_photos_is_told_where_they_belong():
    gone = dataset({"000005": [], "000006": []}, photo=None)
    with pytest.raises(DataError) as caught:
        predict_photos(Mock(), gone)
    assert str(caught.value) == (
        "made has no photo for any of the 2 images of 'val', of which the first is '000005' "
        "(named in 000005.xml): put the photos where the annotations name them"
    )


def test_a_split_without_images_is_no_want_of_photos():
    with pytest.raises(DataError, match="made: 'val' names no image: .* give another split"):
        predict_photos(Mock(), dataset({}))
