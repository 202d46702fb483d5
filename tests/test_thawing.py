"""Thawing from cached maps and from photos: what learns, what is kept, how it goes on."""

from __future__ import annotations

import pytest
import torch

from frostbox import backbones
from frostbox.backbones.stages import Stages
from frostbox.data.voc import load
from frostbox.detector import Detector
from frostbox.errors import SettingsError
from frostbox.features.extract import extract
from frostbox.heads import create_head
from frostbox.learning import feature_spec
from frostbox.thawing import PhotoViews, samples, stage_count
from frostbox.training import CachedViews
from tests.shapes import write_shapes

SIZE = (96, 64)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A data set, a backbone, a pyramid head and the cache of two views."""
    folder = tmp_path_factory.mktemp("thaw")
    train = load(write_shapes(folder / "VOC2012", train=8, val=4), "train")
    backbone = backbones.create("lite0", (8, 16, 32))
    cache = extract(train, backbone, folder / "c", size=SIZE, views=2, engine="torch")
    torch.manual_seed(0)
    head = create_head("pyramid", feature_spec(backbone, SIZE), 3, {"width": 16, "depth": 1})
    return train, backbone, head, cache


@pytest.mark.parametrize(("text", "count"), [("none", 0), ("1", 1), ("2", 2), ("3", 3), ("all", 3)])
def test_stages_by_number_and_name(text, count):
    assert stage_count(text, 3) == count


@pytest.mark.parametrize("text", ["0", "4", "some", "-1", "1.5", ""])
def test_other_numbers_of_stages_are_refused(text):
    with pytest.raises(SettingsError, match="give none, all, or a number of stages from 1 to 3"):
        stage_count(text, 3)


def test_cached_maps_up_to_the_boundary_are_read_and_no_others(scene):
    train, backbone, head, cache = scene
    for count, strides in ((1, (8, 16)), (2, (8,))):
        stages = Stages(backbone, count)
        maps, encoded = samples(cache, train, backbone, head, stages).__getitems__([(0, 0), (3, 1)])
        whole, same = samples(cache, train, backbone, head, None).__getitems__([(0, 0), (3, 1)])
        assert [m.shape[1] for m in maps] == list(backbone.channels[: len(strides)])
        for ours, theirs in zip(stages([m.float() for m in maps]), whole, strict=True):
            # What the stages start from was rounded to float16.
            torch.testing.assert_close(ours, theirs.float(), rtol=0.02, atol=0.02)
        assert all(torch.equal(encoded[k], same[k]) for k in same)


def test_photos_as_they_are_give_the_maps_and_targets_of_the_cache(scene):
    train, backbone, head, cache = scene
    stages = Stages(backbone, 3)
    photos = samples(cache, train, backbone, head, stages, drawn=False)
    assert isinstance(photos, PhotoViews)
    pictures, encoded = photos.__getitems__([(0, 0), (5, 0)])
    cached, same = CachedViews(cache, train, head).__getitems__([(0, 0), (5, 0)])
    assert pictures[0].dtype == torch.uint8
    for ours, theirs in zip(stages(pictures), cached, strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-2, atol=2e-2)
    count = encoded["labels"].shape[1]
    assert torch.equal(encoded["boxes"], same["boxes"][:, :count])
    assert photos.objects == CachedViews(cache, train, head).objects


def test_a_draw_decides_the_view_of_a_photo(scene):
    train, backbone, head, cache = scene
    photos = samples(cache, train, backbone, head, Stages(backbone, 3))
    first, second = (photos.__getitems__([(1, 9)])[0][0] for _ in range(2))
    other = photos.__getitems__([(1, 15)])[0][0]
    plain, flipped = (photos.__getitems__([(1, draw)])[0][0] for draw in (6, 7))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(plain.flip(3), flipped)


def test_a_mosaic_of_photos_has_the_maps_and_boxes_of_the_cached_one(scene, tmp_path):
    train, backbone, head, _ = scene
    cache = extract(train, backbone, tmp_path / "c", size=SIZE, views=3, engine="torch")
    stages = Stages(backbone, 3)
    (pictures,), found = samples(cache, train, backbone, head, stages).__getitems__([(4, 2)])
    maps, known = CachedViews(cache, train, head).__getitems__([(4, 2)])
    for ours, theirs in zip(stages([pictures]), maps, strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-2, atol=2e-2)
    count = found["labels"].shape[1]
    assert torch.equal(found["boxes"], known["boxes"][:, :count])
    assert torch.equal(found["labels"], known["labels"][:, :count])
    alone = len(train.photos[4].objects)
    assert (known["labels"] >= 0).sum() > alone


def test_a_thawed_backbone_is_saved_whole_or_not_at_all(scene, tmp_path):
    from frostbox.selection import Settings

    train, _, head, _ = scene
    backbone = backbones.create("lite0", (8, 16, 32))
    known = backbone.weights_hash
    with torch.no_grad():
        next(Stages(backbone, 1).parameters()).mul_(2)
    backbone.retrained()
    detector = Detector(backbone, head, "pyramid", Settings(train.classes, SIZE))
    with pytest.raises(SettingsError, match="the backbone was thawed"):
        detector.save(tmp_path / "d.safetensors", head_only=True)
    loaded = Detector.load(detector.save(tmp_path / "d.safetensors"))
    assert loaded.backbone.thawed
    assert loaded.backbone.weights_hash == backbone.weights_hash != known
    picture = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    for ours, theirs in zip(loaded(picture[None]), detector(picture[None]), strict=True):
        assert torch.equal(ours, theirs)
