"""Runs commands for a test in a process of its own, whose huggingface_hub knows another endpoint.

One JSON line in, {"argv", "env"} or {"code"}; one out, {"status", "out", "err"}.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys


def run(asked: dict) -> dict:
    out, err = io.StringIO(), io.StringIO()
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(asked.get("env", {}))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "code" in asked:
                exec(asked["code"], {})
            else:
                from frostbox import cli

                sys.argv = ["frostbox", *asked["argv"]]
                cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    logging.getLogger("frostbox").handlers = []
    return {"status": status, "out": out.getvalue(), "err": " ".join(err.getvalue().split())}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints past sys.stdout is no answer
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()
