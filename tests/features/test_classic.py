"""The classic path: one file for a TensorDataset."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from frostbox import backbones
from frostbox.errors import DataError
from frostbox.features import extract_save_features


def batches(sizes, grid=False):
    generator = torch.Generator().manual_seed(1)
    for size in sizes:
        images = torch.rand(size, 3, 64, 64, generator=generator)
        if grid:
            yield (
                images,
                {
                    "bboxes": torch.rand(size, 4, 7, 7),
                    "has_obj": torch.ones(size, 7, 7, dtype=torch.uint8),
                    "labels": torch.ones(size, 7, 7, dtype=torch.int32),
                },
            )
        else:
            labels = torch.arange(size).view(size, 1)
            yield images, {"bboxes": torch.rand(size, 4, dtype=torch.float64), "labels": labels}


@pytest.mark.parametrize("sizes", [(3, 2), (1,), (2, 1)])
def test_one_object_an_image(tmp_path, sizes):
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=8, padding=1), nn.BatchNorm2d(6), nn.Dropout())
    path = tmp_path / "features.pt"
    extract_save_features(batches(sizes), model, "cpu", path)
    data = torch.load(path, weights_only=True)
    count = sum(sizes)
    assert {key: tuple(value.shape) for key, value in data.items()} == {
        "features": (count, 6, 8, 8),
        "bboxes": (count, 4),
        "labels": (count,),
    }
    assert data["features"].dtype == data["bboxes"].dtype == torch.float32
    assert data["labels"].tolist() == [k for size in sizes for k in range(size)]
    assert len(TensorDataset(*data.values())) == count
    assert model.training  # left as it was
    assert torch.equal(model[1].running_mean, torch.zeros(6))
    assert [path.name for path in tmp_path.iterdir()] == ["features.pt"]


def test_grid_targets_and_the_last_of_several_maps(tmp_path):
    backbone = backbones.create("lite0", (16, 32))
    path = tmp_path / "features.pt"
    extract_save_features(batches((2, 1), grid=True), backbone, torch.device("cpu"), path)
    data = torch.load(path, weights_only=True)
    assert {key: tuple(value.shape) for key, value in data.items()} == {
        "features": (3, 320, 2, 2),
        "bboxes": (3, 4, 7, 7),
        "has_obj": (3, 7, 7),
        "labels": (3, 7, 7),
    }
    images = next(iter(batches((2, 1))))[0]
    torch.testing.assert_close(data["features"][:2], backbone(images)[-1])


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "no batch"),
        ([(torch.zeros(1, 3, 8, 8), [{"annotation": {}}])], "targets are list"),
        ([(torch.zeros(1, 3, 8, 8), {"annotation": "x"})], "not a dictionary of tensors"),
        ([(torch.zeros(2, 3, 8, 8), {"labels": torch.zeros(3)})], r"'labels' has shape \(3,\)"),
        ([(torch.zeros(1, 3, 8, 8), {"features": torch.zeros(1)})], "key 'features'"),
        (
            [
                (torch.zeros(1, 3, 8, 8), {"labels": torch.zeros(1)}),
                (torch.zeros(1, 3, 8, 8), {"boxes": torch.zeros(1)}),
            ],
            "targets have keys",
        ),
    ],
)
def test_loaders_that_cannot_be_saved(tmp_path, loader, message):
    with pytest.raises(DataError, match=message):
        extract_save_features(loader, nn.Identity(), "cpu", tmp_path / "features.pt")
    assert not list(tmp_path.iterdir())
