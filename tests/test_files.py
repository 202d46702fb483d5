"""Files and folders that are whole or not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frostbox import files
from frostbox.errors import SettingsError
from frostbox.files import whole_folder, write_parts, write_whole


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    path = write_whole(tmp_path / "a.json", "ä old")
    assert path.read_bytes() == "ä old".encode()

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == "ä old".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_parts_of_a_file_are_all_there_or_none(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "a", [b"a", memoryview(b"bc"), memoryview(b"")])
    assert path.read_bytes() == b"abc"

    def parts() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_parts(path, parts())
    assert path.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def failing() -> None:
        with whole_folder(out) as room:
            (room / "a").touch()
            assert not out.exists()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        failing()
    assert list(tmp_path.iterdir()) == []
    # What a killed process left is not taken for a part of the next.
    (tmp_path / ".out-unfinished" / "out").mkdir(parents=True)
    (tmp_path / ".out-unfinished" / "out" / "old").touch()
    out.mkdir()
    with whole_folder(out) as room:
        assert room.name == "out"
        (room / "b").touch()
    assert [path.name for path in out.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [out]


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from frostbox.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as room:\n"
        "    (room / 'a').touch(); print('in', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    with (
        pytest.raises(SettingsError, match="another frostbox is writing .*out: wait for it"),
        whole_folder(out),
    ):
        pytest.fail("it was let in")
    process.communicate("")
    assert process.returncode == 0
    assert [path.name for path in out.iterdir()] == ["a"]
