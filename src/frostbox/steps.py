"""The steps of a training: what one batch does to a head, and to thawed stages of its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from frostbox import ranks
from frostbox.backbones.stages import Stages
from frostbox.heads import Encoded, Head, Raw

if TYPE_CHECKING:
    from frostbox.training import FitSettings

_FIGURES_EVERY = 10  # steps; figures of the training images are for people and cost time
Batch = tuple[list[Tensor], Encoded]


def run_head(head: Head, maps: Sequence[Tensor], bf16: bool, stages: Stages | None = None) -> Raw:
    """The head on maps of any float type, channels last in memory; float32 comes out.

    Args:
        maps: what the head reads; with `stages`, what those read, photos as uint8.
        bf16: compute with bfloat16 where 16 bits are enough.
        stages: of the backbone, to go through before the head.
    """
    kind = torch.bfloat16 if bf16 else torch.float32
    maps = [
        m.to(kind).contiguous(memory_format=torch.channels_last) if m.is_floating_point() else m
        for m in maps
    ]
    with torch.autocast(maps[0].device.type, torch.bfloat16, enabled=bf16):
        raw = head(stages(maps) if stages is not None else maps)
    return {k: v.float() if v.is_floating_point() else v for k, v in raw.items()}


class HeadModule(pl.LightningModule):
    """One optimisation step and the validation figures of any head.

    Args:
        steps: of the whole run, for the schedule of the learning rate.
        stages: of the backbone, trained with the head.
    """

    def __init__(
        self,
        head: Head,
        settings: FitSettings,
        steps: int,
        *,
        bf16: bool,
        stages: Stages | None = None,
    ) -> None:
        super().__init__()
        self.head, self.settings, self.steps, self.bf16 = head, settings, steps, bf16
        self.stages = stages
        self._sums: dict[str, list[Tensor]] = {}
        self._steps: dict[str, list[tuple[Tensor, float]]] = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed by step, so that a resumed run draws the dropout of an uninterrupted one.

        Every process draws its own, or the parts of a batch would lose the same channels.
        """
        seed = self.settings.seed * 1_000_003 + self.global_step + (ranks.rank() << 40)
        # torch.manual_seed notes the whole call stack for a CUDA that was not started: 3 ms a step.
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Encoded]:
        maps, encoded = batch
        raw = run_head(self.head, maps, self.bf16, self.stages)
        return self.head.loss(raw, encoded), raw, encoded

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of the head's losses."""
        with ranks.global_batch():
            losses, raw, encoded = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        # A loss is already one of the whole batch, of which every process logs its share.
        batches: Any = self.trainer.train_dataloader
        size = batches.batch_sampler.images(index) / ranks.count()
        values = {"train_loss": total} | {f"train_{k}": v for k, v in losses.items()}
        for name, value in values.items():
            self._steps.setdefault(name, []).append((value.detach(), size))
        if not index % _FIGURES_EVERY:
            with torch.no_grad():
                for name, figures in self.head.metrics(raw, encoded).items():
                    if len(figures) and name not in losses:
                        step = (figures.mean(), len(figures))
                        self._steps.setdefault(f"train_{name}", []).append(step)
        if self.trainer.is_last_batch:
            self._log_epoch()
        return total

    def _log_epoch(self) -> None:
        """Log the means over the steps of an epoch: `self.log` in each took 1 to 2 ms of it."""
        found = {}
        for name, entries in self._steps.items():
            values = torch.stack([value for value, _ in entries]).cpu().double()
            weights = values.new_tensor([weight for _, weight in entries])
            found[name] = (float((values * weights).sum()), float(weights.sum()))
        for name, mean in _means(found).items():
            self.log(name, mean, on_step=False, on_epoch=True, batch_size=1)
        self._steps.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Within an epoch, its figures so far belong to what is kept."""
        own = {k: [(v.cpu(), n) for v, n in e] for k, e in self._steps.items()}
        figures: dict[str, list[tuple[Tensor, float]]] = {}
        for part in ranks.gathered(own):
            for name, entries in part.items():
                figures.setdefault(name, []).extend(entries)
        checkpoint["figures"] = figures

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the figures of the epoch: those of all processes, in the first."""
        kept = checkpoint.get("figures", {}) if ranks.first() else {}
        self._steps = {k: [(v.to(self.device), n) for v, n in e] for k, e in kept.items()}

    def validation_step(self, batch: Batch, index: int) -> None:
        """Collect losses (weighed by images) and the head's metrics (by counted things)."""
        batches: Any = self.trainer.val_dataloaders
        if not batches.batch_sampler.counts(index):
            return
        losses, raw, encoded = self._losses(batch)
        size = len(next(iter(encoded.values())))
        losses["loss"] = torch.stack(list(losses.values())).sum()
        figures = {k: v.repeat(size) for k, v in losses.items()}
        for name, values in (figures | self.head.metrics(raw, encoded)).items():
            values = values.cpu().double()  # MPS has no float64
            entry = torch.stack((values.sum(), values.new_tensor(len(values))))
            self._sums.setdefault(name, []).append(entry)

    def on_validation_epoch_end(self) -> None:
        """Log the mean of each figure over the validation set."""
        found = {}
        for name, entries in self._sums.items():
            total, number = torch.stack(entries).sum(0).tolist()
            found[name] = (total, number)
        for name, mean in _means(found).items():
            self.log(f"val_{name}", mean)
        self._sums.clear()

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then cosine to almost zero (one cycle).

        Thawed stages learn more slowly than the head, the earlier the more so (discriminative
        learning rates: Howard & Ruder, ACL 2018, section 3.2).
        """
        s = self.settings
        groups = _groups(self.head, s.lr, s.weight_decay)
        if self.stages is not None:
            for depth, part in enumerate(reversed(self.stages.parts)):
                groups += _groups(part, s.lr * s.backbone_lr * s.stage_decay**depth, s.weight_decay)
        groups = [g for g in groups if g["params"]]
        optimizer = torch.optim.AdamW(groups, lr=s.lr, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [g["lr"] for g in groups],
            total_steps=self.steps,
            # Lightning's one cycle divides by the length of a warm-up that would be one step.
            pct_start=s.warmup if round(s.warmup * self.steps, 6) != 1 else 1.5 / self.steps,
            cycle_momentum=False,
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _means(found: dict[str, tuple[float, float]]) -> dict[str, Tensor]:
    """The mean of each figure over all processes, from (sum, number) of this one."""
    everywhere = ranks.gathered(found)
    names = dict.fromkeys(name for part in everywhere for name in part)
    means = {}
    for name in names:
        sums, numbers = zip(*(part.get(name, (0.0, 0.0)) for part in everywhere), strict=True)
        means[name] = torch.tensor(sum(sums) / max(sum(numbers), 1e-9), dtype=torch.float32)
    return means


def _groups(module: torch.nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Weights, which decay, and biases and norms, which do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]
