"""The audit of the pinned packages, by a database that answers, one that does not, and by hand."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.version import Version

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit.py"


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "constraints.txt").write_text("# pins\nA_b==1.0\nc==2\n")
    (tmp_path / "reviewed.txt").write_text("# 1 May 2026\na-b==1.0\nc==2  # CVE-1: before 1.9\n")
    monkeypatch.setattr(module, "PINS", tmp_path / "constraints.txt")
    monkeypatch.setattr(module, "REVIEWED", tmp_path / "reviewed.txt")
    return module


def _answer(monkeypatch: pytest.MonkeyPatch, audit: ModuleType, text: str) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert str(audit.PINS) in command
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(subprocess, "run", run)


def _known(*vulns: dict[str, Any]) -> str:
    entries = [{"name": "a_b", "version": "1.0", "vulns": list(vulns)},
               {"name": "c", "version": "2", "vulns": []}]  # fmt: skip
    return json.dumps({"dependencies": entries})


def test_a_database_that_answers(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answer(monkeypatch, audit, _known())
    assert audit.main() is None
    assert capsys.readouterr().out == "2 of 2 pinned packages audited: no known fault\n"
    _answer(monkeypatch, audit, _known({"id": "CVE-9", "fix_versions": ["1.1"]}))
    assert audit.main().endswith("a_b 1.0: CVE-9, mended in 1.1")


@pytest.mark.parametrize(
    "text", ["", json.dumps({"dependencies": [{"name": "a_b", "skip_reason": "not found"}]})]
)
def test_without_it_every_version_was_looked_at(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    _answer(monkeypatch, audit, text)
    assert audit.main() is None
    assert "out of reach; reviewed.txt: 1 May 2026" in capsys.readouterr().out
    audit.PINS.write_text("a_b==1.1\nc==2\n")
    assert audit.main().startswith("not looked at: a-b==1.1; read their advisories")


def test_no_pinned_version_is_older_than_what_mended_it() -> None:
    """By the notes of the review: NAME==VERSION  # ..., mended in VERSION; ..."""
    notes = 0
    for line in (SCRIPT.parent / "reviewed.txt").read_text().splitlines():
        pin, _, note = line.partition("#")
        if not pin:
            continue
        name, _, version = pin.strip().partition("==")
        for mended in re.findall(r"mended in ([\d.]*\d)", note):
            assert Version(version) >= Version(mended), name
            notes += 1
    assert notes > 20
