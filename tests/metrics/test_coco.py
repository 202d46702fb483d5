"""COCO figures: hotcoco against pycocotools, and what the adapter adds to it."""

from __future__ import annotations

import contextlib
import io

import hotcoco
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from frostbox.metrics import coco, voc
from tests.metrics.scenes import boxes, random_scene

NAMES = ("cat", "dog", "hen")
SIZES = [(200, 200)] * 12


def xywh(box):
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)


def annotations(boxes, **columns):
    rows = zip(boxes.image, boxes.label, xywh(boxes.box), strict=True)
    return [
        {
            "id": n + 1,
            "image_id": int(image) + 1,
            "category_id": int(label) + 1,
            "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
            **{name: values[n].item() for name, values in columns.items()},
        }
        for n, (image, label, box) in enumerate(rows)
    ]


def datasets(detections, truth, **columns):
    ground_truth = {
        "info": {},
        "images": [
            {"id": i + 1, "width": w, "height": h, "file_name": f"{i}.jpg"}
            for i, (w, h) in enumerate(SIZES)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
        "annotations": annotations(truth, **columns),
    }
    return ground_truth, annotations(detections, score=detections.score)


def stats(package, ground_truth, found, set_up=None):
    """The twelve figures and the precision array of pycocotools or hotcoco."""
    load, evaluator = (hotcoco.COCO, hotcoco.COCOeval) if package == "hotcoco" else (COCO, COCOeval)
    with contextlib.redirect_stdout(io.StringIO()):
        if package == "hotcoco":
            truth = load(ground_truth)
        else:
            truth = load()
            truth.dataset = ground_truth
            truth.createIndex()
        result = evaluator(truth, truth.loadRes(found), "bbox")
        if set_up is not None:
            set_up(result.params)
        result.evaluate()
        result.accumulate()
        if set_up is None:
            result.summarize()
    return np.asarray(result.stats, float), np.asarray(result.eval["precision"])


def scenes_agree(seeds):
    for seed in seeds:
        detections, truth = random_scene(seed, difficult=0.0)
        crowd = np.random.default_rng(seed).random(len(truth.image)) < 0.15
        data = datasets(detections, truth, iscrowd=crowd.astype(int))
        theirs, their_curve = stats("pycocotools", *data)
        ours, our_curve = stats("hotcoco", *data)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
        np.testing.assert_allclose(our_curve, their_curve, rtol=0, atol=1e-9)


def test_hotcoco_equals_pycocotools_with_crowds_duplicates_and_equal_scores():
    scenes_agree(range(60))


@pytest.mark.slow
def test_hotcoco_equals_pycocotools_on_many_more_scenes():
    scenes_agree(range(60, 800))


@pytest.mark.parametrize("seed", range(15))
def test_the_adapter_equals_pycocotools_with_difficult_objects_ignored(seed):
    detections, truth = random_scene(seed)
    every = coco.ignorable_truth(detections, truth)
    size = (every.box[:, 2:] - every.box[:, :2]).prod(axis=1)
    area = np.where(every.difficult, 1e11, size)
    theirs, _ = stats("pycocotools", *datasets(detections, every, area=area))
    summary = coco.Evaluation(detections, truth, SIZES, NAMES).summary
    ours = [getattr(summary, name) for name in coco.Summary.__dataclass_fields__][:-1]
    expected = [None if value < 0 else pytest.approx(value, abs=1e-9) for value in theirs]
    assert ours == expected


def evaluate(detections, truth, sizes=((200, 200),)):
    return coco.Evaluation(detections, truth, sizes, NAMES)


PLAIN, HARD = (0, 0, 40, 40), (100, 100, 180, 180)


def test_any_number_of_detections_on_a_difficult_object_cost_nothing():
    truth = boxes([(0, PLAIN, 0, 1), (0, HARD, 0, 1)], [False, True])
    on_it = [(0, (100, 100, 180, 180 - n), 0, 0.9) for n in range(5)]
    # five detections are ignored, the sixth is a hit at every IoU: AP is 1.
    summary = evaluate(boxes([*on_it, (0, PLAIN, 0, 0.5)]), truth).summary
    assert summary.ap == pytest.approx(1.0)
    assert summary.ar100 == pytest.approx(1.0)


def test_a_small_detection_inside_a_difficult_object_stays_a_false_positive():
    truth = boxes([(0, PLAIN, 0, 1), (0, HARD, 0, 1)], [False, True])
    # As a crowd the object would forgive it: all of the detection lies inside. IoU is 1/16.
    summary = evaluate(
        boxes([(0, (100, 100, 120, 120), 0, 0.9), (0, PLAIN, 0, 0.5)]), truth
    ).summary
    assert summary.ap == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(8))
def test_ap50_equals_the_voc_rule_where_objects_do_not_overlap(seed):
    # One object an image and class: then COCO's "best free object" and VOC's "best object" are one.
    # No equal scores: COCO takes those by image, VOC as they come.
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 50, (60, 2))
    box = np.concatenate([corner, corner + rng.integers(20, 60, (60, 2))], axis=1)
    truth = boxes([(k // 3, box[k], k % 3, 1) for k in range(60)], rng.random(60) < 0.3)
    rows = [
        (k // 3, box[k] + rng.integers(-9, 10, 4), k % 3, score)
        for k, score in zip(rng.integers(0, 60, 150), rng.permutation(150) / 150, strict=True)
    ]
    detections = boxes(rows)
    result = voc.evaluate(detections, truth, 3)
    data = coco.ignorable_truth(detections, truth)
    evaluator = coco.Evaluation(detections, truth, [(200, 200)] * 20, NAMES)
    for k in range(3):
        positives = result.classes[k].positives
        # With one recall per ground truth COCO's mean of the envelope is the all-point area.
        for recalls, ap in (
            (np.arange(1, positives + 1) / positives, result.classes[k].ap),
            (np.arange(11) / 10, result.classes[k].ap_11point),
        ):
            engine = evaluator._compare(detections, data, ignore=True)
            engine.params.recThrs = list(recalls)
            engine.evaluate()
            engine.accumulate()
            assert engine.eval["precision"][0, :, k, 0, -1].mean() == pytest.approx(ap, abs=1e-9)


def test_confusion_counts_every_object_and_every_detection_once():
    truth = boxes(
        [(0, PLAIN, 0, 1), (0, HARD, 1, 1), (1, PLAIN, 1, 1), (1, HARD, 2, 1)],
        [False, False, False, True],
    )
    found = boxes(
        [
            (0, PLAIN, 0, 0.9),  # cat as cat
            (0, HARD, 2, 0.8),  # dog taken for hen
            (1, (60, 0, 90, 30), 0, 0.7),  # a cat where nothing is
            (1, HARD, 2, 0.9),  # ignored: the hen is difficult
            (1, PLAIN, 1, 0.2),  # below the threshold: the dog is missed
        ]
    )
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[1, 2] = expected[3, 0] = expected[1, 3] = 1
    matrix = evaluate(found, truth, [(200, 200)] * 2).confusion(0.5)
    np.testing.assert_array_equal(matrix, expected)


def test_slices_equal_an_evaluation_of_those_images_alone():
    detections, truth = random_scene(3)
    part = [1, 4, 5, 7]
    sliced = coco.Evaluation(detections, truth, SIZES, NAMES).slices({"some": part, "no": [11]})

    def only(found):
        kept = voc.take(found, np.flatnonzero(np.isin(found.image, part)))
        image = np.searchsorted(part, kept.image)
        return voc.Boxes(image, kept.box, kept.label, kept.score, kept.difficult)

    alone = coco.Evaluation(only(detections), only(truth), SIZES[:4], NAMES).summary
    assert sliced["some"] == alone
    assert sliced["no"].ap is None


def test_class_ap_averages_to_the_headline():
    evaluation = coco.Evaluation(*random_scene(5), SIZES, NAMES)
    assert np.mean(evaluation.class_ap) == pytest.approx(evaluation.summary.ap)
    assert 0 < evaluation.f_scores.f1 < evaluation.f_scores.f1_50 <= 1


def test_label_errors_name_the_detection_and_the_object():
    truth = boxes([(0, PLAIN, 0, 1), (1, HARD, 1, 1)], [False, True])
    found = boxes(
        [
            (1, HARD, 1, 0.95),  # right, on a difficult object: nothing to say
            (0, PLAIN, 2, 0.9),  # sits on a cat that nothing found
            (1, (0, 0, 30, 30), 0, 0.8),  # sits on nothing
            (1, (50, 0, 80, 30), 0, 0.3),  # below the threshold
        ]
    )
    wrong, missing = evaluate(found, truth, [(200, 200)] * 2).label_errors(0.5)
    assert (wrong.kind, wrong.detection, wrong.truth, wrong.truth_label) == ("wrong_label", 1, 0, 0)
    assert wrong.iou == pytest.approx(1.0)
    assert (missing.kind, missing.detection, missing.image) == ("missing_annotation", 2, 1)
    assert missing.truth is None


def test_nothing_to_find_and_nothing_found():
    empty = boxes([])
    evaluation = evaluate(empty, empty)
    assert evaluation.summary.ap is None
    assert evaluation.f_scores.f1 is None
    assert evaluation.class_ap == (None, None, None)
    assert evaluation.label_errors() == []
    assert evaluate(empty, boxes([(0, PLAIN, 0, 1)])).summary.ap == 0.0


def test_an_image_without_a_size_is_refused():
    with pytest.raises(ValueError, match="image indices from 1 to 1; there are 1 images"):
        evaluate(boxes([(1, PLAIN, 0, 0.5)]), boxes([]))
