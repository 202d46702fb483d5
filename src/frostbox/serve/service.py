"""From the bytes of a picture to detections, for many who ask at a time."""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path

from frostbox._version import __version__
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.selection import Selection
from frostbox.serve.batching import Batcher
from frostbox.serve.limits import Limits, Refused
from frostbox.serve.metrics import Meter
from frostbox.serve.pictures import decode
from frostbox.threads import helping_threads

_DECODERS = 2
_SMOOTH = 0.1  # share of the newest batch in the mean time of a picture


class Service:
    """A detector with a door that shuts when too many wait.

    Attributes:
        detector: predicts; nobody else may use it meanwhile.
        limits: what is taken at most.
        meter: its figures.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.detector, self.limits = detector, limits
        self.meter = Meter(__version__, limits.batch)
        self._inside = 0
        self._mean = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="frostbox-serve-")
        self._decoders = helping_threads(_DECODERS, "decode")
        self._batcher = Batcher(detector, limits.batch, self._predicted)

    @property
    def inside(self) -> int:
        """Pictures that are decoded, wait or are predicted now."""
        return self._inside

    @property
    def healthy(self) -> bool:
        """Whether pictures can be predicted."""
        return self._batcher.alive

    def _predicted(self, pictures: int, seconds: float) -> None:
        self._mean += _SMOOTH * (seconds / pictures - self._mean)
        self.meter.predicted(pictures, seconds)

    async def predict(self, body: bytes, selection: Selection) -> Detections:
        """Find objects.

        Args:
            body: the bytes of a picture's file.
            selection: one of the detector's, `changed`.

        Raises:
            Refused: 503 when `limits.queue` pictures are inside already, 400, 413 or 415 for what
                is no picture or too large.
        """
        if self.inside >= self.limits.queue:
            wait = max(1, math.ceil(self.inside * self._mean))
            raise Refused(503, f"{self.inside} pictures wait already: try again.", wait)
        self._inside += 1
        try:
            loop = asyncio.get_running_loop()
            picture, geometry = await loop.run_in_executor(
                self._decoders, decode, body, self.detector, self.limits, Path(self._folder.name)
            )
            return await asyncio.wrap_future(self._batcher.submit(picture, geometry, selection))
        finally:
            self._inside -= 1

    def close(self) -> None:
        """Answer those who are inside, end all threads and remove the folder."""
        self._decoders.shutdown()
        self._batcher.close()
        self._folder.cleanup()
