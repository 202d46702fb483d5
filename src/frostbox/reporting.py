"""Results as tables on stdout. Wherever an AP is printed, its rule is printed too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from frostbox.card import CARD
from frostbox.errors import told
from frostbox.units import counted, seconds_text, size_text

if TYPE_CHECKING:
    from frostbox.convert import Converted
    from frostbox.data.annotations import DetectionSet
    from frostbox.data.doctor import Report as DoctorReport
    from frostbox.data.explore import Statistics
    from frostbox.export import Result
    from frostbox.pipeline import Trained
    from frostbox.report.contract import Finding

RULE = (
    "AP at IoU 0.5; all-point: area under the precision envelope (VOC2010), 11-point: VOC2007; "
    "difficult objects ignored; a model's detections down to score 0.001, at most 300 an image"
)
_FIGURES = {
    "smooth_l1": "smooth L1 of the box (beta 1, mean over N x 4)",
    "l1": "L1 of the box",
    "accuracy": "class accuracy",
    "mean_iou": "mean IoU",
    "box_l1": "box L1 in hosting cells",
    "objectness_loss": "objectness cross-entropy over cells",
}


def stdout() -> Console:
    """A console for results; wide enough for tables when the output is a file."""
    # Names of classes and files may hold brackets and colons: they are no markup.
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, emoji=False, width=110)


def percent(value: float | None) -> str:
    """'65.6', or '-' for a class without ground truth."""
    return "-" if value is None else f"{100 * value:.1f}"


def print_explore(dataset: DetectionSet, numbers: Statistics) -> None:
    """Counts per class, sizes, and what is missing."""
    console = stdout()
    table = Table(title=f"{numbers['name']} {numbers['split']}: {told(str(dataset.root))}")
    table.add_column("class")
    for name in ("objects", "difficult", "images"):
        table.add_column(name, justify="right")
    for name in numbers["classes"]:
        table.add_row(
            name,
            str(numbers["objects_per_class"][name]),
            str(numbers["difficult_per_class"][name]),
            str(numbers["images_per_class"][name]),
        )
    table.add_section()
    totals = (numbers["objects"], numbers["difficult"], numbers["images"])
    table.add_row("all", *(str(n) for n in totals))
    console.print(table)
    console.print(f"classes from {told(numbers['classes_from'])}")
    console.print(
        f"{numbers['missing_photos']} photos missing; {numbers['images_without_objects']} images "
        f"without objects; {numbers['mean_boxes_per_image']:.2f} boxes an image"
    )
    sizes = Table(title="image sizes in pixels, 10 equal bins over both")
    for name in ("from", "to", "widths", "heights"):
        sizes.add_column(name, justify="right")
    edges = numbers["width_histogram"]["edges"]
    counts = (numbers["width_histogram"]["counts"], numbers["height_histogram"]["counts"])
    for low, high, width, height in zip(edges, edges[1:], *counts, strict=False):
        sizes.add_row(f"{low:g}", f"{high:g}", str(width), str(height))
    console.print(sizes)


def write_explore(dataset: DetectionSet, numbers: Statistics, out: Path) -> list[Path]:
    """The plots, and a sheet of annotated samples where there are photos."""
    from frostbox.draw import annotated_samples
    from frostbox.plots import explore_plots

    written = explore_plots(numbers, out)
    if dataset.photos:
        sheet = out / "samples.jpg"
        annotated_samples(dataset).save(sheet, quality=92)
        written.append(sheet)
    return written


def print_converted(done: Converted) -> None:
    """What was written, split by split, and what was lost."""
    for split, images in done.images.items():
        print(f"{split}: {images:,} images, {done.objects[split]:,} objects")
    print("lost: nothing" if not done.lost else "lost:")
    for text in done.lost:
        print(f"  {text}")
    print(f"written to {done.out}")


def write_explore_page(
    dataset: DetectionSet, numbers: Statistics, doctor: DoctorReport | None, path: Path
) -> Path:
    """The page of a data set, with what the doctor found in it if it was asked."""
    from frostbox.data.doctor.findings import KINDS, shown
    from frostbox.report import write_explore_report
    from frostbox.report.explore import explore_report

    findings: list[Finding] | None = (
        None
        if doctor is None
        else [
            {
                "severity": f.severity,
                "kind": KINDS[f.kind],
                "file": shown(f.file, doctor.root),
                "field": f.field,
                "message": f.found,
                "remedy": f.way_out,
            }
            for f in doctor.findings
        ]
    )
    return write_explore_report(explore_report(dataset, numbers, findings), path)


def print_evaluation(result: Mapping[str, Any]) -> None:
    """AP per class and mean, by VOC's rules and COCO's, and all that explains them.

    `result` is that of `evaluation.score` or, with more to print, of `suite.measure`.
    """
    console = stdout()
    whole = "coco" in result
    title = f"AP50 on {result['split']}"
    if whole:
        console.print(_class_table(title, result))
    else:
        console.print(ap_table([(title, result)], result["objects_per_class"]))
    console.print(RULE)
    if whole:
        _print_suite(console, result)
    for name, text in _FIGURES.items():
        if name in result:
            console.print(f"{text}: {result[name]:.4f}")
    left_out = "".join(
        f"; {result[key]} {text} left out"
        for key, text in (("missing_photos", "without photo"), ("skipped_photos", "unreadable"))
        if result[key]
    )
    console.print(f"{result['images']} images{left_out}")
    if result.get("detections_of_other_images"):
        console.print(f"{result['detections_of_other_images']} detections of other images left out")


def _class_table(title: str, result: Mapping[str, Any]) -> Table:
    intervals = result["intervals"]
    table = Table()
    for name in ("class", "objects", title, "interval", "11-point", "best F1", "at score"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, count in result["objects_per_class"].items():
        best = result["best_f1_per_class"][name]
        table.add_row(
            name,
            str(count),
            percent(result["ap50_per_class"][name]),
            _range(intervals["ap50_per_class"][name]) if intervals else "",
            percent(result["ap50_11point_per_class"][name]),
            percent(best["f1"]) if best else "-",
            f"{best['threshold']:.3f}" if best else "-",
        )
    table.add_section()
    table.add_row(
        "mean",
        str(sum(result["objects_per_class"].values())),
        percent(result["ap50"]),
        _range(intervals["ap50"]) if intervals else "",
        percent(result["ap50_11point"]),
    )
    if not intervals:
        table.columns.pop(3)
    return table


def _print_suite(console: Console, result: Mapping[str, Any]) -> None:
    intervals, coco = result["intervals"], result["coco"]
    if intervals:
        console.print(
            f"intervals: {100 * intervals['confidence']:.0f} % of {intervals['resamples']} "
            "bootstrap resamples of the images; 11-point AP50 "
            f"{_range(intervals['ap50_11point'])}, "
            f"COCO AP {_range(intervals['coco_ap'])}. An image drawn twice raises AP a little, so "
            "intervals lie rather high"
        )
    console.print(
        f"COCO (101 points, at most 100 detections an image and class, difficult ignored): "
        f"AP {percent(coco['ap'])}, AP50 {percent(coco['ap50'])}, AP75 {percent(coco['ap75'])}, "
        f"small {percent(coco['ap_small'])}, medium {percent(coco['ap_medium'])}, "
        f"large {percent(coco['ap_large'])}, AR100 {percent(coco['ar100'])}"
    )
    costs = ", ".join(
        f"{kind} {percent(e['ap_cost'])} ({e['count']})" for kind, e in result["errors"].items()
    )
    if costs:
        console.print(
            f"AP50 that each kind of error costs (how often, from score "
            f"{result['operating_point']:.2f} on): {costs}"
        )
    ece = result["ece"]
    if ece is not None:
        floor = result["calibration"]["score_floor"]
        console.print(f"expected calibration error of scores from {floor} on: {ece:.3f}")
    for key, text in (("ap50_by_size", "size"), ("ap50_by_objects", "objects in the image")):
        parts = ", ".join(f"{name} {percent(s['ap50'])}" for name, s in result[key].items())
        console.print(f"AP50 by {text}: {parts}")
    if result["suspected_labels"]:
        console.print(
            f"{len(result['suspected_labels'])} annotations to look at (--json lists them): "
            "confident detections contradict them"
        )


def print_comparison(result: Mapping[str, Any]) -> None:
    """Difference of two models, class by class, with interval and probability."""
    console = stdout()
    console.print(f"A {result['a']}\nB {result['b']}", highlight=False)
    table = Table()
    for name in ("class", "A", "B", "A - B", "interval", "A better"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, one in result["ap50"]["per_class"].items():
        table.add_row(name, *_comparison_cells(one))
    table.add_section()
    for rule, text in (("ap50", "mean AP50"), ("ap50_11point", "11-point"), ("coco_ap", "COCO AP")):
        table.add_row(text, *_comparison_cells(result[rule]["mean"]))
    console.print(table)
    console.print(RULE)
    console.print(
        f"paired bootstrap: {result['resamples']} resamples of the {result['images']} images of "
        f"{result['split']}, the same for both; intervals hold {100 * result['confidence']:.0f} %; "
        "'A better' is the share of resamples in which it is"
    )
    if result["images_left_out"]:
        console.print(f"{result['images_left_out']} images that only one of them has left out")


def _comparison_cells(one: Mapping[str, float | None]) -> list[str]:
    if one["difference"] is None:
        return ["-"] * 5
    interval = [one["low"], one["high"]]
    return [
        percent(one["a"]),
        percent(one["b"]),
        f"{100 * one['difference']:+.1f}",
        _range(interval, sign=True),
        percent(one["probability"]),
    ]


def _range(interval: Sequence[float | None], *, sign: bool = False) -> str:
    low, high = interval
    if low is None or high is None:
        return "-"
    plus = "+" if sign else ""
    return f"{100 * low:{plus}.1f} to {100 * high:{plus}.1f}"


def ap_table(columns: Sequence[tuple[str, Mapping[str, Any]]], objects: Mapping[str, int]) -> Table:
    """One pair of columns (all-point and 11-point AP50, in per cent) for each result."""
    table = Table()
    table.add_column("class")
    table.add_column("objects", justify="right")
    for title, _ in columns:
        table.add_column(title, justify="right")
        table.add_column("11-point", justify="right")
    for name, count in objects.items():
        cells = [
            percent(result[key][name])
            for _, result in columns
            for key in ("ap50_per_class", "ap50_11point_per_class")
        ]
        table.add_row(name, str(count), *cells)
    table.add_section()
    means = [percent(r[key]) for _, r in columns for key in ("ap50", "ap50_11point")]
    table.add_row("mean", str(sum(objects.values())), *means)
    return table


def print_trained(trained: Trained) -> None:
    """Where things lie, what they took and what they reached."""
    console = stdout()
    summary = trained.summary
    measured = summary["evaluation"]
    if measured is not None:
        print_evaluation(measured)
    scaled = summary["calibration"]
    if scaled is not None and scaled["ece_before"] is not None:
        console.print(
            f"scores divided by temperature {scaled['temperature']:.2f} (predict --calibrated): "
            f"calibration error {scaled['ece_before']:.3f} before, {scaled['ece_after']:.3f} after"
        )
    for phase, fit in (("", summary["fit"]), (" with thawed stages", summary["thaw"])):
        if fit is not None:
            kept = f"best of {counted(fit['epochs_run'], 'epoch')}{phase}: {fit['best_epoch'] + 1}"
            final = f"final weights of {counted(fit['epochs_run'], 'epoch')}{phase}"
            console.print(kept if measured is not None else final)
    spent = ", ".join(f"{k} {seconds_text(v)}" for k, v in summary["seconds"].items())
    console.print(f"time: {spent}")
    console.print(f"detector: {trained.run / 'best.safetensors'}")
    console.print(f"model card: {trained.run / CARD}")


def prediction_line(entry: Mapping[str, Any]) -> str:
    """What was found in a picture, as one line."""
    names = ", ".join(f"{d['name']} {d['score']:.2f}" for d in entry["detections"])
    return f"{entry['image']}: {names or 'nothing found'}"


def print_exported(result: Result) -> None:
    """How far an exported file is from PyTorch, and its AP where it was measured."""
    console, d = stdout(), result.difference
    where = "the thresholds" if result.threshold is None else f"score {result.threshold:g}"
    console.print(
        f"compared with PyTorch on {counted(d.pictures, 'picture')}, "
        f"{counted(d.detections, 'detection')} from {where} up"
    )
    console.print(
        f"  boxes: at most {d.boxes_px:.3f} px apart ({100 * d.boxes_share:.3f} % of the picture)"
        + (f"; {d.swapped} gave way to a neighbour of nearly the same score" if d.swapped else "")
    )
    console.print(f"  scores: at most {d.scores:.5f} apart")
    console.print(
        f"  labels: {d.labels} differ; {d.missing} detections are missing, {d.extra} extra "
        f"({d.borderline} of them at a threshold)"
    )
    if result.figures:
        table = Table()
        for name in ("", "AP50", "11-point", "COCO AP"):
            table.add_column(name, justify="right" if name else "left")
        own = f"{result.format}, {result.precision}"
        for name, row in (("PyTorch, 32", "PyTorch"), (own, "file")):
            values = result.figures[row]
            shown = [percent(values[key]) for key in ("ap50", "ap50_11point", "coco_ap")]
            table.add_row(name, *shown)
        console.print(table)
        console.print(RULE)
        console.print(f"{result.figures['file']['images']} images")


def print_caches(root: str | Path, caches: Sequence[Mapping[str, Any]]) -> None:
    """Name, content and size of each cache, and the total."""
    console = stdout()
    if not caches:
        console.print(f"no caches in {root}")
        return
    table = Table(title=str(root))
    for name in ("name", "backbone", "size", "views", "features", "disk"):
        table.add_column(name)
    for entry in caches:
        width, height = entry["size"]
        table.add_row(
            entry["name"] + ("" if entry["complete"] else " (incomplete)"),
            entry["backbone"],
            f"{width}x{height}",
            str(entry["views"]),
            entry["dtype"],
            size_text(entry["bytes"]),
        )
    console.print(table)
    console.print(f"in all {size_text(sum(entry['bytes'] for entry in caches))}")
