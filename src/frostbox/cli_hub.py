"""The commands push and pull: detectors on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frostbox.cli_shared import say

Repo = Annotated[str, typer.Argument(metavar="USER/REPO", help="Repository on the hub.")]


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or its best.safetensors.")],
    repo: Repo,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
) -> None:
    """Upload a run's detector, model card, settings and metrics to the Hugging Face hub."""
    from frostbox.hub import push as push_run

    url = push_run(run, repo, private=private, message=message)
    typer.echo(f"pushed to {url}")
    say(f"use it: frostbox predict hf://{repo} photo.jpg")


def pull(
    repo: Repo,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit.", show_default="the newest")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder.", show_default="REPO")
    ] = None,
) -> None:
    """Download a detector from the Hugging Face hub into a folder like that of a run."""
    from frostbox.hub import pull as pull_run

    folder = pull_run(repo, revision=revision, out=out)
    typer.echo(f"detector: {folder / 'best.safetensors'}")
