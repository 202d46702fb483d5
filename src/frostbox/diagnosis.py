"""What `doctor` does from end to end, the brief check before a training, and the doctor's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frostbox.data import voc
from frostbox.data.annotations import DetectionSet
from frostbox.data.doctor import diagnose, examine, look_over, of_sets
from frostbox.data.doctor.findings import KINDS, SEVERITIES, Finding, Report, shown
from frostbox.data.doctor.fix import Repair, write_repaired
from frostbox.data.formats import Source, recognise
from frostbox.errors import DataError, SettingsError, told
from frostbox.inputs import check_new_folder
from frostbox.progress import Progress
from frostbox.units import seconds_text

_WORDS = {"breaks": "breaks training", "spoils": "spoils training", "notice": "notice"}
_COLOURS = {"breaks": "red", "spoils": "yellow", "notice": "cyan"}
_EXAMPLES = {"breaks": 10, "spoils": 10, "notice": 4}
_WIDTH = 110
_MISSING = ("photo-missing",)
"""Missing photos are named by the readers, wherever a split is read."""
_FITTED = ("box-inverted", "box-empty", "box-outside", "box-zero-based")
"""So are boxes, where they are fitted: everywhere but in VOC's own layout."""


def run_doctor(
    data: Any,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    *,
    fix: bool = False,
    out: Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> tuple[bool, dict[str, Any]]:
    """Examine a data set, print what is wrong and, with `fix`, write and examine a repaired copy.

    Args:
        data, splits, classes, options: as for `data.doctor.diagnose`.
        fix: whether to write a repaired copy into `out`, an empty or new folder.
        quiet: whether to print nothing on stdout.

    Returns:
        Whether nothing breaks or spoils training (in the copy, if there is one), and the report as
        plain values; with `fix` also "repairs" and "after", the report on the copy.

    Raises:
        SettingsError: `fix` without `out` or the other way round, of data that is no VOC XML, or
            into a folder that is not empty.
        NotFoundError, DataError: as `diagnose`.
    """
    if fix != (out is not None):
        raise SettingsError(
            "--fix needs an empty folder for the repaired copy, and --out is for --fix alone: give "
            "both or neither"
        )
    if fix and not options.get("photos", True):
        raise SettingsError("--fix has to look at the photos: leave --no-photos out")
    source = recognise(data)
    if fix and not (source.voc or source.flat):
        raise SettingsError(
            f"--fix writes VOC XML, and {data} is {source.format}: mend the findings in its own "
            f"files, or `frostbox convert {data} FOLDER --to voc` and give FOLDER"
        )
    progress = Progress()
    console = Console(quiet=quiet) if Console().is_terminal else Console(width=_WIDTH, quiet=quiet)
    if out is not None:
        check_new_folder(out, source.root, "with --out")
    found = diagnose(source, splits, classes, progress=progress, **options)
    print_report(found.report, console)
    result = found.report.to_json()
    if out is None:
        return found.report.healthy, result
    repairs = write_repaired(found, out, progress)
    _print_repairs(repairs, out, console)
    after = examine(out, splits, classes=classes, progress=progress, **options)
    console.print(f"\n[bold]after the repair[/bold], in {out}:")
    if after.findings:
        console.print(_overview(after))
    console.print(_verdict(after), highlight=False)
    result["repairs"] = [repair.to_json() for repair in repairs]
    result["after"] = after.to_json()
    return after.healthy, result


def examined(source: Source, split: str, also: Sequence[str] | None) -> Report | None:
    """What the doctor finds in a list, photos included; None where it cannot look."""
    if len(source.voc) > 1 or split not in source.lists:
        return None
    return examine(source, [split], also=also, progress=Progress())


def check_before_training(
    data: Any,
    splits: Sequence[str],
    also: Sequence[str] | None,
    console: Console,
) -> None:
    """The doctor's brief check: annotations and lists, no photos. What spoils is printed.

    Other formats than VOC XML are checked by `check_loaded`: their readers say what they refuse.

    Args:
        data: as of `data.formats.recognise`. splits: those that training reads.
        also: class names that may occur besides those that the data set shows; None for any.

    Raises:
        DataError: something breaks training; the first such finding, and how many there are.
        NotFoundError: no such folder or list.
    """
    source = recognise(data)
    wanted = dict.fromkeys(s if s in source.lists else source.base for s in splits)
    for root in source.voc:
        lists = source.lists if len(source.voc) == 1 else voc.splits(root)
        known = [split for split in wanted if split is not None and split in lists]
        if known:
            _check_xml(root, root, known, also, console)
    if source.flat is not None:
        known = [split for split in wanted if split is not None and split in source.lists]
        if known:
            _check_xml(source, source.root, known, also, console)


def check_loaded(
    data: Any,
    source: Source,
    sets: Sequence[DetectionSet],
    also: Sequence[str] | None,
    console: Console,
) -> None:
    """The brief check of splits that other readers than VOC's gave: what spoils is printed.

    Nothing is read again. Arguments as of `check_before_training`; `source` is what `data` is.
    """
    if source.voc or source.flat is not None:
        return
    found = of_sets({one.split: one for one in sets}, source.root, also=also)
    typed = data if isinstance(data, (str, Path)) else None
    # What two splits have in common is said by `load_training`.
    _warn(look_over(found, photos=False).report, typed, (*_MISSING, "split-overlap"), console)


def _check_xml(
    data: Path | Source, root: Path, splits: Sequence[str], also: Sequence[str] | None,
    console: Console,
) -> None:  # fmt: skip
    report = examine(data, splits, also=also, photos=False)
    breaking = report.of("breaks")
    if breaking:
        raise DataError(breaking[0].sentence() + _way_on(root, breaking))
    fitted = isinstance(data, Source)  # XML without lists
    _warn(report, root, (*_MISSING, *(_FITTED if fitted else ())), console)


def _warn(report: Report, data: str | Path | None, said: Sequence[str], console: Console) -> None:
    """Print what spoils and is not `said` already, one line a kind; `data` is what was typed."""
    spoiling = [
        group for group in report.groups()
        if group[0].severity == "spoils" and group[0].kind not in said
    ]  # fmt: skip
    for group in spoiling:
        times = f" ({len(group)} times)" if len(group) > 1 else ""
        _line(console, f"warning: {KINDS[group[0].kind]}{times}: {group[0].sentence()}")
    if spoiling and data is not None:
        _line(console, f"`frostbox doctor {data}` says more.")


def _way_on(root: Path, breaking: Sequence[Finding]) -> str:
    """What the doctor does about findings that stop a training, behind the first of them."""
    count, fixable = len(breaking), sum(finding.fixable for finding in breaking)
    many = f" {count} faults stop the training; `frostbox doctor {root}` lists them all"
    fix = f"`frostbox doctor {root} --fix --out FOLDER` writes a copy with"
    if not fixable:
        return f"{many}." if count > 1 else ""
    if count == 1:
        return f" {fix} it repaired."
    return f"{many}, and {fix} {fixable} of them repaired."


def print_report(report: Report, console: Console) -> None:
    """A table of all kinds, worst first; examples and the way out of each; the verdict."""
    lists = ", ".join(f"{split} {count}" for split, count in report.lists.items())
    looked = "photos not looked at" if report.photos is None else f"{report.photos} photos decoded"
    _line(console, f"{report.root}")
    _line(
        console,
        f"images: {lists}; {report.objects} objects; {looked}; {seconds_text(report.seconds)}",
    )
    if report.findings:
        console.print(_overview(report))
    for group in report.groups():
        _print_group(group, report.root, console)
    console.print()
    console.print(_verdict(report), highlight=False)
    fixable = sum(f.fixable for f in report.findings)
    if fixable:
        _line(console, f"--fix --out FOLDER writes a copy with {fixable} of the findings repaired")


def _overview(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("severity")
    table.add_column("findings", justify="right")
    table.add_column("fixable", justify="right")
    table.add_column("kind")
    table.add_column("what")
    for group in report.groups():
        severity = group[0].severity
        fixable = sum(f.fixable for f in group)
        table.add_row(
            f"[{_COLOURS[severity]}]{_WORDS[severity]}[/]", str(len(group)),
            str(fixable) if fixable else "-", group[0].kind, KINDS[group[0].kind],
        )  # fmt: skip
    return table


def _print_group(group: list[Finding], root: Path, console: Console) -> None:
    first = group[0]
    console.print(
        f"\n[bold {_COLOURS[first.severity]}]{_WORDS[first.severity]}: {first.kind}[/] "
        f"({len(group)})",
        highlight=False,
    )
    ways = {finding.way_out for finding in group}
    limit = _EXAMPLES[first.severity]
    for finding in group[:limit]:
        field = f": {finding.field}" if finding.field else ""
        way_out = f"; {finding.way_out}" if len(ways) > 1 else ""
        _line(console, f"  {shown(finding.file, root)}{field} {finding.found}{way_out}")
    if len(group) > limit:
        _line(console, f"  and {len(group) - limit} more (--json has all)")
    if len(ways) == 1:
        _line(console, f"  what to do: {first.way_out}")


def _print_repairs(repairs: Sequence[Repair], out: Path, console: Console) -> None:
    console.print(f"\n[bold]repaired copy in {out}[/bold]", highlight=False)
    limit = _EXAMPLES["breaks"]
    for repair in repairs[:limit]:
        _line(console, f"  {repair}")
    if len(repairs) > limit:
        _line(console, f"  and {len(repairs) - limit} more")
    _line(console, f"{len(repairs)} repairs, all listed in {out / 'repairs.txt'}")


def _verdict(report: Report) -> str:
    parts = []
    for severity in SEVERITIES:
        count = len(report.of(severity))
        if count:
            noun = _WORDS[severity] if severity != "notice" else "notices"
            parts.append(f"[{_COLOURS[severity]}]{noun}: {count}[/]")
    if report.healthy:
        parts.insert(0, "[green]nothing breaks or spoils training[/]")
    return "; ".join(parts)


def _line(console: Console, text: str) -> None:
    console.print(told(text), markup=False, highlight=False, soft_wrap=True)
