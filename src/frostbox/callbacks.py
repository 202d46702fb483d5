"""What happens beside the steps of a training: averaged weights, metrics.csv, the progress bar."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from frostbox.progress import Progress


def warming_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential moving average in place, for AveragedModel, whose decay warms up.

    After n steps it is min(decay, (1 + n) / (10 + n)), so that a short run is not held back.
    """

    def average(old: list[Tensor], new: list[Tensor], count: Tensor) -> None:
        if not old[0].is_floating_point():  # all of one list are of one type
            for kept, value in zip(old, new, strict=True):
                kept.copy_(value)
            return
        n = float(count)
        update = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
        update(old, new, count)

    return average


class EmaOfWeights(WeightAveraging):
    """Exponential moving average of weights and buffers, one update a step."""

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=warming_average(decay))


class MetricsFile(Callback):
    """Write metrics.csv, one row an epoch; a resumed run keeps the rows of the first part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []  # of the file as it is
        self._validated = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch: Lightning keeps the figures of an earlier one where there are none."""
        self._validated = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch that just ended; with new columns the file is written anew."""
        fresh = self._validated == trainer.current_epoch
        values = {
            k: float(v)
            for k, v in trainer.callback_metrics.items()
            if fresh or not k.startswith("val_")
        }
        self.rows.append({"epoch": trainer.current_epoch, **dict(sorted(values.items()))})
        if not trainer.is_global_zero:
            return
        new = [name for name in self.rows[-1] if name not in self._columns]
        if not new:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(self.rows[-1])
            return
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        partial = self.path.with_suffix(".tmp")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for last.ckpt."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows of the interrupted run."""
        self.rows = state_dict["rows"]


class ValidateEvery(Callback):
    """Validate every so many epochs, counted back from the last one."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch that is resumed does not start once more."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set Lightning's own interval so that this epoch is validated, or is not."""
        number = trainer.current_epoch + 1
        due = ((trainer.max_epochs or 0) - number) % self.epochs == 0
        trainer.check_val_every_n_epoch = number if due else number + 1


class ShowProgress(Callback):
    """Report epochs and the latest losses to the progress bar of the command."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the first epoch, or at the one that is resumed."""
        self.progress.start("training", trainer.max_epochs or 0, "epochs", trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One epoch further."""
        shown = [
            f"{name.removesuffix('_loss')} {float(trainer.callback_metrics[name]):.3f}"
            for name in ("train_loss", "val_loss")
            if name in trainer.callback_metrics
        ]
        self.progress.advance(1, ", ".join(shown))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self.progress.stop()
