"""The model card: what a person who meets a detector should know, as Markdown with a YAML header.

Written at the end of every training as card.md, and README.md on the Hugging Face hub. The header
is the hub's (https://huggingface.co/docs/hub/model-cards). The licence is left to the user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from frostbox.files import write_whole
from frostbox.markdown import escaped, table
from frostbox.units import counted, seconds_text

if TYPE_CHECKING:
    from frostbox.selection import Selection
    from frostbox.settings import TrainSettings

CARD = "card.md"
PLACEHOLDER = "USER/REPO"
"""Where the detector lies on the hub; `push` puts the name in."""
_METRIC = "mean_average_precision"
_RULES = (
    ("ap50", "AP50, all-point", "VOC2010: area under the precision envelope, IoU 0.5"),
    ("ap50_11point", "AP50, 11-point", "VOC2007: mean of the envelope at 11 recalls, IoU 0.5"),
    ("coco_ap", "AP", "COCO: 101 points, mean over IoU 0.50 to 0.95"),
    ("coco_ap50", "AP50", "COCO: 101 points, IoU 0.5"),
    ("coco_ap75", "AP75", "COCO: 101 points, IoU 0.75"),
)
_FEW_LEARNED, _FEW_MEASURED = 50, 20  # objects of a class: little to learn from, or to judge by
_WEAK = 0.5  # share of the mean AP50 below which a class is called weak
_SHOWN = 12  # names in a sentence


def write_card(
    run: Path, summary: Mapping[str, Any], settings: TrainSettings, selection: Selection
) -> Path:
    """Write card.md into the folder of a run; the arguments are those of `card`."""
    path = run / CARD
    return write_whole(path, card(summary, settings, selection))


def card(summary: Mapping[str, Any], settings: TrainSettings, selection: Selection) -> str:
    """The whole card.

    Args:
        summary: as `summary.summarise` returns it.
        settings: of the training, as they were planned.
        selection: that the detector predicts with where nothing else is asked for.
    """
    data, measured = summary["data"], summary["evaluation"]
    number, name = len(data["classes"]), escaped(data["name"])
    model = summary["model"]
    frozen = "fine-tuned" if model["thawed"] else "frozen"
    intro = (
        f"Finds {number} {'kind' if number == 1 else 'kinds'} of objects in photos and draws a box "
        f"around each: a `{settings.head}` head on a {frozen} `{_code(model['backbone'])}` "
        f"backbone, trained with frostbox {summary['frostbox_version']}."
    )
    parts = [
        _header(summary, settings),
        f"# {name}: object detection\n\n{intro}",
        f"Classes: {', '.join(escaped(c) for c in data['classes'])}.",
        _loading(selection),
        _data(data, settings),
        _numbers(data, measured) if measured is not None else _unmeasured(settings),
        _training(summary, settings),
        _limits(summary, settings, selection),
    ]
    return "\n\n".join(parts) + "\n"


def _header(summary: Mapping[str, Any], settings: TrainSettings) -> str:
    """The YAML that the hub reads."""
    measured = summary["evaluation"]
    # No `datasets`: the hub takes them for its own, where a folder's name may be anyone's.
    # Readers of such headers look for lines of three hyphens: no name may bring one.
    name = " ".join(summary["data"]["name"].split())
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "data"
    values: dict[str, Any] = {
        "library_name": "frostbox",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "transfer-learning", "computer-vision", settings.head],
    }
    if measured is not None:
        shown = [(key, f"{short} ({rule})") for key, short, rule in _RULES]
        figures = [
            {"type": _METRIC, "name": text, "value": round(measured[key], 4)}
            for key, text in shown
            if measured[key] is not None
        ]
        values["metrics"] = [_METRIC]
        values["model-index"] = [
            {
                "name": f"{slug}-{settings.head}",
                "results": [
                    {
                        "task": {"type": "object-detection", "name": "Object Detection"},
                        "dataset": {"name": name, "type": slug, "split": measured["split"]},
                        "metrics": figures,
                    }
                ],
            }
        ]
        if not figures:  # no object to find: the hub takes no empty list
            del values["model-index"]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    licence = (
        "# license:  # yours to choose, such as apache-2.0; photos and backbone have their own\n"
    )
    return f"---\n{text}{licence}---"


def _loading(selection: Selection) -> str:
    threshold = (
        "each class's own threshold, that of its best F1 on the validation images"
        if selection.class_thresholds is not None
        else f"score {selection.threshold:g}"
    )
    return f"""## How to load it

```bash
pip install frostbox
frostbox predict hf://{PLACEHOLDER} photo.jpg --out found
```

```python
import frostbox

detector = frostbox.Detector.load("hf://{PLACEHOLDER}")
found = detector.predict("photo.jpg")
print(found.boxes, found.scores, found.names)
```

In place of `hf://{PLACEHOLDER}`, both take the path of `best.safetensors`, a safetensors file:
loading it runs no code. Boxes are xmin, ymin, xmax, ymax in pixels of the photo. Shown is what
reaches {threshold}; `--threshold 0.3`, or `predict(..., threshold=0.3)`, sets another."""


def _data(data: Mapping[str, Any], settings: TrainSettings) -> str:
    splits = data["splits"]
    counts = [
        [
            escaped(s["split"]), f"{s['images']:,}", f"{s['empty_images']:,}", f"{s['objects']:,}",
            f"{s['difficult']:,}", *(f"{n:,}" for n in s["objects_by_size"].values()),
        ]
        for s in splits
    ]  # fmt: skip
    names = [
        "split",
        "images",
        "without objects",
        "objects",
        "difficult",
        *splits[0]["objects_by_size"],
    ]
    classes = [
        [escaped(c), *(f"{s['objects_per_class'][c]:,}" for s in splits)] for c in data["classes"]
    ]
    notes = [
        f"Data set: {escaped(data['name'])}. Small objects cover less than 32 x 32 pixels of the "
        "photo, large ones 96 x 96 and more."
    ]
    made = [escaped(s["split"]) for s in splits if s["made"]]
    if made:
        notes.append(
            f"The data set has no split of its own: frostbox made {' and '.join(made)}, alike in "
            "every class, from a fixed seed."
        )
    if settings.rename:
        pairs = ", ".join(f"{escaped(a)} as {escaped(b)}" for a, b in settings.rename.items())
        notes.append(f"Renamed or merged: {pairs}.")
    if any(s["crowds"] for s in splits):
        notes.append("Crowds are not counted: they are not learned from, and ignored in AP.")
    unread = data["missing_photos"] + data["skipped_photos"]
    if unread:
        notes.append(f"{unread} training photos are missing or broken and were left out.")
    objects = [f"{escaped(s['split'])} objects" for s in splits]
    return (
        f"## Data\n\n{' '.join(notes)}\n\n{table(names, counts)}\n\n"
        f"{table(['class', *objects], classes)}"
    )


def _numbers(data: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    found, split = measured["intervals"], escaped(measured["split"])
    rules = [
        [short, rule, _percent(measured[key]), _range(found, key)] for key, short, rule in _RULES
    ]
    rules += [
        [f"AP {size}", "COCO", _percent(measured["coco"][f"ap_{size}"]), ""]
        for size in ("small", "medium", "large")
    ]
    classes = [
        [
            escaped(name), f"{objects:,}", _percent(measured["ap50_per_class"][name]),
            _range(found and found["ap50_per_class"], name),
            _percent(measured["ap50_11point_per_class"][name]),
            _range(found and found["ap50_11point_per_class"], name),
            *_best(measured["best_f1_per_class"][name]),
        ]
        for name, objects in measured["objects_per_class"].items()
    ]  # fmt: skip
    interval = f"{100 * found['confidence']:.0f} % interval" if found else "interval"
    limited = measured["rule"]["score_threshold"]
    return "\n\n".join(
        (
            "## Numbers",
            f"In per cent, on the {measured['images']:,} images of {split}. They also chose the "
            "best weights, thresholds and temperature, so the numbers are a little better than on "
            "new photos of the same kind. Difficult objects count neither way (nor do crowds); "
            f"detections down to score {limited:g}, at most 300 an image (COCO: 100 a class).",
            table(["", "rule", "value", interval], rules, left=2),
            f"Intervals: bootstrap over the images, {found['resamples']:,} resamples."
            if found
            else "",
            table(
                [
                    "class",
                    "objects",
                    "AP50",
                    interval,
                    "AP50, 11-point",
                    interval,
                    "best F1",
                    "at score",
                ],
                classes,
            ),
        )
    )


def _unmeasured(settings: TrainSettings) -> str:
    return (
        "## Numbers\n\nNothing was measured: the training had no validation images "
        f"(`--val-split {_code(settings.val_split)}`). The weights are those of the last epoch, "
        "thresholds are not fitted to the classes, and scores are not calibrated. Before you rely "
        "on it, measure it on photos that it has not seen: `frostbox evaluate`."
    )


def _training(summary: Mapping[str, Any], settings: TrainSettings) -> str:
    model, env, fit = summary["model"], summary["environment"], settings.fit
    width, height = model["size"]
    weights = _code(Path(str(model["weights"])).name)
    versions = ("python", "torch", "torchvision", "timm", "openvino")
    machine = (counted(env["threads"], "thread"), env["processor"], env["platform"])
    head = f"`{settings.head}`, {model['head_weights']:,} weights; {_pairs(model['head_settings'])}"
    views = f"{settings.views} {'view' if settings.views == 1 else 'views'} of an image"
    rows = [
        ["head", head],
        ["backbone", f"`{_code(model['backbone'])}`, weights `{weights}`"],
        ["input", f"{width} x {height} pixels, {settings.resize}; {views}"],
    ]
    for title, phase in (("head on frozen features", "fit"), ("with thawed stages", "thaw")):
        if summary[phase] is not None:
            rows.append([title, _phase(summary[phase], summary["evaluation"] is not None)])
    spent = summary["seconds"].items()
    rows += [
        ["thawed stages", settings.thaw if model["thawed"] else "none"],
        ["precision, seed", f"{fit.precision}, {fit.seed}"],
        ["time", ", ".join(f"{escaped(name)} {seconds_text(s)}" for name, s in spent)],
        ["machine", escaped(", ".join((env["device"], *machine)))],
        ["versions", escaped(", ".join(f"{name} {env[name]}" for name in versions))],
    ]
    return "## Training\n\n" + table(["setting", "value"], rows, left=2)


def _phase(done: Mapping[str, Any], chosen: bool) -> str:
    part = f", {done['epoch_images']:,} images each" if done["epoch_images"] else ""
    kept = f", kept the weights of epoch {done['best_epoch'] + 1}" if chosen else ""
    return (
        f"{counted(done['epochs_run'], 'epoch')}{part}{kept}; AdamW, one cycle, "
        f"learning rate {done['lr']:g}, batch {done['batch_size']}, "
        f"weight decay {done['weight_decay']:g}"
    )


def _limits(summary: Mapping[str, Any], settings: TrainSettings, selection: Selection) -> str:
    data, measured = summary["data"], summary["evaluation"]
    learned = data["splits"][0]["objects_per_class"]
    width, height = settings.size
    points = [
        "It knows only the classes above: other things are overlooked, or taken for one of them.",
        f"It was trained for photos like those of {escaped(data['name'])}. Other cameras, views, "
        "seasons, light or kinds of pictures were not tried, and nothing here says how it does "
        "there. It is no basis for decisions about people's safety or rights.",
    ]
    none = [c for c, n in learned.items() if n == 0]
    if none:
        points.append(f"No object to learn from, so it will not find: {_some(none)}.")
    few = [c for c, n in learned.items() if 0 < n < _FEW_LEARNED]
    if few:
        points.append(f"Fewer than {_FEW_LEARNED} objects to learn from: {_some(few)}.")
    small = data["splits"][0]["objects_by_size"]["small"]
    share = small / max(1, data["splits"][0]["objects"])
    seen = f"Photos are brought to {width} x {height} pixels, in which small objects lose detail."
    if measured is not None:
        points += _weak(measured)
        sizes = ", ".join(
            f"{size} {_percent(one['ap50'])} ({one['objects']:,})"
            for size, one in measured["ap50_by_size"].items()
        )
        seen += f" AP50 by size of the object (how many): {sizes}."
    points.append(f"{seen} {100 * share:.0f} % of the training objects are small.")
    if any(split["difficult"] for split in data["splits"]):
        learns = "were learned from" if settings.fit.difficult else "were not learned from"
        points.append(
            f"Objects marked difficult {learns}, and count neither way in AP: how well it finds "
            "them is not measured."
        )
    points.append(_calibration(summary["calibration"], selection))
    return "## Limits\n\n" + "\n".join(f"- {point}" for point in points)


def _weak(measured: Mapping[str, Any]) -> list[str]:
    """Sentences on classes that are found badly, or of which too little is known."""
    ap, objects, mean = measured["ap50_per_class"], measured["objects_per_class"], measured["ap50"]
    points = []
    weak = {c: v for c, v in ap.items() if v is not None and v < _WEAK * (mean or 0)}
    if weak:
        worst = sorted(weak, key=lambda c: weak[c])
        points.append(f"Weak classes, with less than half of the mean AP50: {_some(worst, weak)}.")
    few = [c for c, n in objects.items() if n < _FEW_MEASURED]
    if few:
        points.append(
            f"Fewer than {_FEW_MEASURED} objects to judge by, so that their numbers say little: "
            f"{_some(few)}."
        )
    return points


def _calibration(fitted: Mapping[str, Any] | None, selection: Selection) -> str:
    if fitted is None or selection.temperature is None or fitted["ece_before"] is None:
        return "Scores are no probabilities: no temperature was fitted to them."
    return (
        "Scores are no probabilities as they come: their expected calibration error on the "
        f"validation images is {fitted['ece_before']:.3f}. Divided by a temperature of "
        f"{fitted['temperature']:.2f} (`--calibrated`), which was fitted there, it is "
        f"{fitted['ece_after']:.3f}."
    )


def _some(names: Sequence[str], values: Mapping[str, float] | None = None) -> str:
    shown = [escaped(n) + (f" ({_percent(values[n])})" if values else "") for n in names[:_SHOWN]]
    rest = len(names) - _SHOWN
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _best(best: Mapping[str, float] | None) -> tuple[str, str]:
    return (_percent(best["f1"]), f"{best['threshold']:.3f}") if best else ("-", "-")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _range(intervals: Mapping[str, Any] | None, key: str) -> str:
    low, high = (intervals or {}).get(key) or (None, None)
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{escaped(k)} {escaped(str(v))}" for k, v in values.items())


def _code(text: str) -> str:
    """For inside backticks, where nothing can be escaped."""
    return re.sub(r"[`|\n\r]", " ", text)
