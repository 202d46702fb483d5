"""One thread that predicts; what waits for it meanwhile is predicted together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from frostbox.data.transforms import Geometry
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.selection import Selection

_LOG = logging.getLogger("frostbox")


@dataclass(frozen=True)
class _Job:
    picture: Tensor
    geometry: Geometry
    selection: Selection
    found: Future[Detections] = field(default_factory=Future)


class Batcher:
    """A queue in front of a detector, which one thread at a time may use.

    Nobody waits for a batch to fill: it is what came while the last one was predicted.
    """

    def __init__(
        self, detector: Detector, batch: int, done: Callable[[int, float], None] = lambda *_: None
    ) -> None:
        """Start the thread.

        Args:
            batch: most pictures predicted together.
            done: told the pictures and seconds of each batch.
        """
        self._detector, self._done = detector, done
        # Pictures of any size do not fit into one tensor.
        self._batch = 1 if detector.settings.resize == "none" else batch
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="predict", daemon=True)
        self._thread.start()

    def submit(
        self, picture: Tensor, geometry: Geometry, selection: Selection
    ) -> Future[Detections]:
        """Have a picture predicted, uint8 (3, h, w) in the network's size.

        All selections that are submitted have the detector's own `flip`.
        """
        job = _Job(picture, geometry, selection)
        self._waiting.put(job)
        return job.found

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Predict what waits and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            jobs, over = [first], False
            while len(jobs) < self._batch and not over:
                try:
                    job = self._waiting.get_nowait()
                except queue.Empty:
                    break
                over = job is None
                jobs += [] if job is None else [job]
            self._predict(jobs)
            if over:
                return

    def _predict(self, jobs: list[_Job]) -> None:
        # Who was cut off while waiting needs no answer.
        jobs = [job for job in jobs if job.found.set_running_or_notify_cancel()]
        if not jobs:
            return
        started = time.perf_counter()
        try:
            answers = self._found(jobs)
        except Exception as error:  # whatever an engine raises: each of them waits for an answer
            _LOG.exception("a batch of %d pictures failed", len(jobs))
            for job in jobs:
                job.found.set_exception(error)
            return
        self._done(len(jobs), time.perf_counter() - started)
        for job, found in zip(jobs, answers, strict=True):
            job.found.set_result(found)

    def _found(self, jobs: list[_Job]) -> list[Detections]:
        pictures = torch.stack([job.picture for job in jobs])
        if jobs[0].selection.flip:
            pictures = torch.cat((pictures, pictures.flip(3)))
        raw = self._detector.run(pictures)
        geometries = [job.geometry for job in jobs]
        # Most ask for the same selection, so there is one turn; each more costs a millisecond.
        by_selection = {
            selection: self._detector.select(raw, geometries, selection)
            for selection in dict.fromkeys(job.selection for job in jobs)
        }
        return [by_selection[job.selection][k] for k, job in enumerate(jobs)]
