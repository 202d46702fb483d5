"""Converting between formats: what comes back is what was there, and what is lost is listed."""

from __future__ import annotations

import os
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from frostbox.convert import convert
from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.formats import load, recognise
from frostbox.data.photos import check_photo_sizes, upright
from frostbox.errors import SettingsError
from tests.conftest import TinyVoc, xml_annotation
from tests.data.sets import coco_image, coco_object, named_set, photo, sets, write_coco_file

Content = list[tuple[tuple[int, int], tuple[ObjectAnnotation, ...]]]


def _content(dataset: DetectionSet) -> Content:
    return [((i.width, i.height), i.objects) for i in dataset.images]


def _with_photos(dataset: DetectionSet, folder: Path) -> DetectionSet:
    """The same with pictures of the right size, at names of no meaning."""
    images = []
    for number, image in enumerate(dataset.images):
        path = folder / f"{number}.png"
        Image.new("1", (image.width, image.height)).save(path)
        images.append(replace(image, photo=path))
    return replace(dataset, root=folder, images=tuple(images))


def _is_odd(image_id: str) -> bool:
    """Whether it is no name of a file, or no line of a list."""
    return (
        bool(set(image_id) & set(':*?"<>|'))
        or any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in image_id)
        or image_id != image_id.strip().strip(".")
    )


@settings(max_examples=25)
@given(dataset=sets(), to=st.sampled_from(["voc", "coco"]))
@example(dataset=named_set("0\xa0", "a\u2028b", " \x85."), to="voc")
@example(dataset=named_set("0\xa0", "a\u2028b", " \x85."), to="coco")
def test_voc_and_coco_give_everything_back(
    dataset: DetectionSet, to: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("convert")
    (parent / "photos").mkdir()
    source = _with_photos(dataset, parent / "photos")
    done = convert(source, parent / "first", to)
    odd = any(_is_odd(image.image_id) for image in source.images)
    assert [text.split(",")[0].split(" of ")[0] for text in done.lost] == ["names"] * odd
    first = load(parent / "first", "train")
    assert (first.classes, _content(first)) == (source.classes, _content(source))
    other = {"voc": "coco", "coco": "voc"}[to]
    convert(parent / "first", parent / "second", other)
    second = load(parent / "second", "train")
    assert (second.classes, _content(second)) == (source.classes, _content(source))
    assert [i.image_id for i in second.images] == [i.image_id for i in first.images]
    assert len(second.photos) == len(source)


@settings(max_examples=15)
@given(dataset=sets())
@example(dataset=named_set("0\xa0", "a\u2028b", " \x85."))
def test_yolo_gives_the_boxes_back_and_lists_the_flags(
    dataset: DetectionSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("convert")
    (parent / "photos").mkdir()
    source = _with_photos(dataset, parent / "photos")
    done = convert(source, parent / "out", "yolo")
    back = load(parent / "out", "train")
    found = {i.photo.stat().st_ino: (i.width, i.height, i.objects) for i in back.photos}
    for image in source.images:
        plain = tuple(ObjectAnnotation(obj.name, obj.box) for obj in image.objects)
        assert found[image.photo.stat().st_ino] == (image.width, image.height, plain)
    every = [obj for image in source.images for obj in image.objects]
    for flag in ("difficult", "truncated", "occluded"):
        count = sum(getattr(obj, flag) for obj in every)
        assert (f"{flag} flag of {count} objects" in done.lost) == (count > 0)


def test_crowds_areas_and_ids(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    objects = [
        coco_object(7, 90, [1, 2, 30, 20], area=55.5),
        coco_object(7, 1, [0, 0, 50, 30], iscrowd=1, segmentation={"counts": [1], "size": [1, 1]}),
        coco_object(7, 1, [5, 5, 1, 30]),
    ]
    path = write_coco_file(tmp_path / "train.json", [coco_image(7, "a.jpg")], objects)
    done = convert(path, tmp_path / "coco", "coco")
    assert done.lost == [
        "train: masks of 1 objects", "train: supercategories (animal)",
    ]  # fmt: skip
    again = load(tmp_path / "coco", "train")
    assert _content(again) == _content(load(path, "train"))
    assert again.categories == {1: 0, 3: 1, 90: 2}
    assert again.images[0].number == 7

    done = convert(path, tmp_path / "voc", "voc")
    assert done.lost[2:] == [
        "area of 1 objects", "crowd flag (now difficult) of 1 objects",
        "boxes (one pixel wide or high, which VOC cannot say) of 1 objects",
        "ids of images and categories",
    ]  # fmt: skip
    assert [(o.name, o.difficult) for o in load(tmp_path / "voc", "train").images[0].objects] == [
        ("dog", False), ("person", True),
    ]  # fmt: skip
    assert (done.images, done.objects) == ({"train": 1}, {"train": 2})

    done = convert(path, tmp_path / "yolo", "yolo")
    assert "boxes of crowds (YOLO would learn them as objects) of 1 objects" in done.lost
    assert len(load(tmp_path / "yolo", "train").images[0].objects) == 2


def test_photos_are_links_unless_copies_are_asked_for(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc()
    convert(root, tmp_path / "linked", "yolo")
    convert(root, tmp_path / "copied", "yolo", copy=True)
    original = (root / "JPEGImages/a.jpg").stat()
    linked, copied = (
        (tmp_path / name / "images/train/a.jpg").stat() for name in ("linked", "copied")
    )
    assert linked.st_ino == original.st_ino
    assert copied.st_ino != original.st_ino
    assert copied.st_size == original.st_size


def test_photos_are_copied_where_there_are_no_links(
    tiny_voc: TinyVoc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    convert(tiny_voc(), tmp_path / "out", "coco")
    assert (tmp_path / "out/images/a.jpg").is_file()


def test_one_photo_in_several_splits_and_one_name_for_several_photos(
    tiny_voc: TinyVoc, tmp_path: Path
) -> None:
    root = tiny_voc(splits={"train": ["a", "b"], "mine": ["b", "c"]})
    convert(root, tmp_path / "out", "voc", splits=["train", "mine"])
    assert sorted(p.name for p in (tmp_path / "out/JPEGImages").iterdir()) == [
        "a.jpg", "b.jpg", "c.jpg",
    ]  # fmt: skip
    for split in ("train", "val"):
        photo(tmp_path / f"images/{split}/1.jpg", seed=len(split))
        (tmp_path / f"labels/{split}").mkdir(parents=True)
        (tmp_path / f"labels/{split}/1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x]\n")
    done = convert(tmp_path / "data.yaml", tmp_path.parent / f"{tmp_path.name}-out", "voc")
    assert done.lost == ["names of 1 images, such as '1', now '1-2'"]
    for split in ("train", "val"):
        image = load(done.out, split).photos[0]
        original = tmp_path / f"images/{split}/1.jpg"
        assert image.photo.read_bytes() == original.read_bytes()
    shutil.rmtree(done.out)


@pytest.mark.parametrize("with_photo", [True, False])
@pytest.mark.parametrize("to", ["voc", "coco"])
def test_splits_that_disagree_about_an_image_keep_what_they_say(
    to: str, with_photo: bool, tmp_path: Path
) -> None:
    if with_photo:
        photo(tmp_path / "set" / "a.jpg")
    said = {"train": 3, "val": 90}
    for split, category in said.items():
        write_coco_file(
            tmp_path / "set" / f"{split}.json",
            [coco_image(1, "a.jpg")], [coco_object(1, category, [1, 2, 30, 20])],
        )  # fmt: skip
    done = convert(tmp_path / "set", tmp_path / "out", to)
    assert "names of 1 images, such as 'a', now 'a-2'" in done.lost
    names = {s: [o.name for o in load(tmp_path / "out", s).images[0].objects] for s in said}
    assert names == {"train": ["cat"], "val": ["dog"]}


def test_category_ids_that_differ_by_split_are_lost(tmp_path: Path) -> None:
    for split, ids in (("train", (1, 2)), ("val", (2, 1))):
        categories = [{"id": k, "name": n} for k, n in zip(ids, ("cat", "dog"), strict=True)]
        write_coco_file(
            tmp_path / "set" / f"{split}.json",
            [coco_image(1, f"{split}.jpg")], [coco_object(1, 1, [1, 2, 30, 20])], categories,
        )  # fmt: skip
    lost = "ids of categories: they are counted anew"
    assert lost in convert(tmp_path / "set", tmp_path / "out", "coco").lost
    one = convert(tmp_path / "set", tmp_path / "one", "coco", splits=["train"])
    assert one.lost == []
    turned = convert(
        tmp_path / "set", tmp_path / "turned", "coco", splits=["train"], classes=("dog", "cat")
    )
    assert lost in turned.lost


def test_folders_in_names_become_part_of_the_name(tmp_path: Path) -> None:
    photo(tmp_path / "x/a.jpg")  # beside a file that was given, results are fine
    path = write_coco_file(tmp_path / "train.json", [coco_image(1, "x/a.jpg")])
    done = convert(path, tmp_path / "out", "coco")
    assert load(done.out, "train").photos[0].image_id == "x_a"
    assert done.lost[-1] == "names of 1 images, such as 'x/a', now 'x_a'"


def test_photos_that_exif_turns_are_upright_in_yolo(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    """Annotated as it is stored, 60 x 40, with a mark that must stay on the same pixels."""
    root = tiny_voc({"a": []}, splits={"train": ["a"]})
    for orientation in range(5, 9):
        pixels = Image.new("L", (60, 40))
        pixels.paste(255, (10, 5, 30, 25))
        tags = Image.Exif()
        tags[0x0112] = orientation
        pixels.save(root / "JPEGImages/a.jpg", exif=tags, quality=95)
        xml = xml_annotation("a", [("mark", (11, 6, 30, 25))])
        (root / "Annotations/a.xml").write_text(xml)
        out = tmp_path / f"out{orientation}"
        convert(root, out, "yolo")
        (image,) = load(out, "train").images
        assert (image.width, image.height) == (40, 60)
        from frostbox.data.photos import read_image

        shown = read_image(image.photo)[0].float()
        xmin, ymin, xmax, ymax = (int(v) for v in image.objects[0].box)
        assert shown[ymin:ymax, xmin:xmax].mean() > 250
        assert shown.sum() == pytest.approx(255 * 400, rel=0.05)
        (typed,) = check_photo_sizes(load(root, "train")).images
        assert upright(typed).objects == image.objects


def test_classes_are_chosen_and_renamed_on_the_way(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    names = {"dog": "animal", "cat": "animal"}
    convert(tiny_voc(), tmp_path / "out", "coco", classes=["animal"], rename=names)
    dataset = load(tmp_path / "out", "val")
    assert dataset.classes == ("animal",)
    assert [[o.name for o in i.objects] for i in dataset.images] == [["animal"], ["animal"] * 2]


def test_splits(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    lists = {"train": ["a"], "val": ["b"], "trainval": ["a", "b"], "extra": ["c"]}
    root = tiny_voc(splits=lists)
    done = convert(root, tmp_path / "voc", "voc")
    assert set(done.images) == {"train", "val", "extra"}  # trainval only joins two
    with pytest.raises(SettingsError, match="YOLO knows the splits train, val and test, not extra"):
        convert(root, tmp_path / "yolo", "yolo")
    assert set(convert(root, tmp_path / "yolo", "yolo", splits=["val"]).images) == {"val"}

    shutil.rmtree(root / "ImageSets/Main")
    assert set(convert(root, tmp_path / "all", "coco").images) == {"all"}
    made = convert(root, tmp_path / "made", "yolo")
    assert set(made.images) == {"train", "val"}
    assert recognise(made.out).format == "YOLO"


def test_images_without_photo(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc()
    (root / "JPEGImages/a.jpg").unlink()
    assert load(convert(root, tmp_path / "coco", "coco").out, "train").missing_photos == ("a",)
    done = convert(root, tmp_path / "yolo", "yolo")
    assert "annotations without photo (YOLO has no sizes) of 2 objects" in done.lost
    assert done.images == {"train": 1, "val": 2}


def test_where_it_may_be_written(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc()
    with pytest.raises(SettingsError, match="lies in the data set"):
        convert(root, root / "out", "coco")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(SettingsError, match="is not an empty folder"):
        convert(root, tmp_path / "full", "coco")
    with pytest.raises(SettingsError, match="--to is 'xml': choose one of voc, coco, yolo"):
        convert(root, tmp_path / "out", "xml")


def test_voc2007_val_there_and_back(voc2007: Path, tmp_path: Path) -> None:
    coco = convert(voc2007, tmp_path / "coco", "coco", splits=["val"])
    assert coco.objects == {"val": 7818}
    back = convert(coco.out, tmp_path / "voc", "voc")
    original, again = load(voc2007, "val"), load(back.out, "val")
    assert [_known(i) for i in again.images] == [_known(i) for i in original.images]
    assert again.classes == original.classes


def _known(image: ImageAnnotation) -> tuple:
    return image.image_id, image.width, image.height, image.objects, image.photo is None
