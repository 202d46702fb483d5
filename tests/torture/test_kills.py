"""CI's share of `make torture`: three kills of each command, or FROSTBOX_KILLS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.torture.kills import torture
from tests.torture.serving import torture_serve
from tests.torture.works import Work, works

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("FROSTBOX_KILLS", "3"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    return works(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", ["extract", "train", "train --thaw", "convert"])
def test_a_killed_run_completes_with_the_same_result(known, name, tmp_path: Path) -> None:
    report = torture(known[name], KILLS, tmp_path)
    assert not report.refused
    assert not report.differing
    assert len(report.moments) == KILLS
    assert report.completed


def test_a_killed_server_comes_back_with_the_same_answer(tmp_path: Path) -> None:
    report = torture_serve(KILLS, tmp_path)
    assert not report.refused
    assert not report.differing
    assert len(report.moments) == KILLS
