"""Detections of a video's frames, one after the other -> the same objects with the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from frostbox.detections import Detections
from frostbox.errors import SettingsError
from frostbox.metrics.calibration import scale
from frostbox.selection import Selection

_LOW = 0.5  # share of its threshold that a score needs to continue a track
_MIDDLE = 0.5  # where the tracker, which has one threshold for all classes, sees each class's own


class Tracker:
    """ByteTrack (Zhang et al., ECCV 2022), of the package trackers by supervision's makers.

    A track begins with two frames in a row whose score reaches the detector's threshold; then half
    of the threshold is enough to continue it, which bridges what hides an object for a moment.
    Classes do not matter to it: a box that changes its class keeps its number.

    Attributes:
        lowest: what the detector is to select with, as of `Detector.predict`.
    """

    def __init__(self, selection: Selection, classes: int, rate: float) -> None:
        """For one video.

        Args:
            selection: of the detector. classes: how many it knows. rate: frames a second.

        Raises:
            SettingsError: the package is missing, or cannot be imported.
        """
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:  # opencv-python, which it needs, lacks libGL on some servers
            raise SettingsError(
                f"--track needs the package trackers ({error}): install 'frostbox[track]' with "
                "pip, and opencv-python-headless for opencv-python where there is no screen"
            ) from error

        own = selection.class_thresholds
        self.lowest = {
            "threshold": _LOW * selection.threshold,
            "class_thresholds": None if own is None else tuple(_LOW * t for t in own),
        }
        thresholds = np.full(classes, selection.threshold) if own is None else np.array(own)
        temperature = selection.temperature if selection.calibrated else None
        if own is not None and temperature is not None:  # they refer to scores before calibration
            thresholds = scale(thresholds, temperature)
        self._thresholds = thresholds.astype(np.float32)
        self._tracker = ByteTrackTracker(
            frame_rate=rate,
            track_activation_threshold=_MIDDLE,
            high_conf_det_threshold=_MIDDLE,
            minimum_consecutive_frames=2,
        )

    def update(self, found: Detections) -> Detections:
        """What was found in the next frame, with `tracks`.

        What is below its threshold and continues no track is left out.
        """
        thresholds = self._thresholds[found.labels]
        given = found.to_supervision()
        given.confidence = self._levelled(found.scores, thresholds)
        given.data = {"row": np.arange(len(found))}
        numbers = np.full(len(found), -1, dtype=np.int64)
        if len(found) or self._tracker.tracks:
            tracked = self._tracker.update(given)
            if len(tracked) and tracked.tracker_id is not None:
                numbers[tracked.data["row"]] = tracked.tracker_id
        return replace(found, tracks=numbers).subset((numbers >= 0) | (found.scores >= thresholds))

    @staticmethod
    def _levelled(
        scores: NDArray[np.float32], thresholds: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores so stretched that each one's threshold is _MIDDLE."""
        above = _MIDDLE + (1 - _MIDDLE) * (scores - thresholds) / np.maximum(1 - thresholds, 1e-6)
        below = _MIDDLE * scores / np.maximum(thresholds, 1e-6)
        return np.where(scores >= thresholds, above, below).astype(np.float32)
