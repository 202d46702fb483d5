"""Fit a head on cached features: the Lightning module, the data order and the Trainer's set-up.

It knows heads and caches and nothing of files of annotations or of the command line. A run leaves
`last.ckpt` (to resume), `best.ckpt` and `metrics.csv` in its folder, and what its loggers write.
"""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import Dataset

from frostbox import ranks
from frostbox.backbones.stages import Stages
from frostbox.callbacks import EmaOfWeights, MetricsFile, ShowProgress, ValidateEvery
from frostbox.data.annotations import DetectionSet
from frostbox.data.targets import targets
from frostbox.errors import SettingsError
from frostbox.features.cache import FeatureCache
from frostbox.finite import FiniteLoss
from frostbox.heads import Head, check_choice, check_share, check_types
from frostbox.loading import batches
from frostbox.memory import physical_bytes
from frostbox.norms import shared_norms
from frostbox.precision import PRECISIONS, uses_bf16
from frostbox.progress import Progress
from frostbox.resuming import KeepMinutes, Kept, Patience, WholeCheckpoints, checkpoint_of, learned
from frostbox.sampling import BatchParts, Row, ViewSampler, WholeBatches
from frostbox.steps import Batch, HeadModule

_MOST_OF_MEMORY = 0.6  # share that cached features may take to be shuffled as one
VALIDATIONS = 3  # in a run, where their number is left open


@dataclass(frozen=True)
class FitSettings:
    """How a head is trained.

    Attributes:
        epochs: passes over the images; each pass takes one view of each image at random.
        lr: peak learning rate of AdamW, reached after `warmup` (share of all steps), then cosine.
        batch_size: images a step. weight_decay: of AdamW.
        seed: of weights, order, views and dropout. Same seed and machine, same weights.
        patience: validations without a better loss before the run ends; 0 for never.
        difficult: train on objects marked difficult. empty: train on images without objects.
        device: auto, cpu, cuda or mps.
        precision: 32, bf16, or auto: bf16 where the device computes with it, of training and of the
            features that it extracts. Weights and losses are float32 in any case.
        ema: decay of the exponential moving average of the weights that is validated and kept; 0
            for none. It warms up: after n steps it is at most (1 + n) / (10 + n).
        clip: largest norm of the gradient; 0 for no limit.
        epoch_images: images in an epoch, drawn anew each time; 0 for all.
        shuffle_window: images among which the order is drawn, files of the cache in an order of
            their own, so that a disk reads them one after the other; 0 for all images, or where
            the features do not fit into memory for as many as do in a quarter of it.
        validate_every: epochs from one validation to the next, counted back from the last; 0 for at
            most three in a run.
        keep_minutes: after how many minutes an epoch that is not over is kept in last.ckpt, so that
            no interruption costs more; 0 to keep whole epochs only.
        backbone_lr: peak learning rate of thawed stages as a share of `lr`. stage_decay: what each
            stage before the last has of the share of the next.
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
    epoch_images: int = 0
    shuffle_window: int = 0
    validate_every: int = 1
    keep_minutes: float = 5.0
    backbone_lr: float = 0.3
    stage_decay: float = 0.5

    def __post_init__(self) -> None:
        check_types(self)
        lowest = (("epochs", 1), ("batch_size", 2), ("patience", 0), ("validate_every", 0),
                  ("epoch_images", 0), ("shuffle_window", 0))  # fmt: skip
        for name, low in lowest:
            if getattr(self, name) < low:
                raise SettingsError(f"{name} is {getattr(self, name)}: it must be at least {low}")
        if not self.lr > 0:
            raise SettingsError(f"lr is {self.lr}: it must be greater than 0")
        check_choice(self, "device", ("auto", "cpu", "cuda", "mps"))
        check_choice(self, "precision", PRECISIONS)
        check_share(self, "ema")
        for name in ("backbone_lr", "stage_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(f"{name} is {getattr(self, name)}: it must be in (0, 1]")
        for name in ("clip", "keep_minutes"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: it must be 0 (none) or more")


class Samples(Dataset[Batch]):
    """What `fit` learns from: the samples of a cache, or photos (thawing.PhotoViews).

    Attributes:
        ids: of the images. views: how many views of each there are to choose from.
        objects: how many objects each image has.
        block: images that lie together, in order, where they are read from.
        decodes: whether a batch costs a processor so much that it may keep a GPU waiting.
        window: images among which to shuffle because all do not fit into memory; 0 for all.
    """

    ids: list[str]
    views: int
    objects: list[int]
    block: int = 1
    window: int = 0
    decodes: bool = False

    def follow(self, rows: Iterable[Row]) -> None:
        """Told before an epoch which rows will be read, in order."""

    @abstractmethod
    def __len__(self) -> int:
        """Images."""

    @abstractmethod
    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        """The batch of these rows: what run_head takes, and the encoded targets."""

    def __getitem__(self, row: Row) -> Batch:
        return self.__getitems__([row])


class CachedViews(Samples):
    """The samples of a cache: features from the map, targets encoded once for every view.

    Args:
        strides: of the maps that are read; None for all.
    """

    def __init__(
        self,
        cache: FeatureCache,
        dataset: DetectionSet,
        head: Head,
        *,
        difficult: bool = True,
        strides: Sequence[int] | None = None,
    ) -> None:
        self.cache, self.strides, self.ids = cache, strides, cache.ids
        shown = enumerate(cache.views)
        self._seen = [v for v, view in shown if not (head.whole and view.partners("", 1))]
        self.views = len(self._seen)
        self.block = cache.index.shard_images
        memory = physical_bytes()
        if memory and cache.nbytes > _MOST_OF_MEMORY * memory:
            self.window = int(memory / 4 / (cache.nbytes / len(cache.ids)))
        if cache.remote is not None and (room := cache.remote.window(cache.nbytes)):
            fits = max(self.block, int(room / (cache.nbytes / len(cache.ids))))
            self.window = min(self.window or fits, fits)
        images = {image.image_id: image for image in dataset.images}
        ids = [image.image_id for image in dataset.photos]

        def seen(row: int, view: int) -> dict[str, Tensor]:
            """Boxes of an image in a view, and of others that the view shows."""
            own = (cache.ids[row], cache.geometry(row, view))
            parts = [
                targets(images[image_id], dataset, moved, difficult=difficult)
                for image_id, moved in (own, *cache.partners(row, view, ids))
            ]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        every = [seen(row, view) for row in range(len(cache.ids)) for view in self._seen]
        self.encoded = head.encode(every)
        self.objects = [len(t["labels"]) for t in every[:: self.views]]

    def __len__(self) -> int:
        return len(self.cache.ids)

    def follow(self, rows: Iterable[Row]) -> None:
        """See Samples."""
        if self.cache.remote is not None:
            self.cache.follow(image for image, _ in rows)

    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        """The batch of these rows: float16 maps, and the encoded targets."""
        index = torch.tensor([i * self.views + v for i, v in rows])
        maps = self.cache.read([(i, self._seen[v]) for i, v in rows], self.strides)
        return maps, {k: t[index] for k, t in self.encoded.items()}


@dataclass(frozen=True)
class FitResult:
    """Where the best weights came from. `metrics` are those of the epoch that was kept."""

    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    device: str


def fit(
    head: Head,
    train: Samples,
    val: Samples | None,
    settings: FitSettings,
    run: Path,
    *,
    stages: Stages | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    loggers: Sequence[Logger] = (),
) -> FitResult:
    """Train the head in place; it ends with the weights of the lowest validation loss.

    Without `val` nothing is selected: the final weights are kept.

    Args:
        head: its weights at the time of the call are the start.
        stages: of the backbone, to be trained with the head; their weights change in place.
        run: folder for last.ckpt, best.ckpt and metrics.csv; it must exist.
        resume: go on from run/last.ckpt, to the same result as without the interruption.
        loggers: of Lightning, that get the figures of every epoch.

    Raises:
        SettingsError: no image with a target, or nothing to resume from.
        TrainingError, DivergedError, KeyboardInterrupt: see resuming.learned.
    """
    device = resolve_device(settings.device)
    sampler = check_enough(train, settings)
    batch_size = min(settings.batch_size, len(sampler))
    if batch_size < ranks.count():
        raise SettingsError(
            f"a batch of {batch_size} images cannot be shared by {ranks.count()} devices: give a "
            "larger batch_size, or fewer devices"
        )
    # A last batch of one image has no batch statistics, and one of fewer than there are devices not
    # one for each; it is left out, another one each epoch.
    parts = BatchParts(sampler, batch_size, least=max(2, ranks.count()))
    train_loader = batches(train, parts, device)
    val_loader = None
    if val is not None:
        whole = WholeBatches([(i, 0) for i in range(len(val))], batch_size)
        val_loader = batches(val, whole, device)

    begun = ranks.from_first(lambda: checkpoint_of(run)) if resume else None
    if begun is not None:
        ranks.in_turn(lambda: _check_seen(begun.path))
        sampler.go_on(begun.epoch, begun.batches * batch_size)
    kept: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    metrics = MetricsFile(run / "metrics.csv")
    callbacks: list[Callback] = [FiniteLoss(), metrics]
    if val is None:
        best = Kept(filename="best", save_last=True, save_on_train_epoch_end=True, **kept)
    else:
        best = Kept(filename="best", monitor="val_loss", save_on_train_epoch_end=False, **kept)
        # Epochs without a validation are kept too, to resume from.
        callbacks.append(Kept(filename="last", save_on_train_epoch_end=True, **kept))
    callbacks.append(best)
    if val is not None and validation_interval(settings) > 1:
        callbacks.append(ValidateEvery(validation_interval(settings)))
    if settings.ema:
        callbacks.append(EmaOfWeights(settings.ema))
    if settings.keep_minutes:  # behind the average, to keep what it has become by the same step
        callbacks.append(KeepMinutes(run, settings.keep_minutes))
    if settings.patience and val is not None:
        callbacks.append(
            Patience("val_loss", patience=settings.patience, check_on_train_epoch_end=False)
        )
    if progress is not None:
        callbacks.append(ShowProgress(progress))
    _quiet()
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else device,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip or None,
        logger=list(loggers),
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=run,
        **ranks.trainer_options(),
    )
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head.train()  # Lightning leaves it as it is, and an earlier phase ends in eval mode
    try:
        with shared_norms(head, device):
            module = HeadModule(
                head,
                settings,
                steps=settings.epochs * len(train_loader),
                bf16=uses_bf16(settings.precision, device),
                stages=stages.thaw(depthwise=device == "cuda") if stages is not None else None,
            )
            stored = learned(trainer, module, train_loader, val_loader, begun, best)
    finally:
        train.follow(())  # what is not begun is not fetched ahead any more
        if val is not None:
            val.follow(())
        head.cpu().eval()
        if stages is not None:
            stages.cpu().freeze()
    row = next(r for r in metrics.rows if r["epoch"] == stored["epoch"])
    return FitResult(
        epochs=len(metrics.rows),
        best_epoch=int(stored["epoch"]),
        metrics={k: v for k, v in row.items() if k != "epoch"},
        device=str(trainer.strategy.root_device),
    )


def check_enough(train: Samples, settings: FitSettings) -> ViewSampler:
    """The order in which images are learned from.

    Raises:
        SettingsError: there is none with an object, or a single one.
    """
    if not any(train.objects):
        raise SettingsError(
            "the training split has no object to learn from: check the split's list and "
            "annotations, or keep difficult objects"
        )
    sampler = view_sampler(train, settings)
    if len(sampler) < 2:
        raise SettingsError(
            "the training split has one usable image: batch statistics need at least 2"
        )
    return sampler


def _check_seen(checkpoint: Path) -> None:
    if not checkpoint.exists():
        raise SettingsError(
            f"{checkpoint} of process 0 is not seen here: give a folder for the run on a disk that "
            "all machines share"
        )


def validation_interval(settings: FitSettings) -> int:
    """Epochs from one validation to the next."""
    return settings.validate_every or -(-settings.epochs // VALIDATIONS)


def view_sampler(train: Samples, settings: FitSettings) -> ViewSampler:
    """The order in which these images are seen."""
    rows = [i for i in range(len(train)) if settings.empty or train.objects[i]]
    # Machines may have different memory, and all must draw the same order.
    window = max(ranks.gathered(train.window), key=lambda own: (own > 0, -own))
    return ViewSampler(
        rows, train.views, settings.seed, settings.epoch_images,
        window=settings.shuffle_window or window, block=train.block,
    )  # fmt: skip


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
    # ViewSampler.go_on makes it so.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # they have been summed
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
