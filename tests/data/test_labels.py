"""Renaming, merging and leaving out classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.labels import aligned, choose
from frostbox.errors import DataError, SettingsError

BOX = (0.0, 0.0, 9.0, 9.0)


def _set(*names: str, classes: tuple[str, ...] = ("cat", "dog", "cow")) -> DetectionSet:
    """One image for each name, one without objects."""
    images = [
        ImageAnnotation(name, None, 9, 9, (ObjectAnnotation(name, BOX),), Path("x"))
        for name in names
    ]
    images.append(ImageAnnotation("empty", None, 9, 9, (), Path("x")))
    categories = {10 * k: k for k in range(len(classes))}
    return DetectionSet("s", Path("s"), "train", classes, "x", tuple(images), categories)


def _names(dataset: DetectionSet) -> list[list[str]]:
    return [[obj.name for obj in image.objects] for image in dataset.images]


def test_a_subset_gives_the_order_and_says_what_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chosen = choose(_set("cat", "cow", "dog"), ["dog", "cat"])
    assert chosen.classes == ("dog", "cat")
    assert _names(chosen) == [["cat"], [], ["dog"], []]
    assert chosen.categories == {0: 1, 10: 0, 20: None}
    assert chosen.classes_from == "the names that were given"
    assert "1 objects of 1 other classes are left out (cow); 1 images keep no object" in caplog.text


def test_merging_comes_before_choosing() -> None:
    chosen = choose(_set("cat", "cow", "dog"), ["animal"], {"dog": "animal", "cat": "animal"})
    assert _names(chosen) == [["animal"], [], ["animal"], []]
    assert chosen.categories == {0: 0, 10: 0, 20: None}
    merged = choose(_set("cat", "cow", "dog"), None, {"dog": "cat"})
    assert merged.classes == ("cat", "cow")
    assert merged.categories == {0: 0, 10: 0, 20: 1}


def test_all_classes_without_words(caplog: pytest.LogCaptureFixture) -> None:
    dataset = _set("cat", "dog")
    assert choose(dataset) == dataset
    assert choose(dataset, ["cow", "dog", "cat"]).classes == ("cow", "dog", "cat")
    assert caplog.text == ""


def test_misspelt_names_are_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match=r"--classes names 'dgo'.* did you mean 'dog'\?"):
        choose(_set("cat"), ["cat", "dgo"])
    with pytest.raises(SettingsError, match=r"--map names 'Cat'.* did you mean 'cat'\?"):
        choose(_set("cat"), None, {"Cat": "x"})
    with pytest.raises(DataError, match="'cat' twice"):
        choose(_set("cat"), ["cat", "cat"])


def test_a_set_without_any_name_takes_those_that_are_given() -> None:
    assert choose(_set(classes=()), ["bus"]).classes == ("bus",)


def test_names_that_may_be_absent() -> None:
    chosen = choose(_set("cat"), ["bus", "cat"], {"lorry": "bus"}, absent={"bus", "lorry"})
    assert chosen.classes == ("bus", "cat")
    with pytest.raises(SettingsError, match="has none of the classes bus: it has cat, cow, dog"):
        choose(_set("cat"), ["bus"], absent={"bus"})


def test_a_split_gets_the_labels_of_training() -> None:
    train, val = _set("cat"), _set("dog", classes=("dog", "cat"))
    assert aligned(val, train).classes == train.classes
    assert aligned(val, train).label(val.images[0].objects[0]) == 1
    typo = _set("dgo", classes=("dgo",))
    with pytest.raises(DataError, match=r"'dgo' has an object named 'dgo'.* did you mean 'dog'\?"):
        aligned(typo, train)
    assert aligned(replace(typo, images=typo.images[1:]), train).classes == train.classes
