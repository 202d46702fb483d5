"""The pyramid head: geometry of its points and boxes, and that it learns."""

import pytest
import torch

from frostbox.errors import SettingsError
from frostbox.heads import FeatureSpec, create_head, head_class
from frostbox.heads.pyramid import _decode, _points
from frostbox.losses import DENSE_LOSSES
from tests.heads.scenes import SPEC, maps, target


def test_points_are_the_centres_of_the_cells():
    points, cells = _points([torch.zeros(1, 1, 2, 4)])
    assert cells.tolist() == [[0.25, 0.5]] * 8
    assert points.tolist() == [
        [0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25],
        [0.125, 0.75], [0.375, 0.75], [0.625, 0.75], [0.875, 0.75],
    ]  # fmt: skip


def test_distances_in_cells_become_boxes():
    # 2 x 4 cells: one cell is 1/4 wide and 1/2 high. From the centre (0.375, 0.25) half a cell to
    # the left, a cell to the right, a quarter up, half down.
    distances = torch.ones(1, 8, 4, 1)
    distances[0, 1, :, 0] = torch.tensor([0.5, 0.25, 1.0, 0.5])
    box = _decode(distances.log(), *_points([torch.zeros(1, 1, 2, 4)]))[0, 1]
    assert torch.allclose(box, torch.tensor([0.25, 0.125, 0.625, 0.5]))


def test_a_distribution_over_bins_is_read_as_its_mean():
    # 40 for one bin makes the others impossible; between two equal ones lies the half.
    logits = torch.full((1, 8, 4, 5), -40.0)
    for side, bins in enumerate(([0], [1, 2], [3], [4])):
        logits[0, 1, side, bins] = 0.0
    box = _decode(logits, *_points([torch.zeros(1, 1, 2, 4)]))[0, 1]
    # 0 cells left, 1.5 up, 3 right, 4 down of (0.375, 0.25), in cells of 1/4 by 1/2.
    assert torch.allclose(box, torch.tensor([0.375, -0.5, 1.125, 2.25]))


def test_boxes_are_exact_where_the_rest_is_in_bfloat16():
    head = create_head("pyramid", SPEC, 5, {"width": 16, "bins": 16}).eval()
    features = maps()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        raw = head(features)
    assert raw["logits"].dtype == torch.bfloat16
    assert torch.equal(raw["boxes"], _decode(raw["bins"], *_points(features)))


def test_strides_above_32_are_made_by_the_head():
    cls = head_class("pyramid")
    assert cls.strides_for({"strides": [16, 32, 64, 128]}) == (16, 32)
    assert cls.strides_for({}) == (8, 16, 32)
    head = create_head("pyramid", SPEC, 5, {"strides": (8, 16, 32, 64)}).eval()
    raw = head(maps())
    assert raw["boxes"].shape == (2, 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2, 4)
    assert torch.allclose(raw["points"][0, -1], torch.tensor([0.75, 0.5]))
    for wrong in ([8, 32], [32, 16], [], [64], "8,16", [5]):
        with pytest.raises(SettingsError, match="give neighbours such as"):
            create_head("pyramid", SPEC, 5, {"strides": wrong})


def test_the_finest_of_several_levels_is_narrower():
    def widths(**settings):
        head = create_head("pyramid", SPEC, 5, {"width": 32, **settings})
        assert head(maps())["boxes"].shape[1] > 0
        return [branch[0][1].out_channels for branch in head.class_branches], len(head.distances)

    assert widths() == ([16, 32, 32], 2)
    assert widths(fine_width=8) == ([8, 32, 32], 2)
    assert widths(fine_width=32) == ([32, 32, 32], 1)  # levels of one width share what predicts
    with pytest.raises(SettingsError, match="fine_width must be at least 0"):
        create_head("pyramid", SPEC, 5, {"fine_width": -1})
    single = FeatureSpec(SPEC.strides[-1:], SPEC.channels[-1:], SPEC.sizes[-1:])
    head = create_head("pyramid", single, 5, {"width": 32, "strides": (32,)})
    assert head.class_branches[0][0][1].out_channels == 32


def test_levels_come_finest_first_and_all_points_answer():
    head = create_head("pyramid", SPEC, 5).eval()
    raw = head(maps())
    count = 8 * 12 + 4 * 6 + 2 * 3
    assert raw["boxes"].shape == (2, count, 4)
    assert raw["logits"].shape == (2, count, 5)
    first, last = raw["points"][0, 0], raw["points"][0, -1]
    assert torch.allclose(first, torch.tensor([0.5 / 12, 0.5 / 8]))
    assert torch.allclose(last, torch.tensor([2.5 / 3, 1.5 / 2]))


@pytest.mark.parametrize(
    "options",
    [*({"class_loss": name} for name in DENSE_LOSSES), {"bins": 12}, {"strides": (8, 16, 32, 64)}],
)
def test_it_learns_one_batch_by_heart(options):
    torch.manual_seed(0)
    head = create_head("pyramid", SPEC, 3, {"width": 32, "depth": 1, **options})
    features = maps()
    encoded = head.encode(
        [target((0.3, 0.4, 0.4, 0.5, 0), (0.8, 0.7, 0.1, 0.15, 2)), target((0.5, 0.5, 0.9, 0.8, 1))]
    )
    optimizer = torch.optim.AdamW(head.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        sum(head.loss(head(features), encoded).values()).backward()
        optimizer.step()
    head.eval()
    raw = head(features)
    _, scores = head.decode(raw)
    assert scores[1].amax(0).argmax() == 1
    figures = head.metrics(raw, encoded)
    assert figures["accuracy"].mean() > 0.9
    assert figures["mean_iou"].mean() > 0.6


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"kernel": 4},
        {"class_loss": "hinge"},
        {"topk": 0},
        {"dropout": 1.0},
        {"focal_gamma": -1.0},
        {"bins": 1},
    ):
        with pytest.raises(SettingsError):
            create_head("pyramid", SPEC, 3, wrong)


def test_cross_entropy_starts_without_a_flood_of_background():
    spec = FeatureSpec((8, 16, 32), (6, 8, 10), ((40, 40), (20, 20), (10, 10)))
    g = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, c, *s, generator=g) for c, s in zip(spec.channels, spec.sizes, strict=True)
    ]
    head = create_head("pyramid", spec, 20, {"class_loss": "ce", "width": 16}).eval()
    _, scores = head.decode(head(features))
    assert scores.sum((1, 2)).tolist() == pytest.approx([9, 9], rel=0.2)
