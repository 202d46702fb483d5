"""`frostbox cache`: show and remove cached features."""

from __future__ import annotations

from typing import Annotated

import typer

from frostbox.cli_shared import Json, say, write_json

app = typer.Typer(help="Show and remove cached features.", no_args_is_help=True)


@app.command("list")
def cache_list(
    cache: Annotated[str | None, typer.Option(help="Folder of caches.")] = None,
    json_file: Json = None,
) -> None:
    """Show the caches that training made, with their sizes."""
    from frostbox import reporting
    from frostbox.features.store import cache_root, list_caches

    found = list_caches(cache_root(cache))
    if json_file != "-":
        reporting.print_caches(cache or cache_root(), found)
    write_json(found, json_file)


@app.command("prune")
def cache_prune(
    names: Annotated[
        list[str] | None, typer.Argument(help="Caches by name as `list` shows them; all without.")
    ] = None,
    cache: Annotated[str | None, typer.Option(help="Folder of caches.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove caches. Features can be extracted again at any time."""
    from frostbox.features.store import cache_root, list_caches, prune_caches
    from frostbox.units import size_text

    chosen = list_caches(cache_root(cache), names or None)
    if not chosen:
        say(f"no caches in {cache or cache_root()}")
        return
    total = size_text(sum(c["bytes"] for c in chosen))
    if not yes:
        for entry in chosen:
            say(f"  {entry['name']}  {size_text(entry['bytes'])}")
        typer.confirm(f"remove {len(chosen)} caches, {total}?", abort=True, err=True)
    prune_caches(cache_root(cache), chosen)
    say(f"removed {len(chosen)} caches, {total}")
