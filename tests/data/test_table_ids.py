"""Tables: ids that rows keep, what boxes mean in all splits, and paths that stay inside."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load, recognise
from frostbox.data.table_boxes import Reading, meant
from frostbox.errors import DataError
from tests.data.sets import photo

SIZES = (60, 40)


def _picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _row(seed: int, *boxes: list[float], path: str | None = None, **more: Any) -> dict[str, Any]:
    objects = [{"bbox": box, "category": "dog"} for box in boxes or ([4, 5, 26, 30],)]
    return {"image": {"bytes": _picture(seed), "path": path}, "objects": objects, **more}


def _table(*rows: dict[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(rows)).cast_column("image", datasets.Image())


def _ids(dataset: DetectionSet) -> list[str]:
    return [image.image_id for image in dataset.images]


# Ids


def test_ids_are_those_of_a_column_else_names_else_content() -> None:
    assert _ids(load(_table(_row(0, image_id=42), _row(1, image_id=7)), "all")) == ["42", "7"]
    assert _ids(load(_table(_row(0, id="x"), _row(1, id="y")), "all")) == ["x", "y"]
    named = _table(_row(0, path="a.png", id=1), _row(1, path="/far/away/b.png", id=1))
    assert _ids(load(named, "all")) == ["a", "b"]
    column = _table(_row(0, file_name="p/a.png"), _row(1, file_name="q/a.png"))
    assert _ids(load(column, "all")) == ["p/a", "q/a"]
    one, two, again = _ids(load(_table(_row(0), _row(1), _row(0)), "all"))
    assert one != two
    assert again == f"{one}-2"


def test_ids_of_content_stay_when_rows_move() -> None:
    before = load(_table(_row(0), _row(1)), "all")
    after = load(_table(_row(2), _row(1), _row(0)), "all")
    assert _ids(after)[1:] == _ids(before)[::-1]


@pytest.mark.parametrize("column", ["image_id", None])
def test_a_made_split_stays_when_rows_are_added_and_moved(
    tmp_path: Path, column: str | None
) -> None:
    def saved(order: list[int]) -> dict[bytes, str]:
        rows = [_row(k, **({column: k} if column else {})) for k in order]
        _table(*rows).save_to_disk(tmp_path / "set")
        sides = {name: load(tmp_path / "set", name) for name in ("train", "val")}
        return {i.photo.read_bytes(): name for name, one in sides.items() for i in one.images}

    before = saved(list(range(10)))
    after = saved([*range(14, 9, -1), *range(9, -1, -1)])
    assert len(after) == 15
    assert {content: after[content] for content in before} == before


def test_ids_are_unique_over_all_splits() -> None:
    """Numbers that begin anew in each split are no ids, but results may still name them."""
    both = datasets.DatasetDict({
        "train": _table(_row(0, image_id=0, path="a.png"), _row(1, image_id=1, path="b.png")),
        "test": _table(_row(2, image_id=0, path="c.png")),
    })  # fmt: skip
    train, test = load(both, "train"), load(both, "test")
    assert (_ids(train), _ids(test)) == (["a", "b"], ["c"])
    assert [image.number for image in train.images] == [0, 1]
    same = datasets.DatasetDict({k: _table(_row(j, path="0.png")) for j, k in enumerate(both)})
    assert _ids(load(same, "train")) != _ids(load(same, "test"))


def test_a_split_that_cannot_be_read_does_not_disturb_the_others() -> None:
    table = _table(_row(0, image_id=3))
    both = datasets.DatasetDict({"train": table, "test": table.remove_columns("objects")})
    assert _ids(load(both, "train")) == ["3"]


def test_a_format_of_tensors_and_plain_bytes() -> None:
    assert len(load(_table(_row(0)).with_format("numpy"), "all")) == 1
    row = {**_row(0), "image": _picture(0)}
    plain = load(datasets.Dataset.from_list([row]), "all")
    assert _ids(plain) == _ids(load(_table(_row(0)), "all"))


# Boxes


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_boxes_mean_is_found_out_for_all_splits(
    split: str, caplog: pytest.LogCaptureFixture
) -> None:
    corners = [[20, 15, 50, 35], [30, 20, 58, 39], [1, 1, 20, 20]]
    both = {"train": _table(_row(0, *corners)), "val": _table(_row(1, [2, 3, 20, 30]))}
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = load(both, split)
    boxes = {"train": [tuple(box) for box in corners], "val": [(2, 3, 20, 30)]}
    assert [obj.box for obj in dataset.images[0].objects] == boxes[split]
    words = "(xmin, ymin, xmax, ymax) in pixels"
    assert caplog.text.count(f"boxes are read as {words}") == 1
    assert recognise(both).seen(dataset).endswith(f"1 classes; boxes as {words}")


def test_coco_boxes_are_said_but_need_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    table = _table(_row(0))
    seen = recognise(table).seen(load(table, "all"))
    assert seen.endswith("1 classes; boxes as (x, y, width, height) in pixels")
    assert not caplog.text


def test_shares_become_pixels() -> None:
    sizes = load(_table(_row(0, [0.5, 0.25, 0.5, 0.5], [0.1, 0.1, 0.2, 0.3])), "all")
    assert [obj.box for obj in sizes.images[0].objects] == [
        pytest.approx((30, 10, 60, 30)), pytest.approx((6, 4, 18, 16)),
    ]  # fmt: skip
    assert sizes.boxes == "boxes as (x, y, width, height) in shares of the sides"
    corners = load(_table(_row(0, [0.5, 0.5, 0.9, 1.0], [0.1, 0.2, 0.3, 0.4])), "all")
    assert corners.images[0].objects[0].box == pytest.approx((30, 20, 54, 40))


def test_readings() -> None:
    assert meant([]) == Reading()
    assert meant([([4.0, 5.0, 26.0, 30.0], SIZES)]) == Reading()
    assert meant([([40.0, 20.0, 50.0, 30.0], SIZES)]) == Reading(corners=True)
    assert meant([([0.0, 0.0, 1.0, 1.0], SIZES)]) == Reading(shares=True)
    assert meant([([0.0, 0.0, 1.0, 1.0], (2, 2))]) == Reading()
    assert meant([([0.0, 0.0, 0.0, 0.0], SIZES)]) == Reading()
    assert meant([([0.0, 0.0, 1.0, 1.0], SIZES), ([4.0, 5.0, 26.0, 30.0], SIZES)]) == Reading()
    assert Reading(shares=True).area(0.25, (0, 0, 0.5, 0.75), SIZES) == 600
    assert Reading(shares=True).area(0.25, (0, 0, 0.5, 0.5), SIZES) is None
    assert Reading(corners=True).area(25.0, (0, 0, 5, 5), SIZES) == 25


def test_boxes_that_fit_no_reading_are_refused_with_the_one_that_was_taken() -> None:
    with pytest.raises(DataError, match=r"they are read as \(x, y, width, height\) in pixels: is "):
        load(_table(_row(0, [50, 30, 80, 90])), "all")


# Paths


def _of_paths(folder: Path, *paths: str) -> Path:
    rows = [{**_row(0), "image": path} for path in paths]
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    return folder


def test_paths_of_a_file_stay_inside_its_folder(tmp_path: Path) -> None:
    outside = photo(tmp_path / "secret.jpg")
    for path in (str(outside), "../secret.jpg", "..\\secret.jpg"):
        data = _of_paths(tmp_path / "set", path)
        with pytest.raises(DataError, match="row 0: its picture is .* leads out of the table's"):
            load(data, "train")
    inside = photo(tmp_path / "set/images/a.jpg")
    data = _of_paths(tmp_path / "set", "/home/else/images/a.jpg", "a.jpg", "images/a.jpg")
    assert {image.photo for image in load(data, "train").images} == {inside}
    one_file = load(data / "train.parquet", "train")
    assert {image.photo for image in one_file.images} == {inside}


def test_paths_are_not_taken_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "here/a.jpg")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OSError, match="row 0 has neither the bytes .* nor a file at 'a.jpg"):
        load(_of_paths(tmp_path / "set", "a.jpg"), "train")


def test_paths_of_an_object_are_followed(tmp_path: Path) -> None:
    outside = photo(tmp_path / "secret.jpg")
    table = datasets.Dataset.from_list([{**_row(0), "image": str(outside)}])
    assert load(table, "all").images[0].photo == outside
