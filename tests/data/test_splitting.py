"""Splits that are made: alike in every class, the same again, written down, never reshuffled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.splitting import made_splits, splits_file, stratified
from frostbox.errors import DataError

BOX = (0.0, 0.0, 9.0, 9.0)


def _image(image_id: str, *names: str) -> ImageAnnotation:
    objects = tuple(ObjectAnnotation(name, BOX) for name in names)
    return ImageAnnotation(image_id, None, 9, 9, objects, Path("x"))


def _set(root: Path, images: list[ImageAnnotation]) -> DetectionSet:
    return DetectionSet("mine", root, "all", ("common", "rare"), "x", tuple(images))


MIXED = [
    _image(f"{k:03d}", *["common"] * (k % 3), *(["rare"] if k % 10 == 0 else []))
    for k in range(200)
]


def test_every_class_is_split_alike_and_so_are_empty_images() -> None:
    sides = stratified(MIXED, 0.2, seed=0)
    assert Counter(sides.values())["val"] == pytest.approx(40, abs=2)
    in_val = [image for image in MIXED if sides[image.image_id] == "val"]
    objects = Counter(obj.name for image in in_val for obj in image.objects)
    whole = Counter(obj.name for image in MIXED for obj in image.objects)
    for name in whole:
        assert objects[name] == pytest.approx(0.2 * whole[name], abs=2)
    empty = sum(not image.objects for image in MIXED)
    assert sum(not image.objects for image in in_val) == pytest.approx(0.2 * empty, abs=1)


def test_a_class_with_two_images_is_in_both() -> None:
    sides = stratified([*MIXED, _image("x", "lone"), _image("y", "lone")], 0.2, 0)
    assert {sides["x"], sides["y"]} == {"train", "val"}


def test_a_class_with_one_image_is_learned(
    tmp_path: Path, data_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = [_image(f"s{k}", f"c{k}") for k in range(30)]
    sides = stratified([*MIXED, *single], 0.2, 0)
    assert {sides[image.image_id] for image in single} == {"train"}
    made_splits(_set(tmp_path, [*MIXED, *single]))
    assert "30 classes stand in a single image, which is learned from" in caplog.text
    # With nothing but such classes, val still gets an image: one, not its whole share.
    assert Counter(stratified(single, 0.2, 0).values()) == {"train": 29, "val": 1}
    assert stratified([_image("x", "a", "b"), _image("y", "c")], 0.2, 0) == {
        "x": "train",
        "y": "val",
    }


def test_one_crowded_image_does_not_send_all_others_to_val() -> None:
    crowded = _image("crowded", *["common"] * 1000)
    sides = stratified([crowded, *(_image(str(k), "common") for k in range(50))], 0.2, 0)
    assert Counter(sides.values())["val"] == pytest.approx(10, abs=1)


def test_an_added_image_moves_few_others_even_without_the_written_file() -> None:
    before = stratified(MIXED, 0.2, 0)
    after = stratified([*MIXED, *(_image(f"new{k}", "common") for k in range(10))], 0.2, 0)
    assert sum(after[image_id] != side for image_id, side in before.items()) <= 20


def test_the_order_of_the_list_does_not_matter_and_the_seed_does() -> None:
    assert stratified(MIXED, 0.2, 0) == stratified(MIXED[::-1], 0.2, 0)
    assert stratified(MIXED, 0.2, 0) != stratified(MIXED, 0.2, 1)


@given(
    contents=st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=2, max_size=30),
    share=st.floats(0.05, 0.95),
)
def test_every_image_has_a_side_and_both_have_one(contents: list, share: float) -> None:
    images = [_image(str(k), *names) for k, names in enumerate(contents)]
    sides = stratified(images, share, 0)
    assert set(sides) == {image.image_id for image in images}
    assert set(sides.values()) == {"train", "val"}
    if len({name for names in contents for name in names}) < len(images) / 2:
        learned = {obj.name for i in images if sides[i.image_id] == "train" for obj in i.objects}
        assert learned == {name for names in contents for name in names}


def test_it_is_written_outside_the_data_and_stays(tmp_path: Path, data_home: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    made = made_splits(_set(root, MIXED))
    path = splits_file(_set(root, MIXED))
    assert path.is_relative_to(data_home)
    assert list(root.iterdir()) == []
    assert [part.made for part in made.values()] == [path, path]
    assert len(made["train"]) + len(made["val"]) == 200
    stored = json.loads(path.read_text())
    assert stored["splits"]["val"] == [i.image_id for i in made["val"].images]
    assert (stored["seed"], stored["data"]) == (0, str(root))

    # Corrected labels change nothing; new images are shared out, old ones stay.
    corrected = [_image(image.image_id, "rare") for image in MIXED]
    more = [*corrected, *(_image(f"new{k}", "common") for k in range(50))]
    again = made_splits(_set(root, more))
    before = {i.image_id for i in made["val"].images}
    after = {i.image_id for i in again["val"].images}
    assert before <= after
    assert not {i.image_id for i in made["train"].images} & after
    assert 5 <= len(after - before) <= 15
    fewer = made_splits(_set(root, MIXED[:100]))
    assert {i.image_id for i in fewer["val"].images} == before & {i.image_id for i in MIXED[:100]}


def test_other_places_are_other_splits(tmp_path: Path, data_home: Path) -> None:
    assert splits_file(_set(tmp_path / "a", [])) != splits_file(_set(tmp_path / "b", []))


def test_faults(tmp_path: Path, data_home: Path) -> None:
    with pytest.raises(DataError, match="a training needs at least two"):
        made_splits(_set(tmp_path, MIXED[:1]))
    made_splits(_set(tmp_path, MIXED))
    path = splits_file(_set(tmp_path, MIXED))
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(DataError, match="has version 9; .* upgrade frostbox"):
        made_splits(_set(tmp_path, MIXED))
    sides = json.loads(path.read_text().replace('"version": 9', '"version": 1'))
    path.write_text(json.dumps(sides))
    left = [image for image in MIXED if image.image_id in sides["splits"]["train"]]
    with pytest.raises(DataError, match="none of the images .* into 'val'; remove the file"):
        made_splits(_set(tmp_path, left))
    path.write_text("{")
    with pytest.raises(DataError, match="is damaged .*; remove it"):
        made_splits(_set(tmp_path, MIXED))
