"""Converting between formats: what comes back is what was there, and what is lost is listed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from PIL import Image

from frostbox.convert import convert
from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.formats import load, load_training, recognise
from frostbox.data.photos import check_photo_sizes, upright
from frostbox.errors import SettingsError
from tests.conftest import TinyVoc, xml_annotation
from tests.data.sets import coco_image, coco_object, named_set, photo, splits, write_coco_file

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


def _all_with_photos(sets: Mapping[str, DetectionSet], folder: Path) -> dict[str, DetectionSet]:
    """The same with pictures, all below one folder."""
    found = {}
    for name, dataset in sets.items():
        (folder / name).mkdir(parents=True)
        found[name] = replace(_with_photos(dataset, folder / name), root=folder)
    return found


def _in_voc(image: ImageAnnotation) -> ImageAnnotation:
    """What VOC holds of it: a crowd becomes difficult."""
    objects = [
        replace(obj, difficult=obj.difficult or obj.crowd, crowd=False, area=None)
        for obj in image.objects
    ]
    return replace(image, objects=tuple(objects))


def _every(sets: Mapping[str, DetectionSet]) -> list[ObjectAnnotation]:
    return [obj for one in sets.values() for image in one.images for obj in image.objects]


def _ids(one: DetectionSet) -> list[Any]:
    return [(image.number, [obj.number for obj in image.objects]) for image in one.images]


def _has_ids(sets: Mapping[str, DetectionSet]) -> list[str]:
    found = {
        "images": any(i.number is not None for one in sets.values() for i in one.images),
        "categories": any(one.categories for one in sets.values()),
        "annotations": any(obj.number is not None for obj in _every(sets)),
    }
    return [kind for kind, there in found.items() if there]


@settings(max_examples=25)
@given(sets=splits())
@example(sets={"train": named_set("0\xa0", "a\u3000b", " .")})
def test_coco_gives_everything_back(
    sets: dict[str, DetectionSet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("convert")
    source = _all_with_photos(sets, parent / "photos")
    done = convert(source, parent / "first", "coco")
    again = convert(parent / "first", parent / "second", "coco")
    changed = False
    for split, one in source.items():
        first, second = (load(parent / n, split) for n in ("first", "second"))
        assert (first.classes, _content(first)) == (one.classes, _content(one))
        assert (second.classes, _content(second)) == (one.classes, _content(one))
        if one.categories:
            assert first.categories == one.categories
        for (number, numbers), (own, owns) in zip(_ids(first), _ids(one), strict=True):
            assert own in (None, number)
            assert all(o in (None, n) for o, n in zip(owns, numbers, strict=True))
        assert _ids(second) == _ids(first)
        assert len(first.photos) == len(one)
        # A file that names its photos by these names gives these ids.
        changed |= {i.image_id for i in first.images} != {i.image_id for i in one.images}
    assert [text.split(" of ")[0] for text in done.lost] == ["names"] * changed
    assert again.lost == []


@settings(max_examples=25)
@given(sets=splits())
@example(sets={"train": named_set("0\xa0", "a\u3000b", " .")})
def test_voc_gives_back_what_it_holds_and_lists_the_rest(
    sets: dict[str, DetectionSet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("convert")
    source = _all_with_photos(sets, parent / "photos")
    done = convert(source, parent / "first", "voc")
    convert(parent / "first", parent / "second", "coco")
    for split, one in source.items():
        first, second = (load(parent / n, split) for n in ("first", "second"))
        expected = one.subset([_in_voc(image) for image in one.images])
        assert (first.classes, _content(first)) == (one.classes, _content(expected))
        assert (second.classes, _content(second)) == (one.classes, _content(expected))
        assert [i.image_id for i in second.images] == [i.image_id for i in first.images]
        assert len(second.photos) == len(first.photos) == len(one)
    every = _every(source)
    areas, crowds = (
        sum(v) for v in ([o.area is not None for o in every], [o.crowd for o in every])
    )
    assert (f"area of {areas} objects" in done.lost) == (areas > 0)
    assert (f"crowd flag (now difficult) of {crowds} objects" in done.lost) == (crowds > 0)
    kinds = _has_ids(source)
    assert (f"ids of {', '.join(kinds)}" in done.lost) == bool(kinds)


@settings(max_examples=25)
@given(sets=splits())
@example(sets={"train": named_set("0\xa0", "a\u3000b", " .")})
def test_yolo_gives_the_boxes_back_and_lists_the_rest(
    sets: dict[str, DetectionSet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("convert")
    source = _all_with_photos(sets, parent / "photos")
    done = convert(source, parent / "out", "yolo", splits=list(source))
    for split, one in source.items():
        back = load(parent / "out", split)
        assert back.classes == one.classes
        found = {i.photo.stat().st_ino: (i.width, i.height, i.objects) for i in back.photos}
        assert len(found) == len(one)
        for image in one.images:
            plain = tuple(ObjectAnnotation(o.name, o.box) for o in image.objects if not o.crowd)
            assert found[image.photo.stat().st_ino] == (image.width, image.height, plain)
    every = [obj for obj in _every(source) if not obj.crowd]
    for flag in ("difficult", "truncated", "occluded"):
        count = sum(getattr(obj, flag) for obj in every)
        assert (f"{flag} flag of {count} objects" in done.lost) == (count > 0)
    crowds = len(_every(source)) - len(every)
    lost = f"boxes of crowds (YOLO would learn them as objects) of {crowds} objects"
    assert (lost in done.lost) == (crowds > 0)
    kinds = _has_ids(source)
    assert (f"ids of {', '.join(kinds)}" in done.lost) == bool(kinds)


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
        "ids of images, categories, annotations",
    ]  # fmt: skip
    assert [(o.name, o.difficult) for o in load(tmp_path / "voc", "train").images[0].objects] == [
        ("dog", False), ("person", True),
    ]  # fmt: skip
    assert (done.images, done.objects) == ({"train": 1}, {"train": 2})

    done = convert(path, tmp_path / "yolo", "yolo")  # of one image no val can be made
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


@pytest.mark.parametrize("rename", [None, {"cat": "animal"}])
def test_a_class_that_one_split_lacks_is_kept_and_one_that_all_lack_refused(
    rename: dict[str, str] | None, tmp_path: Path
) -> None:
    for split, name in (("train", "cat"), ("val", "dog")):
        write_coco_file(
            tmp_path / "set" / f"{split}.json",
            [coco_image(1, f"{split}.jpg")], [coco_object(1, 1, [1, 2, 30, 20])],
            [{"id": 1, "name": name}],
        )  # fmt: skip
    kept = "cat" if rename is None else "animal"
    out = tmp_path / "out"
    done = convert(tmp_path / "set", out, "coco", classes=[kept], rename=rename)
    assert done.objects == {"train": 1, "val": 0}
    assert [load(out, split).classes for split in ("train", "val")] == [(kept,)] * 2
    with pytest.raises(SettingsError, match="--classes names 'bird', and .* it has cat, dog"):
        convert(tmp_path / "set", tmp_path / "none", "coco", classes=["cat", "bird"])
    with pytest.raises(SettingsError, match="--map names 'bird', and .* it has cat, dog"):
        convert(tmp_path / "set", tmp_path / "none", "coco", rename={"bird": "cat"})


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


@pytest.mark.parametrize("besides", ["train", "val"])
def test_a_trainval_that_joins_nothing_is_written_too(
    tiny_voc: TinyVoc, tmp_path: Path, besides: str
) -> None:
    root = tiny_voc(splits={"trainval": ["a", "b"], besides: ["c"]})
    done = convert(root, tmp_path / "coco", "coco")
    assert done.images == {"trainval": 2, besides: 1}
    with pytest.raises(SettingsError, match="not trainval"):
        convert(root, tmp_path / "yolo", "yolo")


def test_yolo_gets_the_val_that_its_tools_demand(
    tiny_voc: TinyVoc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc(splits={"train": ["a", "b", "c"], "test": ["d"]})
    done = convert(root, tmp_path / "made", "yolo")
    assert list(done.images) == ["train", "val", "test"]
    learn, held = load_training(root, "train", "val")
    assert held is not None
    for split, images in (("train", learn), ("val", held)):
        assert {i.image_id for i in load(done.out, split).images} == {
            i.image_id for i in images.images
        }
    caplog.clear()
    one = convert(root, tmp_path / "one", "yolo", splits=["train"])
    assert yaml.safe_load((one.out / "data.yaml").read_text())["val"] == "images/train"
    assert "data.yaml names the photos of train as val" in caplog.text
    assert len(load(one.out, "val")) == 3
    test = convert(root, tmp_path / "test", "yolo", splits=["test"])
    content = yaml.safe_load((test.out / "data.yaml").read_text())
    assert (content["train"], content["val"], content["test"]) == ("", "", "images/test")
    assert list(recognise(test.out).lists) == ["test"]


def test_images_without_photo(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc()
    (root / "JPEGImages/a.jpg").unlink()
    assert load(convert(root, tmp_path / "coco", "coco").out, "train").missing_photos == ("a",)
    done = convert(root, tmp_path / "yolo", "yolo")
    lost = "annotations without photo (YOLO has no sizes) of"
    assert done.lost == [f"{lost} 1 images", f"{lost} 2 objects"]
    assert done.images == {"train": 1, "val": 2}


def test_images_without_objects_stay(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc({"a": [("dog", (5, 6, 30, 35))], "b": [], "c": [], "d": []})
    done = convert(root, tmp_path / "yolo", "yolo")
    assert done.lost == []
    assert (done.out / "labels/train/b.txt").read_bytes() == b""
    assert done.images == {"train": 2, "val": 2}
    for k, to in enumerate(("coco", "voc")):
        back = convert(done.out, tmp_path / f"back{k}", to)
        assert (back.images, back.objects) == ({"train": 2, "val": 2}, {"train": 1, "val": 0})
    (root / "JPEGImages/b.jpg").unlink()
    lost = convert(root, tmp_path / "less", "yolo").lost
    assert lost == ["annotations without photo (YOLO has no sizes) of 1 images"]


def test_what_readers_leave_out_is_listed(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    objects = [
        *[coco_object(7, 1, [1, 2, 30, 20])] * 40,
        coco_object(7, 1, [50, 10, 13, 20], score=0.5, attributes={"colour": "red", "age": 0}),
        coco_object(7, 1, [55, 10, 30, 20], segmentation=[[1, 2, 3, 4, 5, 6]]),
        coco_object(7, 1, [10, 10, 0, 5]),
        {"image_id": 7, "category_id": 1},
    ]
    image = {**coco_image(7, "a.jpg"), "license": 4, "date_captured": ""}
    path = write_coco_file(tmp_path / "train.json", [image], objects)
    content = json.loads(path.read_text())
    extra = {"info": {"year": 2026}, "licenses": [{"id": 4, "name": "BY"}], "videos": []}
    path.write_text(json.dumps(content | extra))
    lost = convert(path, tmp_path / "out", "coco").lost
    assert lost == [
        "train: masks of 1 objects",
        "train: attribute 'colour' of 1 objects",
        "train: license of 1 images",
        "train: score of 1 objects",
        "train: info",
        "train: licenses",
        "train: supercategories (animal)",
        "train: 1 objects without bbox",
        "train: 1 boxes that have no area and are left out",
        "train: 1 boxes that lie mostly outside their images and are left out",
        "train: 1 boxes that reach outside their images and are cut off at the border",
    ]
    assert convert(tmp_path / "out", tmp_path / "again", "coco").lost == []
    ids = [o.number for o in load(tmp_path / "again", "train").images[0].objects]
    assert ids == list(range(1, 42))


def test_what_two_made_splits_lose_of_one_list_is_said_once(tmp_path: Path) -> None:
    for name in "ab":
        photo(tmp_path / "set" / f"{name}.jpg")
    objects = [coco_object(k, 1, [1, 2, 30, 20], segmentation=[[1, 2, 3]]) for k in (1, 2)]
    images = [coco_image(1, "a.jpg"), coco_image(2, "b.jpg")]
    write_coco_file(tmp_path / "set" / "train.json", images, objects, [{"id": 1, "name": "x"}])
    done = convert(tmp_path / "set", tmp_path / "out", "yolo")
    assert done.images == {"train": 1, "val": 1}
    assert done.lost == [
        "train and val: masks of 2 objects", "ids of images, categories, annotations",
    ]  # fmt: skip


def test_annotation_ids_that_stand_twice_are_lost(tmp_path: Path) -> None:
    objects = [coco_object(1, 1, [1, 2, 30, 20], id=5), coco_object(1, 1, [1, 2, 9, 9], id=5)]
    path = write_coco_file(
        tmp_path / "train.json", [coco_image(1, "a.jpg")], objects, [{"id": 1, "name": "x"}]
    )
    done = convert(path, tmp_path / "out", "coco")
    assert done.lost == ["ids of annotations: they are counted anew"]


def test_photos_get_the_suffix_by_which_readers_know_them(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "b.png").rename(tmp_path / "photos" / "b")
    Image.new("RGB", (60, 40)).save(tmp_path / "photos" / "c.gif")
    images = [coco_image(1, "photos/b"), coco_image(2, "photos/c.gif")]
    path = write_coco_file(tmp_path / "train.json", images, [coco_object(1, 1, [1, 2, 9, 9])])
    for to in ("voc", "yolo"):
        done = convert(path, tmp_path / to, to, splits=["train"])
        assert [i.photo.suffix for i in load(done.out, "train").photos] == [".png", ".gif"]
    gif = "photos as GIF, which Ultralytics does not read, of 1 images"
    assert gif in done.lost


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
