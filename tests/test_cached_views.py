"""What a head learns from a cache: the right maps beside the right boxes, mosaics too."""

from __future__ import annotations

import pytest
import torch

from frostbox import backbones
from frostbox.data.targets import targets
from frostbox.data.voc import load
from frostbox.features.extract import extract
from frostbox.heads import FeatureSpec, create_head
from frostbox.training import CachedViews
from tests.shapes import write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A data set with a cache of four views, of which the third is a mosaic."""
    folder = tmp_path_factory.mktemp("mosaics")
    dataset = load(write_shapes(folder / "VOC2012", train=6, val=1), "train")
    backbone = backbones.create("efficientnet_lite0", (32,))
    cache = extract(dataset, backbone, folder / "c", size=(64, 64), views=4, engine="torch")
    return dataset, cache, FeatureSpec((32,), cache.channels, cache.map_sizes)


def test_boxes_of_a_mosaic_are_those_of_its_four_images(shapes):
    dataset, cache, spec = shapes
    head = create_head("grid", spec, 3)
    samples = CachedViews(cache, dataset, head)
    assert samples.views == 4
    by_id = {image.image_id: image for image in dataset.images}
    ids = [image.image_id for image in dataset.photos]
    for row, image_id in enumerate(cache.ids):
        shown = [(image_id, cache.geometry(row, 2)), *cache.partners(row, 2, ids)]
        parts = [targets(by_id[name], dataset, moved) for name, moved in shown]
        assert len(parts) == 4
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        maps, found = samples.__getitems__([(row, 2)])
        for name, expected in head.encode([joined]).items():
            assert torch.equal(found[name], expected)
        assert torch.equal(maps[0], cache.read([(row, 2)])[0])


def test_a_head_for_whole_images_sees_no_mosaic(shapes):
    dataset, cache, spec = shapes
    samples = CachedViews(cache, dataset, create_head("single", spec, 3))
    assert [view.name for view in cache.views] == ["original", "flip", "mosaic 2", "zoom-in 3"]
    assert samples.views == 3
    for row in range(len(cache)):
        for view, stored in enumerate((0, 1, 3)):
            maps, _ = samples.__getitems__([(row, view)])
            assert torch.equal(maps[0], cache.read([(row, stored)])[0])
