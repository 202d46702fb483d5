"""What a training leaves to go on with: checkpoints that are whole, and the one before the last.

A process may be killed at any moment, and a disk may lose what it holds: `last.ckpt` is replaced in
one step, the one before stays as `before.ckpt`, and what is damaged is noticed before it is used.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import shlex
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from frostbox import ranks
from frostbox.errors import DivergedError, SettingsError, TrainingError
from frostbox.files import write_whole

_LOG = logging.getLogger("frostbox")
LAST, BEFORE, DAMAGED = "last.ckpt", "before.ckpt", "damaged.ckpt"
# What a half or spoiled file makes of torch's reader, and of the names that are asked for.
_DAMAGE = (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
           pickle.UnpicklingError, struct.error)  # fmt: skip


@dataclass(frozen=True)
class Resumed:
    """Where a training goes on.

    Attributes:
        path: the checkpoint.
        epoch: in which it was made, or the next one where that was over; from 0.
        batches: of that epoch that lie behind.
    """

    path: Path
    epoch: int
    batches: int


def checkpoint_of(run: Path) -> Resumed:
    """The newest checkpoint of a run that can be read; a last one that cannot is put aside.

    Raises:
        SettingsError: there is none. TrainingError: what there is, is damaged.
    """
    damage: TrainingError | None = None
    for path in (run / LAST, run / BEFORE):
        if not path.exists():
            continue
        try:
            found = _position(path)
        except TrainingError as error:
            damage = damage or error
            continue
        if damage is not None:
            _LOG.warning("%s; the one before it, %s, is taken", _reason(damage), path.name)
            # Else it would be kept as the one before by the next that is written.
            (run / LAST).replace(run / DAMAGED)
        return found
    if damage is not None:
        raise damage
    raise SettingsError(f"{run / LAST} does not exist: there is no run to resume there")


def begun(run: Path) -> bool:
    """Whether there is a checkpoint, of whatever state."""
    return any((run / name).exists() for name in (LAST, BEFORE))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of Lightning, on the CPU. Raises TrainingError for a damaged one."""
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if "state_dict" not in stored:
            raise KeyError("state_dict")
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return stored


def _position(path: Path) -> Resumed:
    stored = read_checkpoint(path)
    try:
        batch = stored["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        over, done = bool(batch["is_last_batch"]), int(batch["current"]["processed"])
        return Resumed(path, int(stored["epoch"]) + over, 0 if over else done)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TrainingError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return TrainingError(
        f"{path} is damaged ({reason:.100}): delete all .ckpt files beside it, and --resume trains "
        "this phase from its start, with the features that are cached"
    )


def _reason(damage: TrainingError) -> str:
    return str(damage).partition("): ")[0] + ")"


def learned(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    train: DataLoader[Any],
    val: DataLoader[Any] | None,
    begun: Resumed | None,
    best: ModelCheckpoint,
) -> dict[str, Any]:
    """Run a training to its end; the module then has the weights of the best checkpoint.

    Returns:
        That checkpoint's `state_dict` and `epoch`.

    Raises:
        TrainingError: a checkpoint that cannot be written or read, or a process that reads photos
            has been killed.
        DivergedError: a loss that is no number; the module has the weights that were kept before.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        with _stopped_in_order(trainer), ranks.watched():
            trainer.fit(
                module, train, val, ckpt_path=begun.path if begun is not None else None,
                weights_only=True,
            )  # fmt: skip
    except DivergedError as error:
        known = [Path(best.best_model_path)] if best.best_model_path else []
        kept = [*known, Path(str(best.dirpath)) / LAST]
        error.kept = ranks.from_first(lambda: next((p for p in kept if p.exists()), None))
        if error.kept is not None:
            module.load_state_dict(_weights(error.kept)["state_dict"])
        raise
    stored = _weights(Path(best.best_model_path))
    module.load_state_dict(stored["state_dict"])
    return stored


def _weights(path: Path) -> dict[str, Any]:
    """What rank 0 reads from a checkpoint, for all: its weights, and the epoch they are from."""

    def work() -> dict[str, Any]:
        stored = read_checkpoint(path)
        return {name: stored[name] for name in ("state_dict", "epoch")}

    return ranks.from_first(work)


@contextmanager
def _stopped_in_order(trainer: pl.Trainer) -> Iterator[None]:
    """What ends a training from outside, as an exception that says so.

    Raises:
        KeyboardInterrupt: Ctrl-C; Lightning makes it an exit with status 1, and ignores the next.
        TrainingError: a process that reads was killed.
    """
    usual = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that decodes photos has ended ({str(error).splitlines()[0]}): look whether "
            "memory ran out, then go on with --resume"
        ) from error
    finally:
        if signal.getsignal(signal.SIGINT) != usual:
            signal.signal(signal.SIGINT, usual)
    if trainer.interrupted:
        raise KeyboardInterrupt


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place; Lightning's go through /tmp, another disk maybe."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Replace the file in one step; of last.ckpt, the one before is kept as before.ckpt.

        Raises:
            TrainingError: it cannot be written.
        """
        target = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.name == LAST and target.exists():
                _keep(target, target.with_name(BEFORE))
            write_whole(target, content.getvalue())
        except OSError as error:
            raise TrainingError(
                f"{target} cannot be written ({error.strerror or error}): see to the disk, then go "
                "on with --resume from the one before"
            ) from error


def _keep(last: Path, before: Path) -> None:
    """Give the file another name too: a link costs no time, and last.ckpt is never missing."""
    link = before.with_name(before.name + ".tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(last, link)
    except OSError:  # a file system without links
        write_whole(before, last.read_bytes())
    else:
        link.replace(before)


class KeepMinutes(Callback):
    """Keeps last.ckpt within long epochs too, so that an interruption costs no more than minutes.

    Not behind the last batch of an epoch: its validation follows, and then the epoch's own.
    """

    def __init__(self, run: Path, minutes: float) -> None:
        self.path, self.seconds = run / LAST, 60 * minutes
        self._kept = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._kept = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Keep what has been learned, when it is time."""
        due = not trainer.is_last_batch and time.monotonic() - self._kept >= self.seconds
        # Processes that train together keep together.
        if trainer.strategy.broadcast(due):
            trainer.save_checkpoint(self.path)
            self._kept = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What the epoch leaves counts, too."""
        self._kept = time.monotonic()


class Kept(ModelCheckpoint):
    """Lightning's, which forgets what it kept when the folder of the run has been moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was kept to lie in the folder of now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: here(state_dict[name]) for name in names}
        super().load_state_dict(
            {**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": scores}
        )


class Patience(EarlyStopping):
    """Lightning's, which forgets that it had stopped when the run is resumed after its end."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again at once."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def command_to_resume(data: Any, run: Path, options: Mapping[str, Any]) -> str:
    """What a person types to go on with an interrupted training.

    Args:
        options: cache, devices and nodes as they were given; None for what was not.
    """
    words = ["frostbox", "train", data if isinstance(data, (str, Path)) else "DATA"]
    words += ["--out", run]
    for name, value in options.items():
        words += [f"--{name}", value] if value is not None else []
    words += ["--resume"]
    return shlex.join(map(str, words))
