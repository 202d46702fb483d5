"""The ways to train the pyramid head that were measured (docs/results.md), and what each costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from frostbox.data.views import PARTNERS, mosaics_among
from frostbox.pace import Pace
from frostbox.thawing import ALL, NONE
from frostbox.training import VALIDATIONS

SMALL = 1000
"""Images, up to which a data set is small."""
FEWEST = 12000
"""Images that the head alone sees at least, where a recipe does not say otherwise."""
SPARE = 0.95
"""Share of a budget that a recipe's shortest schedule may fill."""
_START_SECONDS = 15.0  # imports, reading of annotations, these measurements
_SELECTION = 0.012  # seconds to select and score the boxes of an image
_VALIDATIONS = 1 + VALIDATIONS  # in both phases, each a forward pass
_MOST_VIEWS = 8
_FROZEN_PASSES, _THAWED_PASSES = 7, 4  # for each view


@dataclass(frozen=True)
class Recipe:
    """One way to train the pyramid head, and what it costs.

    Attributes:
        backbone, size, views, thaw: as in TrainSettings; `size` of both sides, `views` at least.
        passes, thaw_passes: over the images, of the head alone and with thawed stages; with fewer
            a cheaper recipe gives more. A small data set needs more of them: so many that the head
            alone sees `fewest` images, and with thawed stages in the same proportion.
        view: what a view through the backbone costs, step: what the head's step costs an image, and
            thaw_step: one with thawed stages, each in units of the first recipe's.
        images: for data sets of so many, (least, most). gpu: True where only a GPU makes it worth
            it, False where a GPU has a better one.
        fewest: see `passes`.
        batch_size, lr: as in FitSettings. dropout: of the frozen features, a setting of the head.
    """

    backbone: str
    size: int
    views: int
    thaw: str
    passes: float
    thaw_passes: float
    view: float
    step: float
    thaw_step: float
    images: tuple[int, float] = (0, math.inf)
    gpu: bool | None = None
    batch_size: int = 32
    lr: float = 4e-3
    dropout: float = 0.0
    fewest: int = FEWEST

    def meant_for(self, images: int, device: str) -> bool:
        """Whether it is for data sets of so many images, on such a device."""
        fewest, most = self.images
        return fewest <= images <= most and self.gpu in (None, device == "cuda")

    def enough(self, train: int) -> tuple[float, float]:
        """Passes over so many images, of the head alone and with thawed stages."""
        factor = max(1.0, self.fewest / (self.passes * train))
        return self.passes * factor, self.thaw_passes * factor

    def enough_views(self, train: int) -> int:
        """Views of so many images, for the shortest schedule."""
        return self.views_for(sum(self.enough(train)))

    def views_within(self, budget: float, pace: Pace, train: int, val: int) -> int:
        """Views for as many passes over so many images as a budget leaves time for."""
        alone, thawed = self.enough(train)
        step = (alone * self.step + thawed * self.thaw_step) / (alone + thawed) * pace.step
        left = SPARE * budget - self._besides(pace, val)
        # Every second view beyond the first two is a mosaic.
        view = self.view * pace.view + PARTNERS / 2 * pace.photo
        return self.views_for(left / (train * (step + view / self._passes_a_view)))

    def views_for(self, passes: float) -> int:
        """Another for every few passes, so that they stay new; photos are seen anew each time."""
        if self.thaw == ALL:
            return self.views
        return min(_MOST_VIEWS, max(self.views, round(passes / self._passes_a_view)))

    @property
    def _passes_a_view(self) -> int:
        """Thawed stages learn images by heart sooner; the head alone loses by views at first."""
        return _FROZEN_PASSES if self.thaw == NONE else _THAWED_PASSES

    def seconds(self, pace: Pace, train: int, val: int) -> float:
        """Of its shortest schedule that is worth it, for so many images."""
        alone, thawed = self.enough(train)
        views = self.enough_views(train)
        partners = PARTNERS * mosaics_among(views)
        extraction = train * (views * self.view * pace.view + partners * pace.photo)
        learning = train * (alone * self.step + thawed * self.thaw_step) * pace.step
        return self._besides(pace, val) + extraction + learning

    def _besides(self, pace: Pace, val: int) -> float:
        """The start, and what the images to validate on cost."""
        checks = _VALIDATIONS * self.step * pace.step / 3 + _SELECTION
        return _START_SECONDS + val * (self.view * pace.view + checks)

    def head_share(self) -> float:
        """Of the time for learning that the head alone gets."""
        alone = self.passes * self.step
        return alone / (alone + self.thaw_passes * self.thaw_step)


# Costs and the passes that are worth it were measured on two cores (docs/results.md).
# Few images: pixels give most, above all for small objects, then a thawed stage; over many passes
# dropout keeps them from being learned by heart.
FEW = Recipe(
    "efficientnet_lite2", 512, 4, "1", 12, 12, 3.6, 2.3, 5.7,
    images=(0, SMALL), batch_size=16, lr=3e-3, dropout=0.2, fewest=3600,
)  # fmt: skip
# As long as the one above.
FEW_FROZEN = replace(FEW, thaw=NONE, passes=38, thaw_passes=0, fewest=11400)
# Where there is no time for them: it gains more from steps than from thawing.
FEW_QUICK = Recipe(
    "efficientnet_lite0", 416, 4, "none", 30, 0, 1.8, 1.7, 3.1,
    images=(0, SMALL), batch_size=16, lr=3e-3, dropout=0.2, fewest=6000,
)  # fmt: skip
MANY = Recipe("efficientnet_lite0", 320, 2, "1", 3, 5, 1.0, 1.0, 1.9, images=(SMALL + 1, math.inf))
# The cheapest first, whose costs are the units; of those that fit into a budget the last is best.
RECIPES = (
    Recipe("efficientnet_lite0", 320, 2, "none", 4, 0, 1.0, 1.0, 1.9),
    FEW_QUICK,
    FEW_FROZEN,
    FEW,
    MANY,
    Recipe("efficientnet_lite2", 384, 2, "1", 4, 6, 2.1, 1.4, 3.2, images=(SMALL + 1, math.inf)),
    # Where there is time for it: small objects gain most from pixels.
    Recipe(
        "efficientnet_lite2", 512, 2, "1", 7, 13, 3.6, 2.3, 5.7,
        images=(SMALL + 1, math.inf), gpu=False,
    ),
    # From photos, everything: on a CPU it costs ten times as much (docs/results.md). One run on one
    # GPU is behind it; the costs are in what the head alone is thought to cost there.
    Recipe(
        "efficientnet_lite2", 512, 2, "all", 8, 15, 2.6, 1.0, 3.0,
        images=(SMALL + 1, math.inf), gpu=True, batch_size=64, fewest=24000,
    ),
)  # fmt: skip
