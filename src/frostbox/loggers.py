"""Loggers by name: where the curves of a training go, besides the run's own metrics.csv.

`tensorboard` and `csv` write into the run's folder. `wandb` and `mlflow` write where their own
settings and environment variables say (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, ...). What
they get is settings, the figures of each epoch and the final ones: no photo, no weights, no code.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostbox.errors import SettingsError, one_line
from frostbox.files import write_whole
from frostbox.untrusted import parse_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")
NONE = "none"
RUNS = "loggers.json"  # ids of the runs elsewhere, which a resumed training goes on with
_EXTRAS = ("wandb", "mlflow")
PROJECT = "frostbox"
_EVENTS, _TABLES = "events", "csv"  # folders of the tensorboard and the csv logger
_FIGURES = ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75", "ece")


def logger_names(text: str) -> tuple[str, ...]:
    """The loggers of "tensorboard,wandb"; none of "none".

    Raises:
        SettingsError: an unknown name.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == (NONE,):
        return ()
    unknown = next((name for name in names if name not in LOGGERS), None)
    if unknown is not None:
        raise SettingsError(
            f"logger is '{text}', of which '{unknown}' is no logger: choose among "
            f"{', '.join(LOGGERS)}, with commas between several, or {NONE} alone"
        )
    return names


def check_installed(text: str) -> None:
    """Raise SettingsError for a logger whose library is missing, with the extra to install."""
    for name in logger_names(text):
        if name in _EXTRAS:
            # Offline runs lie in a folder of the library's name: that is no library.
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise SettingsError(
                    f"the {name} logger needs {name}: pip install 'frostbox[{name}]', or choose "
                    "another with --logger"
                )


def logged_folders(run: Path) -> list[Path]:
    """The folders of a run that hold what was logged."""
    tables = [p for p in run.glob("*") if re.fullmatch(rf"{_TABLES}(-\d+)?", p.name)]
    return [run / _EVENTS, *tables]


class RunLoggers:
    """The loggers of one training, through both of its phases.

    Args:
        run: the folder of the run; its name is that of the run elsewhere.
        resume: go on with the runs of an interrupted training.
    """

    def __init__(self, names: Sequence[str], run: Path, *, resume: bool) -> None:
        self.names, self.run, self.resume = names, run, resume
        self._open: dict[str, Any] = {}  # by name; each a Logger with an experiment of its own

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start the runs and log the settings, so that a login that is missing shows at once.

        Raises:
            SettingsError: wandb or mlflow cannot start a run.
        """
        for name in self.names:
            with _told(name):
                logger = self._made(name, self.run, "")
                logger.log_hyperparams(dict(settings))
            self._open[name] = logger
        ids = {name: self._open[name].version for name in _EXTRAS if name in self._open}
        if ids:
            write_whole(self.run / RUNS, json.dumps(ids))

    def of_phase(self, folder: Path, name: str) -> list[Logger]:
        """Loggers of a phase of the training, whose files lie in `folder`.

        Args:
            name: put before the names of its figures, where both phases share a run.
        """
        if folder == self.run:
            return list(self._open.values())
        return [self._made(logger, folder, name) for logger in self.names]

    def final(self, settings: Mapping[str, Any], figures: Mapping[str, Any] | None) -> None:
        """Log the settings as they were planned, and the figures of the detector that was kept.

        Args:
            figures: of suite.measure; None where nothing was measured.
        """
        from lightning.pytorch.loggers import TensorBoardLogger

        values = final_figures(figures) if figures is not None else {}
        for logger in self._open.values():
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(settings), values)  # its page of settings and results
            else:
                logger.log_hyperparams(dict(settings))
            if values:
                logger.log_metrics(values)
            logger.save()

    def close(self, *, whole: bool) -> None:
        """End the runs: `whole` unless the training broke off."""
        for name, logger in self._open.items():
            if name == "wandb":
                logger.experiment.finish(exit_code=0 if whole else 1)
            else:
                logger.finalize("success" if whole else "failed")

    def _made(self, name: str, folder: Path, phase: str) -> Logger:
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

        if name == "tensorboard":
            return TensorBoardLogger(folder, name="", version=_EVENTS, default_hp_metric=False)
        if name == "csv":
            return CSVLogger(folder, name="", version=_free(folder, _TABLES))
        return self._wandb(phase) if name == "wandb" else self._mlflow(phase)

    def _wandb(self, phase: str) -> Logger:
        from lightning.pytorch.loggers import WandbLogger

        first = self._open.get("wandb")
        if first is not None:
            return WandbLogger(prefix=phase, experiment=first.experiment, save_dir=self.run)
        return WandbLogger(
            name=self.run.name, save_dir=self.run, id=self._stored("wandb"), log_model=False,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
        )  # fmt: skip

    def _mlflow(self, phase: str) -> Logger:
        import mlflow
        from lightning.pytorch.loggers import MLFlowLogger

        first = self._open.get("mlflow")
        run_id = self._stored("mlflow") if first is None else str(first.version)
        return MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
            run_name=self.run.name,
            # Where `mlflow ui` looks, rather than Lightning's ./mlruns.
            tracking_uri=mlflow.get_tracking_uri(), run_id=run_id, prefix=phase,
        )  # fmt: skip

    def _stored(self, name: str) -> str | None:
        """The id of the run to go on with."""
        path = self.run / RUNS
        if not self.resume or not path.exists():
            return None
        try:
            found = parse_json(path.read_bytes()).get(name)
        except (ValueError, AttributeError) as error:
            raise SettingsError(
                f"{path} is damaged ({one_line(error)}): remove it, and a new run is begun there"
            ) from error
        return found if isinstance(found, str) else None


@contextmanager
def logging_to(
    text: str, run: Path, settings: Mapping[str, Any], *, resume: bool
) -> Iterator[RunLoggers]:
    """The loggers of a training, started with its settings, and ended with it."""
    loggers = RunLoggers(logger_names(text), run, resume=resume)
    whole = False
    try:
        loggers.begin(settings)
        yield loggers
        whole = True
    finally:
        loggers.close(whole=whole)


def final_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation (suite.measure) by flat names, those that there are."""
    values = {f"final/{name}": figures.get(name) for name in _FIGURES}
    intervals = figures.get("intervals") or {}
    for rule in ("ap50", "ap50_11point", "coco_ap"):
        for end, value in zip(("low", "high"), intervals.get(rule, ()), strict=False):
            values[f"final/{rule}_{end}"] = value
    for label, (name, value) in enumerate(figures["ap50_per_class"].items()):
        # mlflow strips other characters, and two names could become one.
        plain = name if re.fullmatch(r"[\w. -]+", name, re.ASCII) else f"class {label}"
        values[f"final/ap50/{plain}"] = value
    return {name: float(value) for name, value in values.items() if value is not None}


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors of these libraries as one sentence."""
    if name not in _EXTRAS:
        yield
        return
    library = importlib.import_module(name)
    base = library.Error if name == "wandb" else library.MlflowException
    try:
        yield
    except base as error:
        way_out = (
            "log in with `wandb login`, or set WANDB_MODE=offline"
            if name == "wandb"
            else "look whether MLFLOW_TRACKING_URI names a store that can be reached"
        )
        raise SettingsError(
            f"{name} cannot start a run ({' '.join(str(error).split())}): {way_out}, or leave it "
            "out of --logger"
        ) from error


def _free(folder: Path, name: str) -> str:
    """A folder that is not there yet: Lightning deletes what lies in one that is."""
    number, free = 2, name
    while (folder / free).exists():
        free, number = f"{name}-{number}", number + 1
    return free
