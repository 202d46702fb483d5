"""Everything that the page of a data set shows, gathered in its dictionary."""

from __future__ import annotations

from collections.abc import Sequence

from frostbox.data.annotations import DetectionSet
from frostbox.data.explore import Statistics
from frostbox.data.patterns import patterns
from frostbox.errors import told
from frostbox.report.contract import ExploreReport, Finding
from frostbox.report.gallery import samples


def explore_report(
    dataset: DetectionSet, statistics: Statistics, findings: Sequence[Finding] | None = None
) -> ExploreReport:
    """The report of a split; pictures where there are photos.

    Args:
        dataset: the split.
        statistics: what `data.explore.explore` counted in it.
        findings: what the doctor found, worst first; None when it was not asked.
    """
    return {
        "title": f"{dataset.name} {dataset.split}: the data set",
        "facts": [("Folder", told(str(dataset.root))), ("Split", dataset.split)],
        "statistics": statistics,
        "patterns": patterns(dataset),
        "findings": None if findings is None else list(findings),
        "gallery": samples(dataset),
    }
