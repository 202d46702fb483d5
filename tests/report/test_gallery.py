"""Which images are shown, and how."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

import pytest
from PIL import Image

from frostbox.data.voc import read_voc
from frostbox.report.contract import FoundBox, FoundKind, TruthBox
from frostbox.report.gallery import Example, gallery, samples
from tests.conftest import TinyVoc
from tests.report.reports import KINDS, examples

BOX = [10.0, 10.0, 30.0, 30.0]


def truth(name: str = "dog", *, found: bool = False, side: float = 20) -> TruthBox:
    box = [10.0, 10.0, 10 + side, 10 + side]
    state = "found" if found else "missed"
    return {"box": box, "name": name, "difficult": False, "state": state}


def detection(kind: FoundKind, score: float, name: str = "dog") -> FoundBox:
    return {"box": BOX, "name": name, "score": score, "kind": kind}


def example(image_id: str, objects: list[TruthBox], found: list[FoundBox]) -> Example:
    return Example(image_id, None, 100, 100, objects, found)


def ids(shown: list, tag: str) -> list[str]:
    return [image["image_id"] for image in shown if tag in image["tags"]]


def test_every_kind_of_error_has_an_example(sample: Path) -> None:
    shown = gallery(examples(sample))
    assert len(shown) == 7
    for kind in (*KINDS[1:], "missed"):
        assert ids(shown, kind), kind
    assert len({image["image_id"] for image in shown}) == 7


def test_best_and_worst() -> None:
    shown = gallery(
        [
            example("half", [truth(found=True), truth("cat")], [detection("hit", 0.8)]),
            example("good", [truth(found=True)], [detection("hit", 0.8)]),
            example("bad", [truth()], [detection("background", 0.9)]),
            example("empty", [], []),
        ]
    )
    assert ids(shown, "best") == ["good", "half"]
    assert ids(shown, "worst") == ["bad"]
    assert "empty" not in [image["image_id"] for image in shown]


def test_a_detection_below_the_score_does_not_find() -> None:
    (image,) = gallery([example("a", [truth(found=True)], [detection("hit", 0.2)])], score=0.5)
    assert image["tags"] == ["missed"]
    # The page tells from this score what is found wherever the slider stands.
    assert image["truth"][0]["found_at"] == 0.2


def test_each_object_is_found_by_the_nearest_hit() -> None:
    near, far = truth(found=True), {**truth(found=True), "box": [50.0, 50.0, 70.0, 70.0]}
    hits = [detection("hit", 0.9), {**detection("hit", 0.4), "box": [51.0, 50.0, 70.0, 70.0]}]
    (image,) = gallery([example("a", [near, far], hits)])
    assert [t["found_at"] for t in image["truth"]] == [0.9, 0.4]


def test_mistakes_of_a_rare_class_come_early() -> None:
    def dog(k: int, hits: int) -> Example:
        wrong = detection("background", 0.9 - 0.01 * k)
        objects = [truth(found=True) for _ in range(hits)]
        return example(f"dog {k}", objects, [wrong, *(detection("hit", 0.9) for _ in objects)])

    # Neither among the best nor the worst: only its mistake can bring it in.
    rare = [detection("background", 0.3, "cat"), detection("hit", 0.9)]
    split = [
        *(dog(k, 2) for k in range(20)),
        example("cat", [truth(found=True)], rare),
        *(dog(k, 0) for k in range(20, 40)),
    ]
    # Two turns of three lists: best, worst, background.
    shown = gallery(split, limit=6)
    assert len(shown) == 6
    assert "background: cat 0.30" in [image["note"] for image in shown]


def test_low_scores_and_crowds_are_thinned() -> None:
    crowd = [detection("background", 0.04), *(detection("background", 0.5) for _ in range(90))]
    (image,) = gallery([example("a", [truth()], crowd)])
    assert len(image["found"]) == 60
    assert min(f["score"] for f in image["found"]) == 0.5


def test_pictures_are_small_jpegs(tiny_voc: TinyVoc) -> None:
    root = tiny_voc({"a": [("dog", (1, 1, 30, 30))]}, splits={"train": "a"}, size=(900, 300))
    (image,) = samples(read_voc(root, "train"), side=300)
    prefix = "data:image/jpeg;base64,"
    assert image["picture"] is not None
    assert image["picture"].startswith(prefix)
    picture = Image.open(io.BytesIO(base64.b64decode(image["picture"][len(prefix) :])))
    assert (picture.format, picture.size) == ("JPEG", (300, 100))
    assert (image["width"], image["height"]) == (900, 300)


def test_broken_photos_are_named_and_passed_over(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc(splits={"train": "abcd"})
    (root / "JPEGImages" / "b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    photos = read_voc(root, "train").photos
    whole = [
        Example(i.image_id, i.photo, 60, 40, [truth()], [detection("background", 0.9)])
        for i in photos
    ]
    with caplog.at_level(logging.WARNING, logger="frostbox"):
        assert len(gallery(whole)) == 3
        assert len(samples(read_voc(root, "train"))) == 3
    assert caplog.text.count("b.jpg") >= 2


def test_an_image_without_photo_is_shown_without_picture() -> None:
    (image,) = gallery([example("a", [truth()], [])])
    assert image["picture"] is None
