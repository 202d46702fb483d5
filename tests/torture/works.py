"""What is killed: commands on a small data set, and what of their results must stay the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from tests.shapes import write_shapes

Digests = dict[str, str]


@dataclass(frozen=True)
class Work:
    """A command that runs to an end.

    Attributes:
        first: its words, for a folder to work in.
        again: what a person types after it was killed.
        working: whether a process that was started at this time (of the disk's clock) is past its
            start: from its folder, and what it has printed.
        result: digests of what it leaves.
        ended: whether all of its work is done; where that is so, it is not typed again.
        lay: what an undisturbed run decided by measuring, from its folder for another.
    """

    name: str
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    working: Callable[[Path, float, str], bool]
    result: Callable[[Path], Digests]
    lay: Callable[[Path, Path], None] = lambda _undisturbed, _place: None
    ended: Callable[[Path], bool] = lambda _place: False


def files(folder: Path) -> Digests:
    """sha256 of every file below a folder but locks."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def weights(run: Path) -> Digests:
    """sha256 of every tensor of a run's detector, its thresholds, and the figures of its epochs.

    And what computed the features: in another run from nothing it may be another engine.
    """
    with safe_open(run / "best.safetensors", framework="np") as file:
        found = {
            name: hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest()
            for name in file.keys()  # noqa: SIM118
        }
        header = json.loads(file.metadata()["frostbox"])
    header.pop("training")  # with its seconds
    found["header"] = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
    for table in sorted(run.rglob("metrics.csv")):
        found[table.relative_to(run).as_posix()] = hashlib.sha256(table.read_bytes()).hexdigest()
    for index in (run.parent / "cache").rglob("index.json"):
        found[index.parent.name] = json.loads(index.read_text())["shards"][0]["engine"]
    return found


def write_data(folder: Path) -> tuple[Path, Path]:
    """A data set to extract and convert, of 330 photos, and a smaller one to train on."""
    large = write_shapes(folder / "large" / "VOCdevkit" / "VOC2012", train=100, val=230)
    small = write_shapes(folder / "small" / "VOCdevkit" / "VOC2012", train=48, val=16)
    return large, small


def works(folder: Path) -> dict[str, Work]:
    """All that end by themselves, by name; their data lie in the folder."""
    large, small = write_data(folder)
    return {
        work.name: work
        for work in (
            _extract(large),
            _train("train", small, "--epochs", "12"),
            _train("train --thaw", small, "--epochs", "3", "--thaw", "1", "--thaw-epochs", "5"),
            _convert(large),
        )
    }


def _extract(data: Path) -> Work:
    def words(folder: Path) -> list[str]:
        return ["extract", str(data), "--out", str(folder / "cache"), "--size", "96",
                "--views", "16", "--strides", "2,4,8,16,32", "--engine", "openvino"]  # fmt: skip

    # So large that a shard holds 33 images: four shards. What is printed first comes before them.
    return Work(
        "extract", words, words, lambda _folder, _since, said: "images" in said,
        lambda folder: files(folder / "cache"),
    )  # fmt: skip


def _train(name: str, data: Path, *options: str) -> Work:
    def words(folder: Path) -> list[str]:
        return [
            "train", str(data), "--out", str(folder / "run"), "--cache", str(folder / "cache"),
            "--size", "64", "--batch-size", "8", "--precision", "32", "--views", "3",
            "--set", "width=16", "--set", "depth=1", "--set", "ema=0.9",
            # Within the epochs too, which last a second here.
            "--set", "keep_minutes=0.003", *options,
        ]  # fmt: skip

    def again(folder: Path) -> list[str]:
        if not (folder / "run" / "settings.json").exists():
            return words(folder)
        return ["train", str(data), "--out", str(folder / "run"), "--cache", str(folder / "cache"),
                "--resume"]  # fmt: skip

    def lay(undisturbed: Path, place: Path) -> None:
        # Which engine is faster is measured, and on a busy machine comes out now so, now so. The
        # cache of val decides it for the one of train, which is to be made.
        (made,) = (undisturbed / "cache").glob("*/val-*")
        shutil.copytree(made, place / "cache" / made.parent.name / made.name)

    return Work(
        name, words, again, lambda _folder, _since, said: "classes from" in said,
        lambda folder: weights(folder / "run"), lay,
    )  # fmt: skip


def _convert(data: Path) -> Work:
    def words(folder: Path) -> list[str]:
        return ["convert", str(data), str(folder / "yolo"), "--to", "yolo", "--copy"]

    def working(folder: Path, since: float, _said: str) -> bool:
        begun = folder / ".yolo-unfinished" / "yolo"
        try:
            return begun.stat().st_ctime >= since
        except FileNotFoundError:
            return (folder / "yolo").exists()

    return Work(
        "convert", words, words, working, lambda folder: files(folder / "yolo"),
        ended=lambda folder: (folder / "yolo").exists(),
    )  # fmt: skip
