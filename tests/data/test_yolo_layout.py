"""YOLO's layouts: every one that tools write, and nothing outside of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostbox.data.formats import load
from frostbox.data.yolo_find import find_yolo
from frostbox.data.yolo_layout import YoloFolder, label_file, photos_of
from frostbox.errors import DataError, NotFoundError
from tests.data.sets import photo
from tests.data.test_yolo import YAML, read, write_set


def test_an_id_depends_on_the_path_of_its_own_photo(tmp_path: Path) -> None:
    root = write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (root / "images/train/street").mkdir()
    (root / "images/train/a.jpg").rename(root / "images/train/street/c.jpg")
    (root / "labels/train/a.txt").unlink()
    (root / "labels/train/street").mkdir()
    (root / "labels/train/street/c.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert [image.image_id for image in read(root).images] == ["street/c"]
    photo(root / "images/train/more/c.jpg")
    photo(root / "images/train/train/c.jpg")
    photo(root / "images/train/d.jpg")
    ids = [image.image_id for image in read(root).images]
    assert ids == ["d", "more/c", "street/c", "train/c"]
    # Another folder in the YAML, with a photo of the same name as one that is there.
    photo(root / "extra/d.jpg")
    photo(root / "train/images/d.jpg")
    yaml = YAML.replace("images/train", "[images/train, extra, train/images]")
    (root / "data.yaml").write_text(yaml)
    ids = [image.image_id for image in read(root).images]
    assert ids[1:4] == ["more/c", "street/c", "train/c"]
    assert [ids[0], *ids[4:]] == ["images/train/d.jpg", "extra/d", "train/images/d.jpg"]


def test_a_made_split_stays_when_a_folder_is_added(tmp_path: Path) -> None:
    for k in range(10):
        photo(tmp_path / f"images/one/{k}.jpg")
        (tmp_path / "labels/one").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/one/{k}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    before = {i.image_id for i in load(tmp_path, "val").images}
    photo(tmp_path / "images/two/0.jpg")
    after = {i.image_id for i in load(tmp_path, "val").images}
    assert len(before) == 2
    assert before <= after


def test_names_as_mapping_with_gaps_and_words_that_yaml_takes_for_others(tmp_path: Path) -> None:
    yaml = "train: images/train\nnames:\n  7: no\n  3: 007\n  10: 'on'\n"
    dataset = read(write_set(tmp_path, "10 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n", yaml))
    assert dataset.classes == ("007", "no", "on")
    assert [obj.name for obj in dataset.images[0].objects] == ["on", "no"]


def test_only_a_number_of_classes(tmp_path: Path) -> None:
    assert read(write_set(tmp_path, "", "train: images/train\nnc: 2\n")).classes == (
        "class_0", "class_1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\nnc: 3\nnames: [a, b]\n", "nc is 3 and names has 2"),
        ("train: images/train\nnames: {a: b}\n", "names has a key that is no number"),
        ("train: images/train\nnames: [a, a]\n", "holds the class name 'a' twice"),
        ("train: images/train\nnames: text\n", "names is 'text'"),
        ("names: [a]\nnc: 1\ntrain:\n", "has neither train nor val"),
        ("train: images/other\nnames: [a]\n", "train is 'images/other'; there is no such folder"),
        ("train: [\nnames: [a]\n", "is not YAML"),
        (YAML + "train: images/val\n", "the key 'train' stands in line 1 and in line 4; remove"),
        ("train: images/train\nnames: {0: a, 1: b, 0: c}\n", "the key '0' stands in line 2"),
        ("train: images/train\nnames: {0: a, '00': b}\n", "keys '0' and '00', which are one"),
        (
            'train: images/train\nnames: ["a\\x1b[31m"]\n',
            r"'a\\x1b\[31m', which has a control",
        ),
    ],
)
def test_faulty_yaml(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises((DataError, NotFoundError), match=message):
        read(write_set(tmp_path, "", yaml))


def test_yaml_that_would_run_code_is_text(tmp_path: Path) -> None:
    root = write_set(
        tmp_path, "", "train: images/train\nnames: [!!python/object/apply:os.getcwd []]\n"
    )
    with pytest.raises(DataError, match=r"names has \[\], which is no name"):
        read(root)


def test_roboflow(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        photo(tmp_path / split / "images/a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['x']\n"
    )
    for split in ("train", "val", "test"):
        assert len(read(tmp_path, split).images[0].objects) == 1


def test_a_test_split_that_is_not_there_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n", YAML + "test: ../test/images\n")
    folder = find_yolo(tmp_path)
    assert folder is not None
    assert set(folder.splits) == {"train", "val"}
    assert "test is '../test/images'" in caplog.text
    (tmp_path / "data.yaml").write_text(YAML.replace("images/val", "images/gone"))
    with pytest.raises(
        NotFoundError, match="val is 'images/gone'.* or remove it, and a val is made"
    ):
        find_yolo(tmp_path)


def test_hidden_folders_hold_no_photos(tmp_path: Path) -> None:
    write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    photo(tmp_path / "images/train/.ipynb_checkpoints/a-checkpoint.jpg")
    assert [image.image_id for image in read(tmp_path).images] == ["a"]


def test_the_names_may_lie_beside_the_labels(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "labels/classes.txt").write_text("cat\ndog\n")
    assert [obj.name for obj in read(tmp_path, "all").images[0].objects] == ["dog"]


def test_path_and_lists(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", "1 0.5 0.5 0.5 0.5\n")
    absolute = (root / "images/val/b.jpg").resolve()
    (root / "train.txt").write_text(f"./images/train/a.jpg\n{absolute}\n\n")
    (root / "data.yaml").unlink()
    yaml = tmp_path / "cfg.yaml"
    yaml.write_text("path: data\ntrain: train.txt\nval: [images/val]\nnames: [cat, dog]\n")
    assert [image.image_id for image in read(yaml).images] == ["a", "val/b"]


def test_absolute_paths_of_another_machine_are_looked_for_by_their_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As notebooks on Colab and Windows write them."""
    yaml = "train: /content/set/images/train\nval: D:\\set\\images\\val\nnames: [cat]\n"
    folder = find_yolo(write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n", yaml))
    assert folder is not None
    assert folder.splits["train"] == (tmp_path / "images/train",)
    assert folder.splits["val"] == (tmp_path / "images/val",)
    assert "train is '/content/set/images/train', which is not there; read is" in caplog.text
    # The last part alone says too little, and what is there is meant.
    for entry in ("/content/set/images", str(photo(tmp_path.parent / "other/train/a.jpg").parent)):
        (tmp_path / "data.yaml").write_text(f"train: {entry}\nnames: [cat]\n")
        with pytest.raises(NotFoundError, match="leads out"):
            find_yolo(tmp_path)


def test_path_may_lie_in_the_folder_of_data_sets(tmp_path: Path) -> None:
    """Ultralytics' own YAML files say `path: coco8`, which lies in its datasets folder."""
    write_set(tmp_path / "datasets/coco8", "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "code").mkdir()
    for place in (tmp_path, tmp_path / "code"):
        (place / "coco8.yaml").write_text("path: coco8\n" + YAML)
        folder = find_yolo(place / "coco8.yaml")
        assert folder is not None
        assert folder.splits["train"][0].resolve() == tmp_path / "datasets/coco8/images/train"
    (tmp_path / "coco8.yaml").write_text("path: coco9\n" + YAML)
    with pytest.raises(NotFoundError, match=r"Its path, 'coco9', is not there either\."):
        find_yolo(tmp_path / "coco8.yaml")


def test_lists_cannot_lead_out(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", "", YAML.replace("images/train", "train.txt"))
    photo(tmp_path / "secret.jpg")
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "images/train/gone.jpg"):
        (root / "train.txt").write_text(f"images/train/a.jpg\n{name}\n")
        with pytest.raises(DataError, match=r"train.txt, line 2: .*no such photo in"):
            read(root)


def test_a_folder_outside_is_taken_only_from_a_yaml_that_was_given(tmp_path: Path) -> None:
    write_set(tmp_path / "elsewhere", "0 0.5 0.5 0.5 0.5\n")
    given = tmp_path / "cfg" / "data.yaml"
    given.parent.mkdir()
    given.write_text(f"path: {tmp_path / 'elsewhere'}\n{YAML}")
    assert len(read(given)) == 1
    with pytest.raises(DataError, match="path is .* which leads out of"):
        read(given.parent)
    given.write_text("train: ../elsewhere/images/train\nnames: [a]\n")
    with pytest.raises(NotFoundError, match="which leads out of .* with an absolute path in it"):
        read(given)
    given.write_text(f"train: {tmp_path / 'elsewhere/images/train'}\nnames: [a]\n")
    (image,) = read(given).images
    assert (image.image_id, len(image.objects)) == ("a", 1)
    with pytest.raises(NotFoundError, match="which leads out of .*: give the YAML file itself"):
        read(given.parent)
    (tmp_path / "elsewhere/list.txt").write_text(f"{tmp_path}/elsewhere/images/train/a.jpg\n")
    given.write_text(f"train: {tmp_path / 'elsewhere/list.txt'}\nnames: [a]\n")
    assert [len(image.objects) for image in read(given).images] == [1]


def test_a_label_file_outside_is_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", "")
    (tmp_path / "secret.txt").write_text("password\n")
    label = root / "labels/train/a.txt"
    label.unlink()
    label.symlink_to(tmp_path / "secret.txt")
    for data in (root, root / "data.yaml"):
        with pytest.raises(DataError, match=r"a.txt, the label file of a.jpg, lies at .*secret"):
            read(data)
    label.unlink()
    (root / "real.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    label.symlink_to("../../real.txt")
    assert len(read(root).images[0].objects) == 1


def test_links_are_followed_inside_and_reported_outside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_set(tmp_path / "data", "0 0.5 0.5 0.5 0.5\n")
    photo(root / "raw/b.jpg")
    photo(tmp_path / "outside/c.jpg")
    train = root / "images/train"
    (train / "again").symlink_to(".")
    (train / "inside").symlink_to(root / "raw")
    (train / "outside").symlink_to(tmp_path / "outside")
    (train / "c.jpg").symlink_to(tmp_path / "outside/c.jpg")
    assert [image.image_id for image in read(root).images] == ["a", "inside/b"]
    assert f"train: 2 links lead out of {root} and are left out ({train / 'c.jpg'}" in caplog.text
    (root / "data.yaml").write_text(YAML.replace("images/train", "train.txt"))
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/outside/c.jpg\n")
    assert [image.image_id for image in read(root).images] == ["a"]
    (train / "a.jpg").unlink()
    (root / "data.yaml").write_text(YAML)
    (train / "inside").unlink()
    with pytest.raises(NotFoundError, match=r"no photo for the split 'train'; 2 links lead out"):
        read(root)


def test_folders_that_are_links_need_a_yaml_that_was_given(tmp_path: Path) -> None:
    write_set(tmp_path / "disk", "0 0.5 0.5 0.5 0.5\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.yaml").write_text(YAML)
    for name in ("images", "labels"):
        (data / name).symlink_to(tmp_path / "disk" / name)
    with pytest.raises(DataError, match="is a link to .* which leads out of .*; give a data.yaml"):
        read(data)
    (image,) = read(data / "data.yaml").images
    assert (image.image_id, len(image.objects)) == ("a", 1)


def test_label_files_without_photo_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (root / "labels/train/classes.txt").write_text("cat\n")
    read(root)
    assert "have no photo" not in caplog.text
    (root / "labels/train/gone").mkdir()
    for name in ("b", "gone/c"):
        (root / f"labels/train/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    dataset = read(root)
    assert f"train: 2 label files have no photo and are not read: {root}/labels/train/b.txt" in (
        caplog.text
    )
    assert dataset.unread == ("2 label files without photo",)
    caplog.clear()
    (root / "data.yaml").write_text("train: flat\nnames: [cat]\n")
    photo(root / "flat/a.jpg")
    (root / "flat/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "flat/README.txt").write_text("hello\n")
    assert not read(root).unread
    (root / "flat/b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert read(root).unread == ("1 label files without photo",)


def test_a_label_file_of_two_photos_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    read(root)
    assert "belong to two photos" not in caplog.text
    photo(root / "images/train/a.png")
    assert [len(image.objects) for image in read(root).images] == [1, 1]
    assert "1 label files belong to two photos, and both get the objects: labels/train/a.txt" in (
        caplog.text
    )


def test_cvats_darknet_export(tmp_path: Path) -> None:
    photo(tmp_path / "obj_train_data/sub/a.jpg")
    (tmp_path / "obj_train_data/sub/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/sub/a.jpg\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    for data in (tmp_path, tmp_path / "obj.data"):
        (image,) = read(data).images
        assert (image.image_id, image.objects[0].name) == ("sub/a", "dog")


def test_label_studio_and_labelimg(tmp_path: Path) -> None:
    studio, labelimg = tmp_path / "studio", tmp_path / "labelimg"
    photo(studio / "images/a.jpg")
    photo(labelimg / "a.jpg")
    (studio / "labels").mkdir()
    for root, place in ((studio, "labels/a.txt"), (labelimg, "a.txt")):
        (root / place).write_text("1 0.5 0.5 0.5 0.5\n")
        with pytest.raises(DataError, match="nothing that names the classes; write classes.txt"):
            find_yolo(root)
        (root / "classes.txt").write_text("cat\ndog\n")
        (image,) = read(root, "all").images
        assert (image.image_id, image.objects[0].name) == ("a", "dog")


def test_folders_of_splits_without_yaml(tmp_path: Path) -> None:
    write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\n")
    folder = find_yolo(tmp_path)
    assert folder is not None
    assert set(folder.splits) == {"train", "val"}
    assert photos_of(folder, "train") == [tmp_path / "images/train/a.jpg"]


def test_folders_of_splits_may_bear_a_year(tmp_path: Path) -> None:
    """As those of COCO 2017 for Ultralytics, without the YAML."""
    write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\n")
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").rename(tmp_path / kind / "train2017")
    photo(tmp_path / "images/val2017/b.jpg")
    folder = find_yolo(tmp_path)
    assert folder is not None
    assert folder.splits["train"] == (tmp_path / "images/train2017",)
    assert tmp_path / "images/val2017" in folder.splits["val"]


def test_capital_folders(tmp_path: Path) -> None:
    write_set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "images").rename(tmp_path / "Images")
    (tmp_path / "labels").rename(tmp_path / "Labels")
    (tmp_path / "data.yaml").write_text(YAML.replace("images", "Images"))
    assert [(i.image_id, len(i.objects)) for i in read(tmp_path).images] == [("a", 1)]
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "Images/train").rename(tmp_path / "Images/Train")
    (tmp_path / "Labels/train").rename(tmp_path / "Labels/Train")
    assert [(i.image_id, len(i.objects)) for i in read(tmp_path).images] == [("a", 1)]


def test_labels_beside_the_photos_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):  # Roboflow's darknet export
        photo(tmp_path / split / "a.jpg")
        (tmp_path / split / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
        (tmp_path / split / "_darknet.labels").write_text("cat\ndog\n")
    for split in ("train", "val"):
        (image,) = read(tmp_path, split).images
        assert (image.image_id, image.objects[0].name) == ("a", "dog")
    (tmp_path / "valid/_darknet.labels").write_text("dog\ncat\n")
    with pytest.raises(DataError, match="do not name the same classes in the same order"):
        read(tmp_path)
    for path in (tmp_path / "valid").iterdir():
        path.unlink()
    (tmp_path / "train/_darknet.labels").rename(tmp_path / "obj.names")
    (tmp_path / "train").rename(tmp_path / "obj_Train_data")  # CVAT's without obj.data
    assert len(read(tmp_path).images[0].objects) == 1


def test_what_is_no_yolo_set(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "settings.yaml").write_text("a: 1\n")
    assert find_yolo(tmp_path) is None
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("train: .\nnames: [a]\n")
    with pytest.raises(DataError, match=r"several descriptions .*one.yaml, two.yaml"):
        find_yolo(tmp_path)


def test_the_last_images_in_a_path_is_replaced() -> None:
    folder = YoloFolder(Path("/"), Path("/x"), {}, {})
    for photo_path, label_path in (
        ("/images/x/images/a.b.jpg", "/images/x/labels/a.b.txt"),
        ("/x/Images/train/a.jpg", "/x/Labels/train/a.txt"),
        ("/data/a.jpg", "/data/a.txt"),
    ):
        assert label_file(folder, Path(photo_path)) == Path(label_path)
