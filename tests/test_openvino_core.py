"""What OpenVINO does to its process: see openvino_core."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, gc
from frostbox import backbones
from frostbox.features.engine import create_engine

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def signal_stack():
    found = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start, found.size

def engine():
    backbone = backbones.create("efficientnet_lite0", (8,), weights="random")
    return create_engine("openvino", backbone, (32, 32))

first = engine()
stack = signal_stack()
second = engine()
first = None
gc.collect()
second = None
gc.collect()
assert signal_stack() == stack, (signal_stack(), stack)
third = engine()
assert signal_stack() == stack, (signal_stack(), stack)
print("as it was")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stack is asked of glibc")
def test_engines_that_end_leave_a_stack_for_signals() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "as it was\n", done.stderr
