"""The bootstrap: AP of weighted images against images that are really repeated; coverage."""

from __future__ import annotations

import numpy as np
import pytest

from frostbox.metrics import coco, coco_match, intervals, voc
from tests.metrics.scenes import boxes, random_scene

RULES = ("ap50", "ap50_11point", "coco_ap")


def repeat(part, weights):
    """Each image `weights` times under fresh indices, the boxes of equal images side by side."""
    first = np.cumsum(weights) - weights
    times = weights[part.image]
    index = np.repeat(np.arange(len(times)), times)
    copy = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    taken = voc.take(part, index)
    image = first[taken.image] + copy
    return voc.Boxes(image, taken.box, taken.label, taken.score, taken.difficult)


@pytest.mark.parametrize("seed", range(12))
def test_weighted_ap_equals_the_ap_of_repeated_images(seed):
    # Few levels of score make ties; VOC's rule takes them in the order of the detections.
    detections, truth = random_scene(seed, levels=12)
    weights = np.random.default_rng(seed).integers(0, 4, (12, 3)).astype(np.int32)
    found = intervals.weighted_ap(detections, truth, 3, weights)
    for column in range(3):
        repeated = [repeat(part, weights[:, column]) for part in (detections, truth)]
        result = voc.evaluate(*repeated, 3)
        for k, one in enumerate(result.classes):
            nan = float("nan")
            expected = [nan if v is None else v for v in (one.ap, one.ap_11point)]
            ours = [found["ap50"][column, k], found["ap50_11point"][column, k]]
            assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
def test_weighted_coco_ap_equals_hotcoco_on_repeated_images(seed):
    detections, truth = random_scene(seed, levels=100_000)
    weights = np.random.default_rng(seed).integers(0, 3, (12, 1)).astype(np.int32)
    found = intervals.weighted_ap(detections, truth, 3, weights, ("coco_ap",))["coco_ap"][0]
    repeated = [repeat(part, weights[:, 0]) for part in (detections, truth)]
    sizes = [(200, 200)] * int(weights.sum())
    expected = coco.Evaluation(*repeated, sizes, ("a", "b", "c")).class_ap
    assert found.tolist() == pytest.approx(
        [float("nan") if v is None else v for v in expected], abs=1e-9, nan_ok=True
    )


@pytest.mark.parametrize("seed", range(20))
def test_coco_matching_gives_hotcocos_ap_with_equal_scores_too(seed):
    detections, truth = random_scene(seed)
    ones = np.ones((12, 1), np.int32)
    found = intervals.weighted_ap(detections, truth, 3, ones, ("coco_ap",))["coco_ap"][0]
    expected = coco.Evaluation(detections, truth, [(200, 200)] * 12, ("a", "b", "c")).class_ap
    assert found.tolist() == pytest.approx(list(expected), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_coco_matching_treats_inverted_boxes_as_hotcoco_does(seed):
    detections, truth = random_scene(seed)
    detections.box[::5, 2] = detections.box[::5, 0] - 3
    ones = np.ones((12, 1), np.int32)
    found = intervals.weighted_ap(detections, truth, 3, ones, ("coco_ap",))["coco_ap"][0]
    expected = coco.Evaluation(detections, truth, [(200, 200)] * 12, ("a", "b", "c")).class_ap
    assert found.tolist() == pytest.approx(list(expected), abs=1e-9)


def test_coco_matching_counts_the_first_100_detections_of_an_image_and_class():
    many = 130
    detections = voc.Boxes(
        image=np.zeros(many, int),
        box=np.tile([0.0, 0, 10, 10], (many, 1)),
        label=np.zeros(many, int),
        score=np.linspace(1, 0, many),
        difficult=np.zeros(many, bool),
    )
    found = coco_match.match(detections, voc.take(detections, np.array([0])), 1)
    assert found.detection.tolist() == list(range(100))
    assert found.hit.sum(axis=1).tolist() == [1] * 10


def test_intervals_hold_the_value_of_all_images_and_depend_only_on_the_seed():
    detections, truth = random_scene(1, images=40)
    first = intervals.bootstrap(detections, truth, 3, 40, rules=RULES, resamples=60, seed=3)
    again = intervals.bootstrap(detections, truth, 3, 40, rules=RULES, resamples=60, seed=3)
    other = intervals.bootstrap(detections, truth, 3, 40, rules=RULES, resamples=60, seed=4)
    assert first == again
    assert first != other
    result = voc.evaluate(detections, truth, 3)
    assert first["ap50"].mean.value == pytest.approx(result.mean_ap)
    assert first["ap50_11point"].mean.value == pytest.approx(result.mean_ap_11point)
    summary = coco.Evaluation(detections, truth, [(200, 200)] * 40, ("a", "b", "c")).summary
    assert first["coco_ap"].mean.value == pytest.approx(summary.ap)
    for k, one in enumerate(first["ap50"].classes):
        assert one.value == pytest.approx(result.classes[k].ap)
        assert one.low < one.high


def test_a_class_without_objects_has_no_interval():
    detections, truth = random_scene(1, classes=2)
    found = intervals.bootstrap(detections, truth, 3, 12, rules=RULES, resamples=20)
    assert found["ap50"].classes[2] == intervals.Interval(None, None, None)
    two = intervals.bootstrap(detections, truth, 2, 12, rules=RULES, resamples=20)
    assert found["coco_ap"].mean == two["coco_ap"].mean
    assert found["ap50"].mean == two["ap50"].mean


def test_a_class_that_no_resample_holds_has_a_value_and_no_bounds():
    # One object in one of 400 images: some single resample does not hold that image.
    one = boxes([(7, (0, 0, 9, 9), 0, 0.9)])
    for seed in range(20):
        found = intervals.bootstrap(one, one, 1, 400, resamples=1, seed=seed)["ap50"].mean
        assert found.value == 1.0
        if found.low is None:
            both = intervals.compare(one, one, one, 1, 400, resamples=1, seed=seed)["ap50"].mean
            assert both.probability is None
            return
    pytest.fail("every resample held the image")


def test_comparison_of_a_model_with_itself_and_with_a_worse_one():
    detections, truth = random_scene(2, images=60)
    same = intervals.compare(detections, detections, truth, 3, 60, rules=RULES, resamples=50)
    for one in same.values():
        assert one.mean.difference == intervals.Interval(0.0, 0.0, 0.0)
        assert one.mean.probability == 0.5
    shifted = voc.Boxes(
        detections.image,
        detections.box + 9,
        detections.label,
        detections.score,
        detections.difficult,
    )
    found = intervals.compare(detections, shifted, truth, 3, 60, rules=RULES, resamples=50)
    for one in found.values():
        assert one.mean.a - one.mean.b == pytest.approx(one.mean.difference.value)
        assert one.mean.difference.low > 0
        assert one.mean.probability == 1.0
        assert len(one.classes) == 3
    back = intervals.compare(shifted, detections, truth, 3, 60, rules=("ap50",), resamples=50)
    assert back["ap50"].mean.probability == 0.0
    assert back["ap50"].mean.difference.high == pytest.approx(-found["ap50"].mean.difference.low)


def synthetic(images, rng):
    """One class: each object found with probability 0.7; two boxes on nothing an image."""
    count = rng.poisson(2, images)
    image = np.repeat(np.arange(images), count)
    corner = np.stack([np.arange(len(image)) * 20.0, np.zeros(len(image))], axis=1)
    box = np.concatenate([corner, corner + 10], axis=1)
    seen = rng.random(len(image)) < 0.7
    nowhere = np.repeat(np.arange(images), 2)
    detections = voc.Boxes(
        image=np.concatenate([image[seen], nowhere]),
        box=np.concatenate([box[seen], np.tile([-20.0, -20, -10, -10], (len(nowhere), 1))]),
        label=np.zeros(seen.sum() + len(nowhere), int),
        score=np.concatenate([rng.beta(4, 2, seen.sum()), rng.beta(2, 4, len(nowhere))]),
        difficult=np.zeros(seen.sum() + len(nowhere), bool),
    )
    truth = voc.Boxes(
        image, box, np.zeros(len(image), int), np.ones(len(image)), np.zeros(len(image), bool)
    )
    return detections, truth


def test_most_intervals_of_90_percent_hold_the_true_ap():
    rng = np.random.default_rng(0)
    true_ap = voc.evaluate(*synthetic(20_000, rng), 1).mean_ap
    covered = 0
    for trial in range(100):
        found = intervals.bootstrap(
            *synthetic(150, rng), 1, 150, rules=("ap50",), resamples=150, confidence=0.9, seed=trial
        )["ap50"].mean
        covered += found.low <= true_ap <= found.high
    # 90 expected; 3 standard deviations of a binomial count are 9.
    assert 81 <= covered <= 99
