"""The figures of a server in Prometheus' form."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Meter:
    """Counts requests and batches; every server has a registry of its own."""

    def __init__(self, version: str, largest_batch: int) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        Gauge("frostbox_info", "Version of frostbox.", ["version"], registry=own).labels(
            version
        ).set(1)
        self._requests = Counter(
            "frostbox_requests", "Requests to /predict by status.", ["status"], registry=own
        )
        self._seconds = Histogram(
            "frostbox_request_seconds",
            "From the first byte of a request to /predict to the end of the answer, status 200.",
            registry=own,
            buckets=_SECONDS,
        )
        self._predicting = Histogram(
            "frostbox_batch_seconds",
            "Prediction of a batch.",
            registry=own,
            buckets=_SECONDS,
        )
        sizes = [1 << k for k in range(largest_batch.bit_length()) if 1 << k < largest_batch]
        self._batches = Histogram(
            "frostbox_batch_size",
            "Pictures predicted together.",
            registry=own,
            buckets=[*sizes, largest_batch],
        )
        self._queue = Gauge(
            "frostbox_queue_length", "Pictures decoded, waiting or predicted now.", registry=own
        )
        self._held = Gauge("frostbox_body_bytes", "Bytes of requests held in memory.", registry=own)

    def watch(self, queue: Callable[[], float], held: Callable[[], float]) -> None:
        """Functions that tell the length of the queue, and the bytes that are held."""
        self._queue.set_function(queue)
        self._held.set_function(held)

    def answered(self, status: int, seconds: float) -> None:
        """A request to /predict is over."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)

    def predicted(self, pictures: int, seconds: float) -> None:
        """A batch is over."""
        self._batches.observe(pictures)
        self._predicting.observe(seconds)

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)
