"""Objects keep their numbers, and supervision's tools work on what is found."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import supervision as sv

from frostbox.detections import Detections
from frostbox.errors import SettingsError
from frostbox.selection import Selection
from frostbox.tracking import Tracker

pytest.importorskip("trackers", exc_type=ImportError)  # opencv-python needs the system's libGL
CLASSES = ("cat", "dog")


def found(*rows: tuple[float, float, float, int]) -> Detections:
    """Boxes of 40 pixels at (x, y), each with a score and a label."""
    boxes = [(x, y, x + 40, y + 40) for x, y, *_ in rows]
    return Detections.create(
        boxes, [row[2] for row in rows], [row[3] for row in rows], CLASSES, (400, 300)
    )


def numbers(detections: Detections) -> list[tuple[float, int]]:
    assert detections.tracks is not None
    return sorted(zip(detections.boxes[:, 0].tolist(), detections.tracks.tolist(), strict=True))


def test_objects_keep_their_numbers_while_they_move():
    tracker = Tracker(Selection(threshold=0.3), 2, 25.0)
    seen = [
        tracker.update(found((10 + 5 * k, 10, 0.4, 0), (300 - 5 * k, 200, 0.9, 1)))
        for k in range(12)
    ]
    assert {n for _, n in numbers(seen[0])} == {-1}  # a track takes two frames
    first, second = (n for _, n in numbers(seen[1]))
    assert {first, second} == {0, 1}
    for k, detections in enumerate(seen[1:], start=1):
        assert numbers(detections) == [(10 + 5 * k, first), (300 - 5 * k, second)]
        assert detections.scores.tolist() == pytest.approx([0.9, 0.4])
    assert seen[3].to_dicts()[0]["track"] == second
    assert seen[0].to_dicts()[0]["track"] is None


def test_a_low_score_continues_a_track_and_begins_none():
    tracker = Tracker(Selection(threshold=0.5), 2, 25.0)
    assert tracker.lowest == {"threshold": 0.25, "class_thresholds": None}
    for k in range(3):
        tracker.update(found((10 + 5 * k, 10, 0.8, 0)))
    hidden = tracker.update(found((25, 10, 0.3, 0), (200, 200, 0.3, 1)))
    assert numbers(hidden) == [(25, 0)]
    for k in range(3):
        assert len(tracker.update(found((200, 200, 0.3, 1)))) == 0, k
    assert len(tracker.update(found())) == 0


def test_every_class_has_its_own_threshold():
    tracker = Tracker(Selection(class_thresholds=(0.8, 0.1)), 2, 25.0)
    assert tracker.lowest["class_thresholds"] == (0.4, 0.05)
    for _ in range(3):
        seen = tracker.update(found((10, 10, 0.6, 0), (200, 200, 0.15, 1)))
    assert numbers(seen) == [(200, 0)]


def test_calibrated_scores_meet_calibrated_thresholds():
    selection = Selection(class_thresholds=(0.8, 0.8), temperature=4.0, calibrated=True)
    tracker = Tracker(selection, 2, 25.0)
    for _ in range(3):
        seen = tracker.update(found((10, 10, 0.62, 0), (200, 200, 0.5, 1)))  # 0.8 is now 0.586
    assert numbers(seen) == [(10, 0)]


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(SettingsError, match=r"install 'frostbox\[track\]' with pip"):
        Tracker(Selection(), 2, 25.0)


def test_supervision_draws_counts_and_tracks_detections():
    from trackers import ByteTrackTracker

    zone = sv.PolygonZone(np.array([(0, 0), (150, 0), (150, 150), (0, 150)]))
    tracker = ByteTrackTracker(minimum_consecutive_frames=1)
    for k in range(4):
        given = found((10 + 5 * k, 10, 0.9, 0), (300, 200, 0.8, 1)).to_supervision()
        assert zone.trigger(given).tolist() == [True, False]
        tracked = tracker.update(given)
    assert tracked.tracker_id.tolist() == [0, 1]
    assert tracked["class_name"].tolist() == ["cat", "dog"]
    scene = np.zeros((300, 400, 3), dtype=np.uint8)
    for annotator in (sv.BoxAnnotator(), sv.LabelAnnotator(), sv.TraceAnnotator()):
        scene = annotator.annotate(scene, tracked)
    assert scene[10:70, 10:70].any()
    assert scene[195:245, 295:345].any()
    assert not scene[100:150, 200:250].any()


def test_ours_as_supervisions_have_their_numbers():
    tracker = Tracker(Selection(), 2, 25.0)
    for _ in range(2):
        seen = tracker.update(found((10, 10, 0.9, 0)))
    assert seen.to_supervision().tracker_id.tolist() == [0]
    assert found().to_supervision().tracker_id is None


def test_all_forms_say_the_same():
    detections = found((10.25, 20.5, 0.75, 1), (1, 2, 0.5, 0))
    plain, results = detections.to_dicts(), detections.to_coco("a")
    given = detections.to_supervision()
    for k, (entry, result) in enumerate(zip(plain, results, strict=True)):
        x, y, width, height = result["bbox"]
        assert entry["box"] == [x, y, x + width, y + height] == given.xyxy[k].tolist()
        assert entry["score"] == result["score"] == given.confidence[k]
        assert entry["label"] == result["category_id"] - 1 == given.class_id[k]
        assert entry["name"] == given["class_name"][k] == result["category_name"]


def test_a_subset_keeps_what_belongs_together():
    tracker = Tracker(Selection(), 2, 25.0)
    for _ in range(2):
        seen = tracker.update(found((10, 10, 0.9, 0), (200, 200, 0.6, 1)))
    [high] = seen.above(0.8).to_dicts()
    assert high == seen.to_dicts()[0]
    assert seen.subset(np.array([1])).to_dicts() == seen.to_dicts()[1:]
