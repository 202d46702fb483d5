"""A loss that is no number stops a training before it spoils the weights and what is kept."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from frostbox import ranks
from frostbox.errors import DivergedError

_EVERY = 50  # batches: a GPU would have to be waited for in each
_SHOWN = 8  # images


class FiniteLoss(Callback):
    """Raises DivergedError with epoch, batch and images at the first loss that is NaN or infinite.

    On a CPU before a step is made of it; else every 50 batches and at the end of an epoch, before
    anything of it is kept.
    """

    def __init__(self) -> None:
        self._unseen: list[tuple[int, Tensor]] = []

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss, or note it to be looked at with others."""
        self._unseen.append((trainer.fit_loop.batch_idx, loss.detach()))
        if loss.device.type == "cpu" or len(self._unseen) >= _EVERY:
            self._look(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The epoch's last batches, before what it reached is measured and kept."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The same, where nothing is validated."""
        self._look(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The loss by which the best weights are chosen."""
        value = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(value):
            raise DivergedError(f"the validation loss is {value} after {_epoch(trainer)}")

    def _look(self, trainer: pl.Trainer) -> None:
        if not self._unseen:
            return
        seen, self._unseen = self._unseen, []
        # Of all parts of a batch: processes that train together end together.
        values = ranks.summed(torch.stack([loss for _, loss in seen])).cpu()
        wrong = (~values.isfinite()).nonzero().flatten().tolist()
        if wrong:
            number, value = seen[wrong[0]][0], float(values[wrong[0]])
            raise DivergedError(
                f"the loss is {value} in {_epoch(trainer)}, batch {number + 1} of "
                f"{trainer.num_training_batches} ({_images(trainer, number)})"
            )


def _epoch(trainer: pl.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"


def _images(trainer: pl.Trainer, number: int) -> str:
    """Which images are in a batch of this epoch: the order depends on seed and epoch alone."""
    loader: Any = trainer.train_dataloader
    # Counted from the end: a resumed epoch begins with the first batch that is left of it.
    rows = list(loader.batch_sampler.whole())[number - len(loader)]
    ids = [str(loader.dataset.ids[image]) for image, _ in rows]
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"images {', '.join(ids[:_SHOWN])}{more}"
