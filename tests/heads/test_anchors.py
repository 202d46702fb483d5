"""The anchors head: encoding, matching against a slow reading, mining, and that it learns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss

from frostbox.boxes import decode_offsets, encode_offsets
from frostbox.data.anchors import size_iou
from frostbox.errors import SettingsError
from frostbox.heads import FeatureSpec, create_head, head_class, settings_of
from frostbox.heads.anchors import _mined
from frostbox.heads.assignment import match_anchors
from frostbox.losses import BOX_LOSSES, CLASS_LOSSES
from tests.heads.scenes import SPEC, maps, target

COUNT = (8 * 12 + 4 * 6 + 2 * 3) * 6


centre = st.floats(0, 1, width=32)
side = st.floats(0.015625, 1, width=32)
box = st.tuples(centre, centre, side, side)


@settings(max_examples=200, deadline=None)
@given(box, box)
def test_decoding_gives_the_encoded_box_back(values, anchor):
    truth, anchor = torch.tensor(values), torch.tensor(anchor)
    back = decode_offsets(encode_offsets(truth, anchor), anchor)
    assert back.tolist() == pytest.approx(truth.tolist(), rel=1e-4, abs=1e-5)


def test_encoding_by_hand():
    offsets = encode_offsets(torch.tensor([0.5, 0.5, 0.4, 0.1]), torch.tensor([0.4, 0.6, 0.2, 0.2]))
    ln2 = float(np.log(2))
    assert offsets.tolist() == pytest.approx([5, -5, ln2 / 0.2, -ln2 / 0.2], rel=1e-5)
    wild = decode_offsets(torch.full((4,), 1e9), torch.tensor([0.5, 0.5, 0.1, 0.1]))
    assert torch.isfinite(wild).all()


# --- matching -----------------------------------------------------------------------------------


def slow_match(anchors, image, truth, match_iou, background_iou):
    """{(image, anchor): object} and the unsure (image, anchor), by loops."""
    corners = [box_convert(b, "cxcywh", "xyxy") for b in (truth, anchors)]
    iou = box_iou(*corners)
    near = (truth[:, None, :2] - anchors[None, :, :2]).square().sum(-1).sqrt()
    pairs = sorted(
        ((float(iou[g, a] - 1e-6 * near[g, a]), g, a) for g in range(len(truth))
         for a in range(len(anchors))), key=lambda pair: -pair[0],
    )  # fmt: skip
    owner, served = {}, set()
    for _, g, a in pairs:
        if g not in served and (int(image[g]), a) not in owner:
            owner[int(image[g]), a] = g
            served.add(g)
    own = set(owner)
    unsure = set()
    for g in range(len(truth)):
        for a in range(len(anchors)):
            key = (int(image[g]), a)
            if key in own or iou[g, a] < background_iou:
                continue
            unsure.add(key)
            if iou[g, a] >= match_iou and (key not in owner or iou[g, a] > iou[owner[key], a]):
                owner[key] = g
    return owner, unsure - set(owner)


def scene(seed, objects, images=3):
    g = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(torch.arange(0.1, 1, 0.2), torch.arange(0.1, 1, 0.2))
    sizes = torch.rand(2, 2, generator=g) * 0.4 + 0.1
    anchors = torch.cat((cells.repeat_interleave(2, 0), sizes.repeat(len(cells), 1)), 1)
    truth = torch.cat(
        (torch.rand(objects, 2, generator=g), torch.rand(objects, 2, generator=g) * 0.5 + 0.02), 1
    )
    return anchors, torch.randint(images, (objects,), generator=g).sort().values, truth


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 6, 25]), st.sampled_from([0.3, 0.5]))
def test_matching_is_the_slow_reading(seed, objects, match_iou):
    anchors, image, truth = scene(seed, objects)
    found = match_anchors(anchors, image, truth, 3, match_iou=match_iou, background_iou=0.25)
    owner, unsure = slow_match(anchors, image, truth, match_iou, 0.25)
    keys = list(zip(found.image.tolist(), found.anchor.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert dict(zip(keys, found.truth.tolist(), strict=True)) == owner
    assert {tuple(key) for key in found.unsure.nonzero().tolist()} == unsure


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 50))
def test_every_object_gets_an_anchor_of_its_own_even_where_all_are_alike(seed, objects):
    anchors, _, truth = scene(seed, 1)
    image = torch.zeros(objects, dtype=torch.int64)
    found = match_anchors(anchors, image, truth.expand(objects, 4), 1)
    assert found.own == objects
    assert found.truth[: found.own].tolist() == list(range(objects))
    assert len(set(found.anchor[: found.own].tolist())) == objects


def test_more_objects_than_anchors_and_none():
    anchors, image, truth = scene(0, 120, images=1)
    found = match_anchors(anchors, image, truth, 1)
    assert found.own == len(anchors) == 50
    found = match_anchors(anchors, image[:0], truth[:0], 2)
    assert len(found.truth) == found.own == 0
    assert found.unsure.shape == (2, 50)
    assert not found.unsure.any()


def test_of_equal_overlaps_the_nearest_centre_wins():
    anchors = torch.tensor([[0.4, 0.5, 0.6, 0.6], [0.52, 0.5, 0.6, 0.6], [0.6, 0.5, 0.6, 0.6]])
    inside = torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    found = match_anchors(anchors, torch.tensor([0]), inside, 1)
    assert found.anchor.tolist() == [1]


# --- the head -----------------------------------------------------------------------------------


def test_anchors_of_the_levels_finest_first():
    shapes = [[0.1, 0.1], [0.1, 0.2], [0.3, 0.3], [0.2, 0.5], [0.8, 0.6], [0.9, 0.9]]
    head = create_head("anchors", SPEC, 5, {"anchors": shapes}).eval()
    raw = head(maps())
    anchors = raw["anchors"][1]
    assert raw["logits"].shape == (2, len(anchors), 6)
    assert anchors[0].tolist() == pytest.approx([0.5 / 12, 0.5 / 8, 0.1, 0.1])
    assert anchors[3].tolist() == pytest.approx([1.5 / 12, 0.5 / 8, 0.1, 0.2])
    assert anchors[8 * 12 * 2].tolist() == pytest.approx([0.5 / 6, 0.5 / 4, 0.3, 0.3])
    assert anchors[-1].tolist() == pytest.approx([2.5 / 3, 1.5 / 2, 0.9, 0.9])


def test_predictions_belong_to_the_anchors_of_their_cell():
    torch.manual_seed(0)
    head = create_head("anchors", SPEC, 5).eval()
    features = maps(1)
    raw = head(features)
    torch.nn.init.zeros_(head.offsets[2].weight)
    with torch.no_grad():
        head.offsets[2].bias[4 * 2 : 4 * 3] += 7.0  # the third anchor of every coarsest cell
    moved = (head(features)["offsets"][0] - raw["offsets"][0]).amin(-1) > 3
    assert moved.nonzero().squeeze(1).tolist() == [COUNT - 36 + 6 * k + 2 for k in range(6)]


def test_shapes_by_scales_and_aspect_ratios():
    head = create_head(
        "anchors", FeatureSpec((32,), (8,), ((2, 2),)), 3,
        {"scales": [0.2, 0.5], "aspect_ratios": [1, 4]},
    )  # fmt: skip
    sizes = head._anchors([(1, 1)])[:, 2:].flatten().tolist()
    assert sizes == pytest.approx([0.2, 0.2, 0.4, 0.1, 0.5, 0.5, 1.0, 0.25])


def test_settings_are_fitted_to_the_boxes_by_k_means():
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.array(s) * rng.uniform(0.97, 1.03, (40, 2)) for s in (
        (0.05, 0.08), (0.1, 0.1), (0.2, 0.15), (0.3, 0.5), (0.6, 0.4), (0.9, 0.9))])  # fmt: skip
    every = [target((0.5, 0.5, w, h, 0)) for w, h in rng.permutation(sizes)]
    cls = head_class("anchors")
    fitted = cls.fitted_settings({"kmeans": 2, "width": 16}, every)
    assert fitted["width"] == 16
    assert len(fitted["anchors"]) == 6
    assert size_iou(sizes, fitted["anchors"]).max(1).mean() > 0.9
    head = create_head("anchors", SPEC, 3, fitted)
    again = create_head("anchors", SPEC, 3, settings_of(head))
    assert torch.equal(head._anchors(SPEC.sizes), again._anchors(SPEC.sizes))
    # Given anchors and none wanted stay; too few boxes for three levels give none.
    for given_ in ({"anchors": [[0.1, 0.1]] * 3}, {"kmeans": 0}):
        assert cls.fitted_settings(given_, every) == given_
    assert "anchors" not in cls.fitted_settings({}, [target(), target((0.5, 0.5, 0.2, 0.2, 0))])
    assert len(cls.fitted_settings({"kmeans": 5}, every[:7])["anchors"]) == 6


def test_other_heads_do_not_read_the_boxes():
    def never():
        raise AssertionError
        yield

    assert head_class("pyramid").fitted_settings({"width": 8}, never()) == {"width": 8}


def test_mining_takes_the_worst_background():
    logits = torch.zeros(20, 3)
    logits[:, -1] = torch.arange(20.0)  # the later, the surer of background
    classes = torch.full((20,), 2)
    classes[7] = 0
    unsure = torch.zeros(20, dtype=torch.bool)
    unsure[1] = True
    assert sorted(_mined(logits, classes, unsure).tolist()) == [0, 2, 3, 7]
    classes[:] = 2
    assert sorted(_mined(logits, classes, unsure).tolist()) == [0, 2, 3]  # without objects
    unsure[:18] = True
    assert sorted(_mined(logits, classes, unsure).tolist()) == [18, 19]  # no more than there are


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_the_loss_is_the_sum_of_its_definition(name, box_loss):
    torch.manual_seed(1)
    head = create_head("anchors", SPEC, 4, {"class_loss": name, "box_loss": box_loss}).eval()
    raw = {k: v.detach() for k, v in head(maps()).items()}
    raw["logits"] = torch.randn_like(raw["logits"])
    encoded = head.encode([target((0.3, 0.4, 0.4, 0.5, 0), (0.7, 0.7, 0.2, 0.2, 3)), target()])
    image, truth = torch.tensor([0, 0]), encoded["boxes"][0]
    owner, unsure = slow_match(raw["anchors"][0], image, truth, 0.5, 0.4)
    boxes = decode_offsets(raw["offsets"], raw["anchors"])
    box = 0.0
    classes = torch.full(raw["logits"].shape[:2], 4)
    for (i, a), g in owner.items():
        classes[i, a] = encoded["labels"][0, g]
        if box_loss == "smooth_l1":
            wanted = encode_offsets(truth[g], raw["anchors"][i, a])
            box += F.smooth_l1_loss(raw["offsets"][i, a], wanted)
        else:
            pair = (box_convert(b, "cxcywh", "xyxy") for b in (boxes[i, a], truth[g]))
            box += generalized_box_iou_loss(*pair)
    p = raw["logits"].softmax(-1).gather(-1, classes[..., None])[..., 0]
    known = torch.ones_like(p, dtype=torch.bool)
    for key in unsure:
        known[key] = False
    if name == "focal":
        expected = -((1 - p) ** 2 * p.log())[known].sum()
    else:
        background = (-p.log())[known & (classes == 4)].sort(descending=True).values
        expected = -p.log()[classes < 4].sum() + background[: 3 * len(owner)].sum()
    losses = head.loss(raw, encoded)
    assert losses["class_loss"].item() == pytest.approx(expected.item() / len(owner), rel=1e-4)
    assert losses["box_loss"].item() == pytest.approx(2 * box.item() / len(owner), rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"class_loss": n} for n in CLASS_LOSSES] + [{"box_loss": n} for n in BOX_LOSSES]
)
def test_it_learns_one_batch_by_heart(options):
    torch.manual_seed(0)
    head = create_head("anchors", SPEC, 3, {"width": 32, **options})
    features = maps()
    encoded = head.encode(
        [target((0.3, 0.4, 0.4, 0.5, 0), (0.8, 0.7, 0.1, 0.15, 2)), target((0.5, 0.5, 0.9, 0.8, 1))]
    )
    optimizer = torch.optim.AdamW(head.parameters(), 5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        sum(head.loss(head(features), encoded).values()).backward()
        optimizer.step()
    raw = head.eval()(features)
    boxes, scores = head.decode(raw)
    assert scores[1].amax(0).argmax() == 1
    best = boxes[1, scores[1, :, 1].argmax()]
    assert box_iou(best[None], torch.tensor([[0.05, 0.1, 0.95, 0.9]])).item() > 0.6
    figures = head.metrics(raw, encoded)
    assert figures["accuracy"].mean() == 1
    assert figures["mean_iou"].mean() > 0.6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"anchors": [[0.1, 0.2]]}, "1 anchors for 3 levels"),
        ({"anchors": [[0.1, 0.0]] * 3}, "anchors is"),
        ({"anchors": [0.1, 0.2, 0.3]}, "anchors is"),
        ({"scales": []}, "scales is"),
        ({"background_iou": 0.6}, "background_iou is 0.6"),
        ({"kernel": 2}, "kernel odd"),
        ({"class_loss": "hinge"}, "class_loss is 'hinge'"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        create_head("anchors", SPEC, 3, wrong)
