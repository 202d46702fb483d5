"""Extraction by several processes: the bytes of one, whoever is lost on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from frostbox.errors import CacheError
from frostbox.features.cache import FeatureCache
from frostbox.features.index import CacheIndex
from frostbox.features.records import write_record
from tests.features.conftest import write_photos
from tests.features.ranks import HURRY, await_file, files, finished, one_process


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 10)
    return tmp_path / "photos"


def test_two_processes_write_the_bytes_of_one(photos, start, tmp_path):
    (photos / "photo03.jpg").write_bytes(b"\xff\xd8\xff broken")  # in rank 1's first shard
    whole = {"views": 3}
    jobs = [
        {"photos": [str(photos), 9], "out": str(tmp_path / "uneven"), "options": whole},
        {"photos": [str(photos), 2], "out": str(tmp_path / "one-shard")},
        {"photos": [str(photos), 9], "out": str(tmp_path / "int8"), "options": {"dtype": "int8"}},
    ]
    said = finished(start({"devices": 2, "jobs": jobs}))
    assert len(said) == 6
    assert sorted(entry["rank"] for entry in said) == [0, 0, 0, 1, 1, 1]
    assert all(entry["progress"] == [] for entry in said if entry["rank"] == 1)
    counted = [entry["progress"] for entry in said if entry["rank"] == 0]
    assert [steps[-1] for steps in counted] == [[9, 9], [2, 2], [9, 9]]
    assert all(steps == sorted(steps) for steps in counted)

    one_process(photos, 9, tmp_path / "a", **whole)
    one_process(photos, 2, tmp_path / "b")
    one_process(photos, 9, tmp_path / "c", dtype="int8")
    for ours, theirs in (("uneven", "a"), ("one-shard", "b"), ("int8", "c")):
        assert files(tmp_path / ours) == files(tmp_path / theirs)
    assert list(FeatureCache.open(tmp_path / "uneven").skipped) == ["photo03"]
    assert {p.name for p in (tmp_path / "uneven").iterdir() if p.name.startswith(".")} == {
        ".lock",
        ".lock.1",
    }


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_is_killed_and_a_second_start_finishes(lost, photos, start, tmp_path):
    out, reached = tmp_path / "out", tmp_path / "reached"
    # Rank 0 has shards 0 and 2, rank 1 has 1, 3: each pauses in its second, the first is whole.
    pause = {"rank": lost, "photo": ("photo04", "photo06")[lost], "reached": str(reached)}
    job = {"photos": [str(photos), 8], "out": str(out), "pause": pause}
    process = start({"devices": 2, "jobs": [job]})
    await_file(reached, process)
    first = f"shard-0000{lost}.safetensors"
    await_file(out / f"{first}.json", process)
    victim = process.pid if lost == 0 else _child(process.pid)
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=HURRY)  # and the pipes of both processes are closed
    assert process.returncode != 0
    assert "killed" in err or "was lost" in err or "Child process" in err
    assert not FeatureCache.complete(out)
    assert CacheIndex.read(out).shards == ()

    whole = (out / first).stat()
    (out / "shard-00003.safetensors.tmp").write_bytes(b"half")
    del job["pause"]
    finished(start({"devices": 2, "jobs": [job]}))
    assert (out / first).stat().st_ino == whole.st_ino  # kept, not written again
    one_process(photos, 8, tmp_path / "alone")
    assert files(out) == files(tmp_path / "alone")


def _child(parent: int) -> int:
    """The one process that a process has started."""
    (found,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(found)


@pytest.mark.slow
def test_an_error_in_one_rank_ends_the_others_with_its_reason(photos, start, tmp_path):
    (photos / "photo03.jpg").write_bytes(b"")
    job = {"photos": [str(photos), 8], "out": str(tmp_path / "out"), "options": {"strict": True}}
    process = start({"devices": 2, "jobs": [job]})
    _, err = process.communicate(timeout=HURRY)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    own, others = sorted(lines, key=len)
    assert own.startswith(f"error: {photos / 'photo03.jpg'} is empty")
    assert others == f"error: rank 1 of 2 has failed: {own[7:]} (rank 0 of 2 ends with it)"


@pytest.mark.slow
def test_a_rank_that_does_not_come_and_one_that_falls_silent(photos, start, tmp_path):
    job = {"photos": [str(photos), 8], "out": str(tmp_path / "out")}
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(), "NODE_RANK": "0"}
    alone = start({"devices": 1, "nodes": 2, "timeout": 5, "jobs": [job]}, **variables)
    _, err = alone.communicate(timeout=HURRY)
    assert alone.returncode == 1
    assert "the 2 processes of this run do not find each other" in err

    job["pause"] = {"rank": 1, "photo": "photo02", "reached": str(tmp_path / "reached")}
    process = start({"devices": 2, "silence": 8, "jobs": [job]})
    _, err = process.communicate(timeout=HURRY)
    assert process.returncode != 0
    assert "rank 1 was not heard of for 8 seconds; see to its machine" in err


def _free_port() -> str:
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    return str(find_free_network_port())


@pytest.mark.slow
def test_ranks_with_other_photos_are_refused(photos, start, tmp_path):
    write_photos(tmp_path / "others", 8, seed=5)
    port = _free_port()
    ranks = []
    for number, seen in enumerate((photos, tmp_path / "others")):
        job = {"photos": [str(seen), 8], "out": str(tmp_path / "out")}
        # As a PyTorchJob of Kubernetes sets them; what was started need not be said again.
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        ranks.append(start({"jobs": [job]}, **variables, RANK=str(number)))
    first, second = (process.communicate(timeout=HURRY)[1] for process in ranks)
    assert "rank 1 was started for something else than rank 0: there the fingerprint" in second
    assert "rank 1 of 2 has failed: rank 1 was started for something else" in first


def test_records_of_whole_shards_are_taken_over(photos, tmp_path, caplog):
    out = tmp_path / "out"
    done = one_process(photos, 8, out)
    before = files(out)
    index = done.index
    # As several processes leave it: shards 0 and 2 whole, 1 half written, 3's record damaged.
    for shard in index.shards[:3]:
        write_record(out, shard)
    (out / "shard-00003.safetensors.json").write_text("{")
    with open(out / "shard-00001.safetensors", "r+b") as file:
        file.truncate(100)
    index.with_shards([]).write(out)
    with pytest.raises(CacheError, match="incomplete: 6 of 8 images"):
        FeatureCache.open(out)
    kept = (out / "shard-00002.safetensors").stat().st_ino
    one_process(photos, 8, out)
    assert files(out) == before
    assert (out / "shard-00002.safetensors").stat().st_ino == kept
    assert "shard-00001.safetensors is damaged" in caplog.text
    assert "shard-00003.safetensors.json is damaged" in caplog.text


def test_ranks_that_outlived_their_first_keep_others_out(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with (
        FileLock(out / ".lock.1"),
        pytest.raises(CacheError, match="another frostbox is writing"),
    ):
        one_process(photos, 4, out)
    assert len(one_process(photos, 4, out)) == 4
