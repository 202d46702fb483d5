"""Data sets by name: copies that are found, downloads that are unpacked where they belong."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT

from frostbox.data import named
from frostbox.data.formats import load, recognise
from frostbox.data.named import NAMES, SETS, is_name, locate
from frostbox.errors import NotFoundError
from tests.conftest import TINY, TinyVoc
from tests.data.sets import coco_image, coco_object, photo, write_coco_file


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No copy of anything: an empty folder to stand in."""
    monkeypatch.delenv("VOCDEVKIT", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def _coco(root: Path) -> Path:
    for split in ("train", "val"):
        photo(root / f"{split}2017" / f"{split}.jpg")
        write_coco_file(
            root / "annotations" / f"instances_{split}2017.json",
            [coco_image(1, f"{split}.jpg")], [coco_object(1, 90, [1, 2, 30, 20])],
        )  # fmt: skip
    return root


def _packed(source: Path, name: str, folder: Path) -> Path:
    """One of COCO's archives, of what `_coco` wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    part = source / ("annotations" if "annot" in name else name[:-4])
    with zipfile.ZipFile(folder / name, "w") as pack:
        for path in part.iterdir():
            pack.write(path, f"{part.name}/{path.name}")
    return folder / name


def test_addresses_and_checksums_of_voc_are_torchvisions() -> None:
    ours = {archive.url: archive.md5 for name in ("voc2007", "voc2012")
            for archive in SETS[name].archives}  # fmt: skip
    theirs = (DATASET_YEAR_DICT[key] for key in ("2007", "2007-test", "2012"))
    assert ours == {one["url"]: one["md5"] for one in theirs}


def test_names() -> None:
    assert NAMES == ("voc2007", "voc2012", "coco2017", "voc2007+2012")
    assert is_name("COCO2017")
    assert not is_name("coco")


def test_a_copy_is_found_where_the_environment_says(
    tiny_voc: TinyVoc, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_voc(name="kit/VOC2007")
    monkeypatch.setenv("VOCDEVKIT", str(root.parent))
    assert locate("voc2007") == [root]
    assert [i.image_id for i in load("voc2007", "train").images] == ["a", "b"]


def test_a_copy_is_found_here_and_in_the_users_folder(
    tiny_voc: TinyVoc, nowhere: Path, data_home: Path
) -> None:
    shutil.move(tiny_voc(), nowhere / "VOC2012")
    assert locate("voc2012") == [Path("VOC2012")]
    _coco(data_home / "coco2017")
    assert locate("coco2017") == [data_home / "coco2017"]
    dataset = load("coco2017", "val")
    assert dataset.classes == ("person", "cat", "dog")
    assert dataset.photos[0].photo == data_home / "coco2017/val2017/val.jpg"
    assert dataset.name == "coco2017"


def test_two_years_as_one(
    tiny_voc: TinyVoc, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = {f"2012_{k}": v for k, v in TINY.items()}
    old = tiny_voc(name="kit/VOC2007", splits={"train": ["a"], "val": ["b"], "test": ["c"]})
    tiny_voc(renamed, name="kit/VOC2012", splits={"train": ["2012_a"], "val": ["2012_d"]})
    monkeypatch.setenv("VOCDEVKIT", str(old.parent))
    source = recognise("voc2007+2012")
    assert set(source.lists) == {"train", "val", "test"}
    train = load(source, "train")
    assert [i.image_id for i in train.images] == ["a", "2012_a"]
    assert (train.name, train.classes[0]) == ("VOC2007+2012", "person")
    assert [i.image_id for i in load(source, "test").images] == ["c"]
    assert len(source.voc) == 2
    assert "VOC2007/ImageSets/Main/train.txt + VOC2012/ImageSets" in source.seen(train)


def test_a_download_is_unpacked_once(
    tiny_voc: TinyVoc, nowhere: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_voc(name="VOC2007")
    fetched: list[str] = []

    def fetch(archive, folder: Path, report=None) -> Path:
        fetched.append(archive.name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / archive.name
        with tarfile.open(path, "w") as tar:
            part = root / "Annotations" if "trainval" in archive.name else root
            tar.add(part, f"VOCdevkit/VOC2007/{part.name if part != root else ''}")
        return path

    monkeypatch.setattr(named, "fetch", fetch)
    dataset = load("voc2007", "train", require_photos=True)
    assert dataset.root == data_home / "VOCdevkit/VOC2007"
    assert fetched == ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"]
    assert list((data_home / "downloads").glob("*.tar")) == []  # the archives are not kept
    load("voc2007", "train")
    assert len(fetched) == 2


def test_coco_is_unpacked_into_its_own_folder(
    tmp_path: Path, nowhere: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _coco(tmp_path / "source")

    def fetch(archive, folder: Path, report=None) -> Path:
        report(1)
        return _packed(source, archive.name, folder)

    monkeypatch.setattr(named, "fetch", fetch)
    assert len(load("coco2017", "train", require_photos=True).photos) == 1
    assert (data_home / "coco2017/train2017/train.jpg").is_file()


def test_a_download_that_was_cut_off_goes_on_and_one_removed_begins_again(
    tmp_path: Path, nowhere: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _coco(tmp_path / "source")
    fetched: list[str] = []
    broken = True

    def fetch(archive, folder: Path, report=None) -> Path:
        if broken and archive.name == "train2017.zip":
            raise NotFoundError("the connection ended")
        fetched.append(archive.name)
        return _packed(source, archive.name, folder)

    monkeypatch.setattr(named, "fetch", fetch)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="the connection ended"):
            load("coco2017", "train")
    assert fetched == ["annotations_trainval2017.zip", "val2017.zip"]
    broken = False
    assert len(load("coco2017", "train", require_photos=True).photos) == 1
    assert len(fetched) == 3
    shutil.rmtree(data_home / "coco2017")
    assert len(load("coco2017", "train", require_photos=True).photos) == 1
    assert len(fetched) == 6


def test_a_download_that_fails_says_so(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(archive, folder: Path, report=None) -> Path:
        raise NotFoundError(f"{archive.url} cannot be downloaded")

    monkeypatch.setattr(named, "fetch", fetch)
    with pytest.raises(NotFoundError, match="cannot be downloaded"):
        locate("voc2012")
