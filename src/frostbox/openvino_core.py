"""The one Core of OpenVINO that a process has."""

from __future__ import annotations

import threading
from typing import Any

_LOCK = threading.Lock()
_cores: list[Any] = []


def openvino_core() -> Any:
    """An openvino.Core, the same one at every call, which lives as long as the process.

    The CPU plugin of each Core gives its thread an alternate stack for signals, and its end gives
    back the one of before. Where two that overlap do not end in reverse order, the stack that is
    given back was freed with the other one: the next signal (Ctrl-C, say) kills the process,
    without a word (seen with OpenVINO 2026.4.1 and AMX).

    Raises:
        ImportError: without OpenVINO.
    """
    from openvino import Core

    with _LOCK:
        if not _cores:
            _cores.append(Core())
        return _cores[0]
