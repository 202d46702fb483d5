"""COCO's figures, through hotcoco: AP over ten IoU thresholds and by object size, AR, slices.

How VOC's difficult objects enter. COCO knows only crowds, and pycocotools overwrites a ground
truth's `ignore` with `iscrowd`. A crowd would be wrong for them: it is matched by intersection over
the detection's own area, so that every small false positive inside a large difficult object would
be forgiven. Here a difficult object stays what VOC says, **neither hit nor miss, by plain IoU,
whatever the number of detections on it**: its area is put outside every range of COCO's sizes,
which is how COCO's own protocol ignores a ground truth, and it stands there once for each detection
of its image and class that could be matched to it, because COCO lets a detection use up what it is
matched to. One difference from VOC stays: COCO gives a detection the best ground truth that is
still free and prefers one that counts. COCO's own crowds are crowds here too, and areas of its
masks, where a file gives them, decide what is small and large.

Figures at a single IoU (confusion matrix) leave out the difficult objects and the detections that
the VOC rule ignores. Label errors are sought among all objects, difficult or not.

What hotcoco has and is not used here: its bootstrap draws subsets of some 63 % of the images
without multiplicity, which makes intervals too narrow (intervals.py draws as usual); its TIDE
errors cost AP at 101 recalls and know no difficult objects (errors.py gives the all-point AP of the
VOC rule); its reliability counts 100 detections an image and class (calibration.py counts all).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import hotcoco
import numpy as np
from numpy.typing import NDArray

from frostbox.metrics import voc
from frostbox.metrics.pairing import pair_iou, pairs
from frostbox.metrics.voc import Boxes, Floats

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
LARGEST_AREA = 1e10  # where COCO's widest range of sizes ends, in square pixels


@dataclass(frozen=True)
class Summary:
    """COCO's twelve figures; None where no ground truth counts. AP is interpolated at 101 recalls.

    Attributes:
        ap: mean over IoU 0.50:0.05:0.95; ap50, ap75: at one IoU; ap_small, ap_medium, ap_large: of
            boxes below 32 x 32, up to 96 x 96 and above (area of the box, as there are no masks).
        ar1, ar10, ar100: recall with so many detections an image and class; likewise by size.
        images: how many images were scored.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    images: int


@dataclass(frozen=True)
class FScores:
    """Highest F1 on each class's curve, mean over classes: over all ten IoUs, at 0.5, at 0.75.

    None where no ground truth counts.
    """

    f1: float | None
    f1_50: float | None
    f1_75: float | None


@dataclass(frozen=True)
class LabelError:
    """An annotation that a confident detection contradicts: a candidate, for a person to look at.

    Attributes:
        kind: `wrong_label`: the detection lies (IoU >= 0.5) on an object of another class that
            nothing found; `missing_annotation`: it lies on nothing (IoU < 0.1).
        detection: index into the detections; truth: index into the ground truth, None if missing.
    """

    kind: Literal["wrong_label", "missing_annotation"]
    image: int
    detection: int
    score: float
    label: int
    truth: int | None
    truth_label: int | None
    iou: float


class Evaluation:
    """Detections scored by COCO's protocol; what is asked for is computed once, when asked.

    Args:
        detections: with scores; at most 100 an image and class are counted, COCO's limit.
        ground_truth: with the difficult flags (see the top of this file).
        image_sizes: (width, height) of every image in pixels, those without boxes too.
        class_names: names of the classes in order.

    Raises:
        ValueError: as `voc.assign`; an image index without a size.
    """

    def __init__(
        self,
        detections: Boxes,
        ground_truth: Boxes,
        image_sizes: Sequence[tuple[int, int]],
        class_names: Sequence[str],
    ) -> None:
        self.detections, self.ground_truth = detections, ground_truth
        self.class_names = tuple(class_names)
        for boxes in (detections, ground_truth):
            voc.check(boxes, len(self.class_names), "boxes", len(image_sizes))
        self._images = [
            {"id": i + 1, "width": int(width), "height": int(height), "file_name": str(i)}
            for i, (width, height) in enumerate(image_sizes)
        ]
        self._categories = [{"id": k + 1, "name": n} for k, n in enumerate(self.class_names)]

    @cached_property
    def summary(self) -> Summary:
        """The twelve figures over all images."""
        return _summary(_quietly(self._evaluator, "get_results"), len(self._images))

    @cached_property
    def class_ap(self) -> tuple[float | None, ...]:
        """AP (mean over the ten IoUs) of each class in order; None without ground truth."""
        precision = self._evaluator.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
        means = precision.mean(axis=(0, 1))
        return tuple(None if mean < 0 else float(mean) for mean in means)

    @cached_property
    def f_scores(self) -> FScores:
        """F-scores over the classes that have ground truth."""
        scores = self._evaluator.f_scores()
        return FScores(*(_known(scores[key]) for key in ("F1", "F1_50", "F1_75")))

    def slices(self, groups: Mapping[str, Sequence[int]]) -> dict[str, Summary]:
        """The twelve figures over parts of the images: name -> image indices."""
        wanted = {name: [int(i) + 1 for i in images] for name, images in groups.items()}
        found = self._evaluator.slice_by(wanted)
        return {name: _summary(found[name], found[name]["num_images"]) for name in groups}

    def confusion(
        self, score_threshold: float | Floats, iou_threshold: float = 0.5
    ) -> NDArray[np.int64]:
        """Who is taken for whom: (K + 1, K + 1), rows ground truth, columns detections.

        `score_threshold` is one number or (K,) one a class.

        Detections are matched by descending score to the free object with the largest IoU, of
        any class. The last column counts objects that nothing was matched to, the last row
        detections that lie on nothing. Difficult objects and what is ignored on them are left out.
        """
        classes = len(self.class_names)
        ignored = voc.assign(self.detections, self.ground_truth, classes, iou_threshold).ignored
        shown = voc.above(self.detections, score_threshold, classes) & ~ignored
        evaluator = self._compare(
            voc.take(self.detections, np.flatnonzero(shown)),
            voc.take(self.ground_truth, np.flatnonzero(~self.ground_truth.difficult)),
        )
        found = evaluator.confusion_matrix(
            iou_thr=iou_threshold, max_det=len(self.detections.image) + 1
        )
        return np.asarray(found["matrix"], np.int64)

    def label_errors(self, score_threshold: float = 0.5) -> list[LabelError]:
        """Annotations that confident detections contradict, by descending score."""
        evaluator = self._compare(self.detections, self.ground_truth)
        evaluator.evaluate()
        found = evaluator.image_diagnostics(iou_thr=0.5, score_thr=score_threshold)
        return [
            LabelError(
                kind=error["type"],
                image=error["image_id"] - 1,
                detection=error["dt_id"] - 1,
                score=error["dt_score"],
                label=error["dt_category_id"] - 1,
                truth=None if error["gt_id"] is None else error["gt_id"] - 1,
                truth_label=None if error["gt_id"] is None else error["gt_category_id"] - 1,
                iou=error["iou"],
            )
            for error in found["label_errors"]
        ]

    @cached_property
    def _evaluator(self) -> Any:
        evaluator = self._compare(
            self.detections, ignorable_truth(self.detections, self.ground_truth), ignore=True
        )
        evaluator.evaluate()
        evaluator.accumulate()
        _quietly(evaluator, "summarize")
        return evaluator

    def _compare(self, detections: Boxes, truth: Boxes, *, ignore: bool = False) -> Any:
        size = (truth.box[:, 2:] - truth.box[:, :2]).prod(axis=1)
        crowd = np.zeros(len(size), bool) if truth.crowd is None else truth.crowd
        area = size if truth.area is None else truth.area
        area = np.where(truth.difficult & ~crowd & ignore, 10 * LARGEST_AREA, area)
        coco = hotcoco.COCO.from_arrays(
            self._images,
            self._categories,
            truth.image + 1,
            truth.label + 1,
            _xywh(truth.box),
            area=area,
            iscrowd=crowd,
        )
        rows = np.column_stack(
            [
                detections.image + 1,
                _xywh(detections.box),
                detections.score,
                detections.label + 1,
            ]
        )
        return hotcoco.COCOeval(coco, coco.load_res(rows.astype(np.float64)), "bbox")


def ignorable_truth(detections: Boxes, ground_truth: Boxes) -> Boxes:
    """The ground truth with each difficult object once for every detection that may lie on it.

    That is every detection of its image and class with IoU >= 0.5, and at least once.
    """
    crowd = ground_truth.crowd
    difficult = np.flatnonzero(
        ground_truth.difficult if crowd is None else ground_truth.difficult & ~crowd
    )
    classes = int(max(detections.label.max(initial=0), ground_truth.label.max(initial=0))) + 1
    found, at = pairs(
        detections.image * classes + detections.label,
        ground_truth.image[difficult] * classes + ground_truth.label[difficult],
    )
    near = pair_iou(detections.box[found], ground_truth.box[difficult[at]]) >= 0.5
    copies = np.ones(len(ground_truth.image), np.int64)
    copies[difficult] = np.maximum(1, np.bincount(at[near], minlength=len(difficult)))
    return voc.take(ground_truth, np.repeat(np.arange(len(copies)), copies))


def _xywh(box: Floats) -> Floats:
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)


def _quietly(evaluator: Any, method: str) -> Any:
    # hotcoco prints its table whenever it summarises.
    with contextlib.redirect_stdout(io.StringIO()):
        return getattr(evaluator, method)()


_KEYS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "APs",
    "ap_medium": "APm",
    "ap_large": "APl",
    "ar1": "AR1",
    "ar10": "AR10",
    "ar100": "AR100",
    "ar_small": "ARs",
    "ar_medium": "ARm",
    "ar_large": "ARl",
}


def _summary(found: Mapping[str, float], images: int) -> Summary:
    return Summary(**{name: _known(found[key]) for name, key in _KEYS.items()}, images=images)


def _known(value: float) -> float | None:
    # hotcoco gives -1, as pycocotools does, where there is no ground truth.
    return None if value < 0 else value
