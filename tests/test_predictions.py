"""Predictions as a file: ours read back, and those of other tools."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from frostbox.data.labels import choose
from frostbox.errors import DataError
from frostbox.predictions import read_predictions, write_predictions
from frostbox.suite import measure
from tests.scored import dataset, predictions, random_pair

BOX = (10.0, 20.0, 60.0, 90.0)
XYWH = [10, 20, 50, 70]


@pytest.fixture
def file(tmp_path):
    """A function that writes a value as predictions.json."""

    def write(value):
        path = tmp_path / "predictions.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


@pytest.fixture(scope="module")
def data():
    return dataset({"000005": [("a", BOX)], "2008_000008": [("b", BOX)], "x": []})


def entry(image_id="000005", **values):
    return {"image_id": image_id, "category_id": 1, "bbox": XYWH, "score": 0.5, **values}


def test_what_was_written_reads_back_to_the_last_bit(tmp_path):
    data, found, _ = random_pair(images=300)
    read, outside = read_predictions(write_predictions(found, tmp_path / "p.json"), data)
    assert outside == 0
    assert read.images == found.images
    for one, other in zip(read.found, found.found, strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.scores, other.scores)
        assert np.array_equal(one.labels, other.labels)
        assert one.boxes.dtype == np.float32
    before, after = (measure(p, data, bootstrap=20).figures for p in (found, read))
    # The rule says that nobody limited what is in a file.
    assert before.pop("rule")["max_detections"] == 300
    assert after.pop("rule")["max_detections"] is None
    assert before == after


def test_the_file_is_cocos_results_with_names(tmp_path, data):
    found = predictions(data, {"2008_000008": [("b", BOX, 0.75), ("a", BOX, 0.5)]})
    path = write_predictions(found, tmp_path / "p.json")
    assert json.loads(path.read_text()) == [
        {
            "image_id": "2008_000008", "category_id": 2, "category_name": "b", "bbox": XYWH,
            "score": 0.75,
        },
        {
            "image_id": "2008_000008", "category_id": 1, "category_name": "a", "bbox": XYWH,
            "score": 0.5,
        },
    ]  # fmt: skip
    assert json.loads(write_predictions(predictions(data, {}), path).read_text()) == []


def test_another_tools_numbers_names_and_order(file, data, caplog):
    path = file(
        [
            {"image_id": 2008000008, "category_id": 2, "bbox": XYWH, "score": 0.25, "area": 3500},
            {"image_id": 5, "category_name": "a", "bbox": XYWH, "score": 1, "segmentation": []},
            {"image_id": 2008000008, "category_id": 77, "category_name": "b", "bbox": XYWH,
             "score": 0.75},
            {"image_id": "2008_000008", "category_id": 1, "bbox": [0.5, 1.5, 2, 0], "score": 0},
        ]
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "frostbox"):
        read, outside = read_predictions(path, data)
    assert outside == 0
    assert [i.image_id for i in read.images] == ["000005", "2008_000008", "x"]
    assert [f.scores.tolist() for f in read.found] == [[1], [0.75, 0.25, 0], []]
    assert read.found[1].names == ["b", "b", "a"]
    assert read.found[0].boxes.tolist() == [list(BOX)]
    assert read.found[1].boxes[2].tolist() == [0.5, 1.5, 2.5, 1.5]
    assert read.figures == {}
    # Two of them tell the class by number only: what the numbers are taken for is said once.
    assert caplog.text.count("category_id is read as 1 a, 2 b") == 1


def test_names_need_no_word_about_numbers(file, data, caplog):
    with caplog.at_level(logging.WARNING, "frostbox"):
        read_predictions(file([entry(category_name="b")]), data)
    assert not caplog.text


def test_a_number_that_two_stems_share_names_neither(file):
    data = dataset({"1": [], "001": [], "7": [], "0_9": []})
    read, outside = read_predictions(
        file([entry(1), entry(7), entry(9), entry("001"), entry(2)]), data
    )
    # 1 is the stem "1" as it stands; 7 and 9 are not disturbed by the two; 2 is unknown.
    assert [len(f) for f in read.found] == [1, 1, 1, 1]
    assert outside == 1


def test_detections_of_other_images_are_counted(file, data):
    read, outside = read_predictions(file([entry(), entry("000006"), entry(6)]), data)
    assert outside == 2
    assert sum(map(len, read.found)) == 1


def test_all_of_other_images_is_an_error_that_shows_both_ids(file, data):
    with pytest.raises(DataError) as caught:
        read_predictions(file([entry("000005.jpg"), entry(4)]), data)
    for words in ("no detection for any image of 'val'", "'000005.jpg'", "'000005'"):
        assert words in str(caught.value)


def test_an_empty_list_is_a_detector_that_finds_nothing(file, data):
    read, outside = read_predictions(file([]), data)
    assert (len(read.images), sum(map(len, read.found)), outside) == (3, 0, 0)


def test_which_images_without_photo_count(file):
    images = {"000005": [("a", BOX)], "000006": [("a", BOX)]}
    gone = dataset(images, photo=None)
    assert len(read_predictions(file([]), gone)[0].images) == 2
    some = gone.subset([*gone.images, *dataset({"000007": []}).images])
    assert [i.image_id for i in read_predictions(file([entry()]), some)[0].images] == [
        "000005",  # has a detection
        "000007",  # has a photo
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bbox": None}, "bbox is None; it must be [x, y, width, height]"),
        ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3]"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox is [1, 2, 3, '4']"),
        ({"bbox": [1, 2, 3, True]}, "bbox is [1, 2, 3, True]"),
        ({"bbox": [1, 2, -3, 4]}, "width and height must not be negative"),
        ({"bbox": [1, 2, float("inf"), 4]}, "bbox is [1, 2, inf, 4]"),
        ({"bbox": [1, 2, 3, 1e39]}, "bbox is [1, 2, 3, 1e+39]"),
        ({"bbox": [10**400, 2, 3, 4]}, "it must be [x, y, width, height]"),
        ({"score": None}, "score is None; it must be a number from 0 to 1"),
        ({"score": 1.01}, "score is 1.01"),
        ({"score": -0.1}, "score is -0.1"),
        ({"score": float("nan")}, "score is nan"),
        ({"score": "0.5"}, "score is '0.5'"),
        ({"image_id": 5.5}, "image_id is 5.5; it must be a number or a file stem"),
        ({"image_id": True}, "image_id is True"),
        ({"image_id": None}, "image_id is None"),
        ({"category_id": 0}, "category_id is 0; it counts from 1 to 2 in the order a, b"),
        ({"category_id": 3}, "category_id is 3"),
        ({"category_id": "1"}, "category_id is '1'"),
        ({"category_id": True}, "category_id is True"),
        ({"category_id": 1.5}, "category_id is 1.5"),
        ({"category_id": None}, "category_id is None"),
        ({"category_name": "c"}, "category_name 'c' is no class of the data set: it has a, b"),
        ({"category_name": ["a"]}, "category_name ['a'] is no class"),
    ],
)
def test_a_malformed_entry_is_named_with_its_field(changed, words, file, data):
    path = file([entry(), entry(**changed)])
    with pytest.raises(DataError) as caught:
        read_predictions(path, data)
    message = str(caught.value)
    assert message.startswith(f"{path}, entry 1")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("field", ["image_id", "bbox", "score"])
def test_a_field_that_is_missing_is_named(field, file, data):
    broken = entry()
    del broken[field]
    with pytest.raises(DataError, match=f"entry 0 has no {field}"):
        read_predictions(file([broken, entry()]), data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[{]", "is not JSON"),
        ('{"annotations": []}', "is no list"),
        ("[3]", "entry 0 is 3: it must be an object with image_id, bbox, score"),
        ("[[]]", "entry 0 is []"),
    ],
)
def test_what_is_no_list_of_detections_is_refused(text, words, file, data):
    path = file(text)
    with pytest.raises(DataError) as caught:
        read_predictions(path, data)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_no_text(tmp_path, data):
    path = tmp_path / "p.json"
    path.write_bytes(b"\xff\xfe[\x00]\x00")
    with pytest.raises(DataError, match="is not JSON"):
        read_predictions(path, data)


# A data set with ids of its own, as COCO has


@pytest.fixture(scope="module")
def numbered():
    """Images 7 and 9, categories 18 (a), 3 (b) and 90, which was left out."""
    plain = dataset({"first": [("a", BOX)], "second": []})
    images = [replace(i, number=n) for i, n in zip(plain.images, (7, 9), strict=True)]
    return replace(plain.subset(images), categories={18: 0, 3: 1, 90: None})


def test_ids_are_the_data_sets_own(file, numbered, caplog):
    entries = [
        {"image_id": 7, "category_id": 18, "bbox": XYWH, "score": 0.5},
        {"image_id": 9, "category_id": 3, "bbox": XYWH, "score": 0.25},
        {"image_id": 9, "category_id": 90, "bbox": XYWH, "score": 0.75},
        {"image_id": 8, "category_id": 3, "bbox": XYWH, "score": 0.75},
    ]
    with caplog.at_level(logging.WARNING, "frostbox"):
        read, outside = read_predictions(file(entries), numbered)
    assert outside == 1
    assert [found.labels.tolist() for found in read.found] == [[0], [1]]
    assert "1 detections are of classes that are left out: category_id 90 (1)" in caplog.text
    with pytest.raises(DataError, match="category_id is 1, which the data set does not have"):
        read_predictions(file([{**entries[0], "category_id": 1}]), numbered)


def test_own_ids_are_written(tmp_path, numbered):
    found = predictions(numbered, {"first": [("b", BOX, 0.75)]})
    path = write_predictions(found, tmp_path / "p.json", numbered)
    (entry,) = json.loads(path.read_text())
    assert (entry["image_id"], entry["category_id"], entry["category_name"]) == (7, 3, "b")
    read, outside = read_predictions(path, numbered)
    assert (outside, read.found[0].labels.tolist()) == (0, [1])


def test_whole_numbers_may_be_written_as_decimals(file, numbered, data):
    entries = [{"image_id": 9.0, "category_id": 18.0, "bbox": XYWH, "score": 0.5}]
    assert read_predictions(file(entries), numbered)[0].found[1].names == ["a"]
    assert len(read_predictions(file([entry(5.0)]), data)[0].found[0]) == 1


def _with_own(stems):
    """A data set of these stems, each with an id of its own."""
    plain = dataset({stem: [] for stem in stems})
    images = [replace(i, number=n) for i, n in zip(plain.images, stems.values(), strict=True)]
    return plain.subset(images)


def test_a_number_is_an_own_id_and_never_a_stem(file):
    # Image 1 is 2.jpg, and image 3, of another split, is not 3.jpg.
    data = _with_own({"2": 1, "3": 2, "x": 4})
    read, outside = read_predictions(file([entry(1), entry(3)]), data)
    assert ([len(f) for f in read.found], outside) == ([1, 0, 0], 1)
    # A text is a name: own ids are numbers here.
    read, outside = read_predictions(file([entry("3"), entry("x"), entry("4")]), data)
    assert ([len(f) for f in read.found], outside) == ([0, 1, 1], 1)
    with pytest.raises(DataError, match="its first image_id is 3, the split's is 1; give the spl"):
        read_predictions(file([entry(3)]), data)


def test_own_ids_that_are_text_are_not_mixed_with_stems(file):
    data = _with_own({"b": "a", "c": "b", "d": "07"})
    read, outside = read_predictions(file([entry("a"), entry("c"), entry("07")]), data)
    assert ([len(f) for f in read.found], outside) == ([1, 0, 1], 1)
    digits = _with_own({"b": "7", "c": "8"})
    assert [len(f) for f in read_predictions(file([entry(8)]), digits)[0].found] == [0, 1]


def test_boxes_as_shares_are_refused(file, data):
    shares = [entry(bbox=[0.5, 0.25, 0.5, 0.75]), entry(bbox=[0, 0, 1, 1])]
    with pytest.raises(DataError, match=r"all boxes lie in \[0, 1\], as \[0.5, 0.25, 0.5, 0.75\]"):
        read_predictions(file(shares), data)
    assert read_predictions(file([*shares, entry()]), data)[1] == 0
    assert read_predictions(file([entry(bbox=[0, 0, 0, 0])]), data)[1] == 0


# Classes that were renamed or left out


def _names(read):
    return [name for found in read.found for name in found.names]


def test_names_of_before_map_are_followed(file, data):
    merged = choose(data, rename={"a": "x", "b": "x"})
    read, _ = read_predictions(
        file([entry(category_name=name) for name in ("a", "b", "x")]), merged
    )
    assert _names(read) == ["x", "x", "x"]
    with pytest.raises(DataError, match="category_name 'c' is no class of the data set: it has x"):
        read_predictions(file([entry(category_name="c")]), merged)


def test_detections_of_classes_that_are_left_out_are_counted(file, data, caplog):
    subset = choose(data, ["x"], {"a": "x"})
    entries = [entry(category_name=name) for name in ("a", "b", "zebra", "b", "x")]
    with caplog.at_level(logging.WARNING, "frostbox"):
        read, outside = read_predictions(file(entries), subset)
    assert (_names(read), outside) == (["x", "x"], 0)
    assert "3 detections are of classes that are left out: b (2); zebra (1)" in caplog.text


def test_all_classes_in_another_order_leave_none_out(file, data):
    turned = choose(data, ["b", "a"])
    read, _ = read_predictions(file([entry(category_name="a"), entry(category_id=1)]), turned)
    assert _names(read) == ["a", "b"]
    with pytest.raises(DataError, match="category_name 'c' is no class"):
        read_predictions(file([entry(category_name="c")]), turned)
