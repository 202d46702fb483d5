"""Detections: the one currency that `predict` returns and everything else takes. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import supervision
    from PIL import Image


@dataclass(frozen=True)
class Detections:
    """The objects found in one image, sorted by descending score.

    Attributes:
        boxes: (N, 4) float32 (xmin, ymin, xmax, ymax), pixels of the original image, 0-based.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices into `class_names`.
        class_names: names of all classes that the detector knows.
        image_size: (width, height) of the original image in pixels.
        tracks: (N,) int64, the number of each object in a video, -1 where it has none (yet); None
            for pictures.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    tracks: NDArray[np.int64] | None = None

    @classmethod
    def create(
        cls,
        boxes: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike,
        class_names: tuple[str, ...],
        image_size: tuple[int, int],
    ) -> Detections:
        """Convert, check the shapes (ValueError) and sort by descending score, stably."""
        box_array = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        score_array = np.asarray(scores, dtype=np.float32).reshape(-1)
        label_array = np.asarray(labels, dtype=np.int64).reshape(-1)
        if not len(box_array) == len(score_array) == len(label_array):
            raise ValueError(
                f"{len(box_array)} boxes, {len(score_array)} scores and {len(label_array)} labels: "
                "the three must have the same length"
            )
        order = np.argsort(-score_array, kind="stable")
        return cls(
            box_array[order], score_array[order], label_array[order], class_names, image_size
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[label] for label in self.labels]

    def above(self, threshold: float) -> Detections:
        """The detections whose score is at least `threshold`."""
        return self.subset(self.scores >= threshold)

    def subset(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """The detections that a mask (N,) or indices name, in that order."""
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            tracks=None if self.tracks is None else self.tracks[rows],
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """One `{box, score, label, name}` a detection, ready for JSON; of a video with `track`."""
        found: list[dict[str, Any]] = [
            {
                "box": [round(float(v), 2) for v in box],
                "score": round(float(score), 5),
                "label": int(label),
                "name": self.class_names[label],
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
        for entry, track in zip(found, () if self.tracks is None else self.tracks, strict=False):
            entry["track"] = int(track) if track >= 0 else None
        return found

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO results: `bbox` is (x, y, width, height); `category_id` counts from 1.

        With `category_name`, as `predictions.write_predictions` and `read_predictions` have it.
        """
        return [
            {
                "image_id": image_id,
                "category_id": int(label) + 1,
                "category_name": self.class_names[label],
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes, self.scores, self.labels, strict=True
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """The same as supervision's Detections, with `data["class_name"]` and tracks filled."""
        import supervision as sv

        return sv.Detections(
            xyxy=self.boxes.astype(np.float32),
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            tracker_id=None if self.tracks is None else self.tracks.astype(int),
            data={"class_name": np.array(self.names)},
        )

    def draw(
        self, image: Image.Image, *, smooth: bool = True, side: int | None = None
    ) -> Image.Image:
        """A copy of `image` with boxes, names and scores on it; options as of draw.draw_boxes."""
        from frostbox.draw import draw_boxes

        return draw_boxes(
            image,
            self.boxes,
            self.names,
            [float(s) for s in self.scores],
            tracks=None if self.tracks is None else self.tracks.tolist(),
            smooth=smooth,
            side=side,
        )
