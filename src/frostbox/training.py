"""Fit a head on cached features: the Lightning module, the data order and the Trainer's set-up.

It knows heads and caches and nothing of files of annotations or of the command line. A run leaves
`last.ckpt` (to resume), `best.ckpt`, `metrics.csv` and TensorBoard events in its folder.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from frostbox.callbacks import EmaOfWeights, MetricsFile, ShowProgress
from frostbox.data.annotations import DetectionSet
from frostbox.data.targets import targets
from frostbox.errors import SettingsError
from frostbox.features.cache import FeatureCache
from frostbox.heads import Encoded, Head, Raw, check_choice, check_share, check_types
from frostbox.progress import Progress

_FIGURES_EVERY = 10  # steps; figures of the training images are for people and cost time
Row = tuple[int, int]
"""Image index and view index in a cache."""
Batch = tuple[list[Tensor], Encoded]


@dataclass(frozen=True)
class FitSettings:
    """How a head is trained.

    Attributes:
        epochs: passes over the images; each pass takes one view of each image at random.
        lr: peak learning rate of AdamW, reached after `warmup` (share of all steps), then cosine.
        batch_size: images a step. weight_decay: of AdamW.
        seed: of weights, order, views and dropout. Same seed and machine, same weights.
        patience: epochs without a better validation loss before the run ends; 0 for never.
        difficult: train on objects marked difficult. empty: train on images without objects.
        device: auto, cpu, cuda or mps.
        precision: 32, bf16, or auto: bf16 where the device computes with it. Weights and losses are
            float32 in any case.
        ema: decay of the exponential moving average of the weights that is validated and kept; 0
            for none. It warms up: after n steps it is at most (1 + n) / (10 + n).
        clip: largest norm of the gradient; 0 for no limit.
    """

    epochs: int = 20
    lr: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 1e-2
    warmup: float = 0.1
    seed: int = 0
    patience: int = 0
    difficult: bool = True
    empty: bool = True
    device: str = "auto"
    precision: str = "auto"
    ema: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        for name, low in (("epochs", 1), ("batch_size", 2), ("patience", 0)):
            if getattr(self, name) < low:
                raise SettingsError(f"{name} is {getattr(self, name)}: it must be at least {low}")
        if not self.lr > 0:
            raise SettingsError(f"lr is {self.lr}: it must be greater than 0")
        check_choice(self, "device", ("auto", "cpu", "cuda", "mps"))
        check_choice(self, "precision", ("auto", "32", "bf16"))
        check_share(self, "ema")
        if self.clip < 0:
            raise SettingsError(f"clip is {self.clip}: it must be 0 (no limit) or more")


class CachedViews(Dataset[Batch]):
    """The samples of a cache: features from the map, targets encoded once for every view."""

    def __init__(
        self, cache: FeatureCache, dataset: DetectionSet, head: Head, *, difficult: bool = True
    ) -> None:
        self.cache = cache
        self.views = len(cache.views)
        images = {image.image_id: image for image in dataset.images}
        every = [
            targets(images[image_id], dataset, cache.geometry(i, v), difficult=difficult)
            for i, image_id in enumerate(cache.ids)
            for v in range(self.views)
        ]
        self.encoded = head.encode(every)
        self.objects = [len(t["labels"]) for t in every[:: self.views]]

    def __len__(self) -> int:
        return len(self.cache.ids)

    def __getitem__(self, row: Row) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        """The batch of these rows: float16 maps, and the encoded targets."""
        index = torch.tensor([i * self.views + v for i, v in rows])
        return self.cache.read(rows), {k: t[index] for k, t in self.encoded.items()}


class ViewSampler(Sampler[Row]):
    """A new order and a new random view of each image in every epoch, by seed and epoch alone."""

    def __init__(self, images: Sequence[int], views: int, seed: int) -> None:
        self.images, self.views, self.seed, self.epoch = images, views, seed, 0

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Row]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.images), generator=generator).tolist()
        view = torch.randint(self.views, (len(order),), generator=generator).tolist()
        return iter([(self.images[k], v) for k, v in zip(order, view, strict=True)])


def run_head(head: Head, maps: Sequence[Tensor], bf16: bool) -> Raw:
    """The head on maps of any float type, channels last in memory; float32 comes out."""
    kind = torch.bfloat16 if bf16 else torch.float32
    maps = [m.to(kind).contiguous(memory_format=torch.channels_last) for m in maps]
    with torch.autocast(maps[0].device.type, torch.bfloat16, enabled=bf16):
        raw = head(maps)
    return {k: v.float() if v.is_floating_point() else v for k, v in raw.items()}


def uses_bf16(precision: str, device: str) -> bool:
    """Whether to compute with bfloat16 where 16 bits are enough.

    "auto" is true on CUDA, and on CPUs that multiply bfloat16 (AVX-512 BF16, AMX); elsewhere it
    would be emulated, and slow.
    """
    if precision != "auto":
        return precision == "bf16"
    if device == "cpu":
        there = torch.cpu.get_capabilities()
        return bool(there.get("avx512_bf16") or there.get("amx_bf16"))
    return device == "cuda"


class HeadModule(pl.LightningModule):
    """One optimisation step and the validation figures of any head."""

    def __init__(self, head: Head, settings: FitSettings, steps: int, *, bf16: bool) -> None:
        super().__init__()
        self.head, self.settings, self.steps, self.bf16 = head, settings, steps, bf16
        self._sums: dict[str, list[Tensor]] = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed by step, so that a resumed run draws the dropout of an uninterrupted one."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.global_step)

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Encoded]:
        maps, encoded = batch
        raw = run_head(self.head, maps, self.bf16)
        return self.head.loss(raw, encoded), raw, encoded

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of the head's losses."""
        losses, raw, encoded = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        size = len(next(iter(encoded.values())))
        values = {"train_loss": total} | {f"train_{k}": v for k, v in losses.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=size)
        if index % _FIGURES_EVERY:
            return total
        with torch.no_grad():
            for name, figures in self.head.metrics(raw, encoded).items():
                if len(figures) and name not in losses:
                    self.log(
                        f"train_{name}", figures.mean(), on_step=False, on_epoch=True,
                        batch_size=len(figures),
                    )  # fmt: skip
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        """Collect losses (weighed by images) and the head's metrics (by counted things)."""
        losses, raw, encoded = self._losses(batch)
        size = len(next(iter(encoded.values())))
        losses["loss"] = torch.stack(list(losses.values())).sum()
        figures = {k: v.repeat(size) for k, v in losses.items()}
        for name, values in (figures | self.head.metrics(raw, encoded)).items():
            entry = torch.stack((values.double().sum(), values.new_tensor(len(values)).double()))
            self._sums.setdefault(name, []).append(entry)

    def on_validation_epoch_end(self) -> None:
        """Log the mean of each figure over the validation set."""
        for name, entries in self._sums.items():
            total, count = torch.stack(entries).sum(0)
            self.log(f"val_{name}", (total / count.clamp(min=1)).float())
        self._sums.clear()

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then cosine to almost zero (one cycle)."""
        s = self.settings
        decay = [p for p in self.head.parameters() if p.ndim > 1]
        other = [p for p in self.head.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decay}, {"params": other, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=s.lr, weight_decay=s.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.lr, total_steps=self.steps, pct_start=s.warmup, cycle_momentum=False
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


@dataclass(frozen=True)
class FitResult:
    """Where the best weights came from. `metrics` are those of the epoch that was kept."""

    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    device: str


def fit(
    head: Head,
    train: CachedViews,
    val: CachedViews | None,
    settings: FitSettings,
    run: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> FitResult:
    """Train the head in place; it ends with the weights of the lowest validation loss.

    Without `val` nothing is selected: the final weights are kept.

    Args:
        head: its weights at the time of the call are the start.
        run: folder for last.ckpt, best.ckpt, metrics.csv and events; it must exist.
        resume: go on from run/last.ckpt, to the same result as without the interruption.

    Raises:
        SettingsError: no image with a target, or nothing to resume from.
    """
    device = resolve_device(settings.device)
    rows = [i for i in range(len(train)) if settings.empty or train.objects[i]]
    if not any(train.objects):
        raise SettingsError(
            "the training split has no object to learn from: check the split's list and "
            "annotations, or keep difficult objects"
        )
    if len(rows) < 2:
        raise SettingsError(
            "the training split has one usable image: batch statistics need at least 2"
        )
    batch_size = min(settings.batch_size, len(rows))
    sampler = ViewSampler(rows, train.views, settings.seed)
    # A last batch of one image has no batch statistics; it is left out, another one each epoch.
    drop_last = len(rows) % batch_size == 1
    train_loader = DataLoader(
        train, batch_size=batch_size, sampler=sampler, collate_fn=_as_is, drop_last=drop_last
    )
    val_loader = None
    if val is not None:
        val_rows = [(i, 0) for i in range(len(val))]
        val_loader = DataLoader(val, batch_size=batch_size, sampler=val_rows, collate_fn=_as_is)

    last = run / "last.ckpt"
    if resume and not last.exists():
        raise SettingsError(f"{last} does not exist: there is no run to resume there")
    monitor = "val_loss" if val is not None else None
    best = ModelCheckpoint(
        dirpath=run, filename="best", monitor=monitor, save_last=True, enable_version_counter=False
    )
    metrics = MetricsFile(run / "metrics.csv")
    callbacks: list[Callback] = [best, metrics]
    if settings.ema:
        callbacks.append(EmaOfWeights(settings.ema))
    if settings.patience and val is not None:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    if progress is not None:
        callbacks.append(ShowProgress(progress))
    _quiet()
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=1,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip or None,
        logger=TensorBoardLogger(run, name="", version="events"),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=run,
    )
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = HeadModule(
        head,
        settings,
        steps=settings.epochs * len(train_loader),
        bf16=uses_bf16(settings.precision, device),
    )
    trainer.fit(
        module, train_loader, val_loader, ckpt_path=last if resume else None, weights_only=True
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    stored = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(stored["state_dict"])
    head.cpu().eval()
    kept = next(r for r in metrics.rows if r["epoch"] == stored["epoch"])
    return FitResult(
        epochs=len(metrics.rows),
        best_epoch=int(stored["epoch"]),
        metrics={k: v for k, v in kept.items() if k != "epoch"},
        device=str(trainer.strategy.root_device),
    )


def _as_is(batch: Any) -> Any:
    """`__getitems__` gives whole batches; there is nothing left to collate."""
    return batch


def resolve_device(device: str) -> str:
    """cpu, cuda or mps for "auto" or one of them. SettingsError when it is not there."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there.get(device, False):
        raise SettingsError(f"device is '{device}', which this machine does not have: choose cpu")
    return device


def _quiet() -> None:
    """Silence Lightning's notes about what was chosen here on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
