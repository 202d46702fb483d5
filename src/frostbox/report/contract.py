"""What the HTML pages are filled with: plain dictionaries that JSON can hold.

Fractions lie in [0, 1] and the page shows them as per cent; None means that there is no such
number. A part that is None or empty is left out of the page. Boxes are 0-based continuous
`[xmin, ymin, xmax, ymax]` in pixels of the original image. NaN and infinity are not JSON: give
None.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from frostbox.data.explore import Statistics
from frostbox.data.patterns import Patterns

TruthState = Literal["found", "missed", "difficult"]
FoundKind = Literal[
    "hit", "classification", "localisation", "both", "duplicate", "background", "ignored"
]
ErrorName = Literal["classification", "localisation", "both", "duplicate", "background", "missed"]
Fact = tuple[str, str]


class Headline(TypedDict):
    """One large number. `rule` says how it was counted; `low` and `high` bound its interval."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    rule: str


class Curve(TypedDict):
    """Precision against recall, both in order of falling score, of equal length."""

    recall: list[float]
    precision: list[float]


class ClassResult(TypedDict):
    """One row of the table of classes. Counts are at the class's `threshold`, its best F1's."""

    name: str
    ap50: float | None
    ap50_11point: float | None
    low: float | None
    high: float | None
    ground_truth: int
    difficult: int
    hits: int
    false_positives: int
    misses: int
    best_f1: float | None
    threshold: float | None
    curve: Curve


class Confusion(TypedDict):
    """`counts[truth][prediction]`; the last name is "background", in both directions."""

    names: list[str]
    counts: list[list[int]]
    iou: float
    score: float


class ErrorKind(TypedDict):
    """How often an error occurs, and the AP (as a fraction) that mending it alone would give."""

    kind: ErrorName
    count: int
    ap_cost: float | None


class ReliabilityBin(TypedDict):
    """Detections of similar score: their mean score, the share that hits, and their number."""

    score: float
    precision: float
    count: int


class Calibration(TypedDict):
    """Expected calibration error, and the same after division of the logits by `temperature`."""

    ece: float
    temperature: float | None
    ece_scaled: float | None
    bins: list[ReliabilityBin]


class ScoreHistogram(TypedDict):
    """`edges` has one value more than the two lists of counts."""

    edges: list[float]
    hits: list[int]
    false_positives: list[int]


class SizeSlice(TypedDict):
    """AP of the objects of one size."""

    name: str
    ap50: float | None
    ground_truth: int


class CountSlice(TypedDict):
    """AP on the images with so many objects."""

    name: str
    ap50: float | None
    images: int


class Training(TypedDict):
    """metrics.csv of a run: the first column is the epoch; a missing value is None."""

    columns: list[str]
    rows: list[list[float | None]]


class TruthBox(TypedDict):
    """A ground truth object. `found_at` is the score of the detection that found it.

    `gallery.gallery` fills `found_at`; with it the page can tell, for every position of the score
    slider, whether the object is found.
    """

    box: list[float]
    name: str
    difficult: bool
    state: TruthState
    found_at: NotRequired[float | None]


class FoundBox(TypedDict):
    """A detection, and what it is: a hit, one kind of error, or ignored (on a difficult object)."""

    box: list[float]
    name: str
    score: float
    kind: FoundKind


class GalleryImage(TypedDict):
    """A picture of the gallery; `width` and `height` are the original's.

    `picture` is a data URI, or None where there is no photo (boxes are then drawn on grey). `tags`
    are "best", "worst" and the kinds of error that the image shows.
    """

    image_id: str
    tags: list[str]
    picture: str | None
    width: int
    height: int
    truth: list[TruthBox]
    found: list[FoundBox]
    note: str


class Facts(TypedDict):
    """Pairs of name and value about model and data, in the order in which they are shown."""

    model: list[Fact]
    data: list[Fact]


class EvaluationReport(TypedDict):
    """All of the page that `frostbox evaluate --report` writes.

    `rule` is a sentence with IoU threshold, interpolation and the policy on difficult objects;
    `intervals` one that says what `low` and `high` are, such as "95 % bootstrap over images".
    `score` is where the gallery's slider starts.
    """

    title: str
    rule: str
    intervals: NotRequired[str | None]
    score: NotRequired[float]
    facts: Facts
    headline: list[Headline]
    classes: list[ClassResult]
    confusion: Confusion | None
    errors: list[ErrorKind]
    calibration: Calibration | None
    scores: ScoreHistogram | None
    by_size: list[SizeSlice]
    by_count: list[CountSlice]
    training: Training | None
    gallery: list[GalleryImage]


class Finding(TypedDict):
    """One fault that the doctor found. `severity` is free text; the page counts and filters it."""

    severity: str
    kind: str
    file: str
    field: str
    message: str
    remedy: str


class ExploreReport(TypedDict):
    """All of the page that `frostbox explore --report` writes.

    `findings` is None when the doctor was not asked, and empty when it found nothing.
    """

    title: str
    facts: list[Fact]
    statistics: Statistics
    patterns: Patterns
    findings: list[Finding] | None
    gallery: list[GalleryImage]
