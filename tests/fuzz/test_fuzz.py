"""A few hundred inputs with every test, twenty thousand with the slow ones; and all that ever
found something, for good."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutate import changed
from tests.fuzz.readers import READERS, Coco, Index, Voc
from tests.fuzz.run import GROWTH, Outcome, attempt, counts, fuzz, main, quiet

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_dir())


@pytest.fixture(autouse=True)
def _quiet(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("frostbox", "PIL")]
    levels = [logger.level for logger in loggers]
    quiet()
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("name", READERS)
def test_a_few_inputs(name: str, tmp_path: Path) -> None:
    outcome = fuzz(name, range(counts(300, list(READERS))[name]), 2026, tmp_path, None)
    assert outcome.defects == []
    assert outcome.accepted > 0


@pytest.mark.slow
def test_twenty_thousand_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--inputs", "20000", "--seed", "0", "--found", str(tmp_path / "found")])
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    for line in said.out.splitlines()[1:]:
        name, _, accepted, *_ = line.split()
        # Inputs that are all refused at their first line would prove nothing, nor would valid ones.
        assert 10 <= int(accepted.rstrip("%")) <= (100 if name == "doctor" else 90), line


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_found_something(kept: Path, tmp_path: Path) -> None:
    reader, outcome = READERS[kept.parent.name](), Outcome()
    reader.prepare(tmp_path)
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    attempt(reader, tmp_path, outcome, 0)
    assert outcome.defects == []


def test_the_same_number_is_the_same_input() -> None:
    for name, kind in READERS.items():
        if name != "header":  # whose weights torch draws
            reader = kind()
            one, two = (reader.make(Random(f"0 {name} 5")) for _ in range(2))
            assert one == two


def test_valid_inputs_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what is changed in them would never be reached."""
    monkeypatch.setattr("tests.fuzz.readers.changed", lambda tree, *_, **__: tree)
    monkeypatch.setattr("tests.fuzz.readers.scrambled", lambda content, _: content)
    monkeypatch.setattr("tests.fuzz.mutate.scrambled", lambda content, _: content)
    for name in ("coco", "results", "index", "settings", "voc", "picture"):
        outcome = fuzz(name, range(8), 3, tmp_path / name, None)
        assert outcome.accepted >= 6, name


class _Broken(Coco):
    """A reader that does what it must not."""

    def read(self, folder: Path) -> None:
        raise KeyError("images")


def test_a_defect_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "coco", _Broken)  # type: ignore[misc]
    outcome = fuzz("coco", range(3), 0, tmp_path / "in", tmp_path / "found")
    assert [number for number, _ in outcome.defects] == [0, 1, 2]
    assert "KeyError" in outcome.defects[0][1]
    assert (tmp_path / "found/coco/0-1/set/train.json").is_file()


def test_a_hang_and_growth_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bytearray] = []

    class Slow(Index):
        def read(self, folder: Path) -> None:
            for _ in itertools.repeat(None):
                folder.exists()

    class Growing(Voc):
        def read(self, folder: Path) -> None:
            held.append(bytearray(b"x") * 10_000_000)

    monkeypatch.setattr("tests.fuzz.run.SECONDS", 0.05)
    monkeypatch.setitem(READERS, "index", Slow)  # type: ignore[misc]
    outcome = fuzz("index", range(1), 0, tmp_path / "slow", None)
    assert "Hang" in outcome.defects[0][1]
    monkeypatch.setitem(READERS, "voc", Growing)  # type: ignore[misc]
    assert fuzz("voc", range(32), 0, tmp_path / "growing", None).grown > GROWTH


def test_changes_leave_the_document_alone() -> None:
    tree = {"a": [1, 2, {"b": "c"}]}
    others = [changed(tree, Random(k)) for k in range(50)]
    assert tree == {"a": [1, 2, {"b": "c"}]}
    assert len({repr(other) for other in others}) > 25
