"""Photos of every kind: decoded to the right colours, or refused by name."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features
from torchvision.transforms.v2 import functional as F

from frostbox.data import photos
from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.photo_names import Fence, image_ids, photos_below
from frostbox.data.photos import (
    check_photo_sizes,
    image_size,
    read_enough,
    read_image,
    read_thumbnail,
)
from frostbox.data.voc import read_voc
from frostbox.data.voc_layout import Photos
from frostbox.errors import DataError, NotFoundError
from tests.conftest import TinyVoc
from tests.damage import PNG_FAULTS, damaged_png


@pytest.fixture
def picture() -> Image.Image:
    """60 x 40, RGB, smooth, with another colour in every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 40))
    return Image.fromarray(np.stack((220 * x, 200 * y, 90 + 0 * x), axis=-1).astype(np.uint8))


def _assert_close(image: torch.Tensor, expected: Image.Image, tolerance: int) -> None:
    assert image.dtype == torch.uint8
    pixels = np.asarray(expected.convert("RGB")).astype(int)
    assert image.shape == (3, *pixels.shape[:2])
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - pixels).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [
        ("RGB", "jpg", 12),
        ("L", "jpg", 12),
        ("CMYK", "jpg", 12),
        ("RGB", "png", 0),
        ("RGBA", "png", 0),
        ("L", "png", 0),
        ("LA", "png", 0),
        ("P", "png", 0),
        ("1", "png", 0),
        ("RGB", "bmp", 0),
        ("RGB", "tif", 0),
        ("RGB", "webp", 20),
        ("P", "gif", 0),
        pytest.param(
            "RGB",
            "avif",
            40,
            marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF"),
        ),
    ],
)
def test_colours(
    tmp_path: Path, picture: Image.Image, mode: str, suffix: str, tolerance: int
) -> None:
    converted = picture.convert(mode)
    path = tmp_path / f"picture.{suffix}"
    converted.save(path)
    _assert_close(read_image(path), converted, tolerance)


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    for suffix in ("gif", "webp"):
        path = tmp_path / f"moving.{suffix}"
        first.save(path, save_all=True, append_images=[second], lossless=True)
        _assert_close(read_image(path), first, 2)


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_is_named_with_a_way_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    for read in (image_size, read_image):
        with pytest.raises(DataError, match=f"{name} is HEIC, which .* save the photo as JPEG"):
            read(path)


@pytest.mark.parametrize("name", ["a.gif", "b.AVIF", "c.heic"])
def test_photos_of_rarer_kinds_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert photos_below(tmp_path, Fence([tmp_path])) == ([tmp_path / name], [])
    assert Photos(tmp_path).find(name[0], "") == tmp_path / name
    assert image_ids([name]) == [name[0]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 2400).astype(np.uint16).reshape(40, 60)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    expected = np.round(values / 257).astype(np.uint8)
    assert np.array_equal(read_image(path).numpy(), np.stack([expected] * 3))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(DataError, match=r"float\.tif has 32 bits a channel"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(
    tmp_path: Path, picture: Image.Image, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    picture.save(path, exif=exif)
    assert image_size(path) == (60, 40, orientation)
    with Image.open(path) as stored:
        upright = ImageOps.exif_transpose(stored)
    _assert_close(read_image(path), upright, 20)
    _assert_close(read_image(path, exif=False), picture, 20)


def _quarter_turn() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_thumbnail_is_the_photo_in_small(
    tmp_path: Path, picture: Image.Image, suffix: str
) -> None:
    path = tmp_path / f"photo.{suffix}"
    large = picture.resize((picture.width * 8, picture.height * 8))
    large.save(path, exif=_quarter_turn(), **({"quality": 95} if suffix == "jpg" else {}))
    side = max(large.size) // 4
    for exif in (True, False):
        thumbnail = read_thumbnail(path, side, exif)
        whole = Image.fromarray(read_image(path, exif).permute(1, 2, 0).numpy())
        assert thumbnail.size == (whole.width // 4, whole.height // 4)
        expected = np.asarray(whole.resize(thumbnail.size, Image.Resampling.LANCZOS), float)
        assert np.abs(np.asarray(thumbnail, float) - expected).mean() < 4
    assert read_thumbnail(path, 10 * side).size == (large.height, large.width)
    with pytest.raises(NotFoundError, match="does not exist"):
        read_thumbnail(tmp_path / "none.jpg", side)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_no_more_of_a_large_jpeg_is_decoded_than_is_enough(
    tmp_path: Path, picture: Image.Image, orientation: int, exif: bool, mode: str, monkeypatch
) -> None:
    path = tmp_path / "large.jpg"
    tags = Image.Exif()
    tags[0x0112] = orientation
    large = picture.resize((1203, 801)).convert(mode)
    large.save(path, exif=tags, quality=95)
    whole = read_image(path, exif)
    asked: list[tuple[int, int]] = []

    def share_of(value: float):
        return lambda size: (asked.append(size), value)[1]

    size = (whole.shape[2], whole.shape[1])
    # A small file is decoded whole.
    small, seen = read_enough(path, exif, share_of(0.1))
    assert torch.equal(small, whole)
    assert (seen, asked) == (size, [])
    monkeypatch.setattr(photos, "_LARGE_FILE", 1)
    for share, parts in ((0.9, 1), (0.51, 1), (0.4, 2), (0.2, 4), (0.01, 8)):
        found, seen = read_enough(path, exif, share_of(share))
        assert seen == size
        assert found.shape == (3, -(-whole.shape[1] // parts), -(-whole.shape[2] // parts))
        assert found.dtype == torch.uint8
        expected = F.resize(whole, list(found.shape[1:]), antialias=True)
        assert (found.float() - expected.float()).abs().mean() < 2
    assert set(asked) == {size}


def test_what_is_no_whole_jpeg_is_decoded_or_refused_as_ever(
    tmp_path: Path, picture: Image.Image, monkeypatch
) -> None:
    monkeypatch.setattr(photos, "_LARGE_FILE", 1)
    for name in ("a.png", "a.webp", "a.bmp"):
        picture.save(tmp_path / name)
        found, size = read_enough(tmp_path / name, True, lambda _: 0.2)
        assert torch.equal(found, read_image(tmp_path / name))
        assert size == picture.size
    broken = tmp_path / "broken.jpg"
    picture.save(broken)
    whole = broken.read_bytes()
    for share in (0.0, 0.02, 0.6, 0.9):
        (tmp_path / "half.jpg").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"half\.jpg") as caught:
            read_enough(tmp_path / "half.jpg", True, lambda _: 0.2)
        assert ("is empty (0 bytes)" in str(caught.value)) == (share == 0)
    with pytest.raises(NotFoundError, match="does not exist"):
        read_enough(tmp_path / "none.jpg", True, lambda _: 0.2)


def test_what_pillow_refuses_is_left_to_the_other_decoder(
    tmp_path: Path, picture: Image.Image, monkeypatch
) -> None:
    monkeypatch.setattr(photos, "_LARGE_FILE", 1)
    path = tmp_path / "large.jpg"
    picture.resize((600, 400)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    found, size = read_enough(path, True, lambda _: 0.1)
    assert torch.equal(found, read_image(path))
    assert size == (600, 400)


@pytest.mark.parametrize("large", [1, 10**9])
def test_an_orientation_in_xmp_alone_is_none(
    tmp_path: Path, picture: Image.Image, large: int, monkeypatch
) -> None:
    monkeypatch.setattr(photos, "_LARGE_FILE", large)
    path = tmp_path / "xmp.jpg"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    picture.resize((600, 400)).save(path, xmp=xmp)
    with Image.open(path) as image:
        assert image.getexif().get(0x0112) == 6  # Pillow looks there
    assert image_size(path) == (600, 400, 1)
    assert read_image(path).shape == (3, 400, 600)
    found, size = read_enough(path, True, lambda _: 0.3)
    assert size == (600, 400)
    assert found.shape == ((3, 200, 300) if large == 1 else (3, 400, 600))


def test_a_tiff_is_always_upright(tmp_path: Path, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.tif"
    picture.save(path, exif=exif)
    assert image_size(path) == (40, 60, 1)
    for apply in (True, False):
        _assert_close(
            read_image(path, exif=apply), picture.transpose(Image.Transpose.ROTATE_270), 0
        )


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.9])
def test_truncated_photos_are_refused(tmp_path: Path, share: float, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert ("is empty (0 bytes)" in str(caught.value)) == (share == 0)
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


@pytest.mark.parametrize("fault", PNG_FAULTS)
def test_a_png_with_damaged_data_is_refused(tmp_path: Path, fault: str) -> None:
    """torchvision 0.29 ended the whole process at each of these."""
    path = tmp_path / "a.png"
    path.write_bytes(damaged_png(fault))
    with pytest.raises(DataError, match=r"a\.png"):
        read_image(path)


def test_a_jpeg_with_zeros_for_a_tail_is_refused(tmp_path: Path, picture: Image.Image) -> None:
    path = tmp_path / "a.jpg"
    picture.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3].ljust(len(whole), b"\0"))
    with pytest.raises(DataError, match="the file is truncated"):
        read_image(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("<html>404</html>")
    for function in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.jpg is not an image in a known format"):
            function(path)
        with pytest.raises(NotFoundError, match=r"b\.jpg does not exist"):
            function(tmp_path / "b.jpg")
        with pytest.raises(DataError, match="cannot be read"):
            function(tmp_path)


# Sizes against annotations


def _turned(tmp_path: Path, picture: Image.Image, stated: tuple[int, int]) -> DetectionSet:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = tmp_path / "turned.jpg"
    picture.save(photo, exif=exif)
    image = ImageAnnotation("turned", photo, *stated, (), tmp_path / "turned.xml")
    return DetectionSet("set", tmp_path, "train", ("dog",), "--classes", (image,))


@pytest.mark.parametrize(("stated", "exif"), [((40, 60), True), ((60, 40), False)])
def test_exif_is_applied_only_where_the_boxes_were_drawn_with_it(
    tmp_path: Path, picture: Image.Image, stated: tuple[int, int], exif: bool
) -> None:
    (image,) = check_photo_sizes(_turned(tmp_path, picture, stated)).images
    assert image.photo is not None
    assert image.exif is exif
    assert read_image(image.photo, exif=image.exif).shape == (3, stated[1], stated[0])


def test_sizes_that_differ_are_named(tiny_voc: TinyVoc) -> None:
    dataset = read_voc(tiny_voc(), "train")
    assert check_photo_sizes(dataset) == dataset
    wrong = dataset.subset([replace(dataset.images[0], width=61)] * 5)
    with pytest.raises(DataError) as caught:
        check_photo_sizes(wrong)
    message = str(caught.value)
    assert message.count("a.jpg is 60 x 40 pixels but") == 3
    assert message.count("a.xml says 61 x 40") == 3
    assert "and 2 more" in message


def test_missing_and_broken_photos_are_left_to_the_decoder(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / "b.jpg").write_bytes(b"")
    dataset = read_voc(root, "train")
    assert check_photo_sizes(dataset) == dataset


def test_headers_of_voc2007_are_read_in_time(voc2007: Path) -> None:
    dataset = read_voc(voc2007, "train")
    start = time.process_time()
    assert check_photo_sizes(dataset) == dataset
    assert time.process_time() - start < 2
