"""A net executed by OpenVINO."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from frostbox.errors import BackboneError
from frostbox.features.engine_contract import PRECISION_NAMES, Done, checked, failure_line, parts
from frostbox.features.pictures import Pictures, openvino_model
from frostbox.openvino_core import openvino_core


class OpenVinoEngine:
    """OpenVINO on the CPU."""

    kind = "openvino"

    def __init__(
        self,
        pictures: Pictures,
        size: tuple[int, int],
        batch_size: int | None,
        *,
        bf16: bool,
        latency: bool,
        reason: str,
    ) -> None:
        import openvino

        # Measured on 2 cores at 224 and 320: one picture a request beats 2, 4 and 8.
        self.batch_size = batch_size or 1
        self._size = size
        self.reason = reason
        hint = "LATENCY" if latency else "THROUGHPUT"
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            # Decoding threads share the cores: let the system move the engine out of their way.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = openvino_model(pictures, size, self.batch_size)
            compiled = openvino_core().compile_model(model, "CPU", settings)
        except (
            Exception
        ) as error:  # its front end and plugins raise bare Exception and RuntimeError
            raise BackboneError(
                f"OpenVINO cannot convert {pictures.name} ({failure_line(error)}); choose engine "
                "torch"
            ) from error
        # A CPU that cannot multiply bfloat16 may fall back to float32.
        used = compiled.get_property("INFERENCE_PRECISION_HINT")
        self.precision = "bf16" if used == openvino.Type.bf16 else "32"
        # Twice as many as run at a time: what computes need not wait for Python to bring the next.
        best = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = 1 if latency else 2 * best
        self._outputs = len(model.outputs)
        self._queue = openvino.AsyncInferQueue(compiled, self._requests)
        self._queue.set_callback(self._finish)
        self._errors: list[BaseException] = []
        self._version = openvino.__version__.split("-")[0]
        self._hint = hint.lower()

    @property
    def name(self) -> str:
        """See Engine."""
        return f"OpenVINO {self._version}, {PRECISION_NAMES[self.precision]} on cpu"

    @property
    def at_once(self) -> int:
        """Pictures under way when it is busy."""
        return self._requests * self.batch_size

    def describe(self) -> str:
        """See Engine."""
        return (
            f"{self.name}, {self._hint}, {self._requests} requests of {self.batch_size} "
            f"({self.reason})"
        )

    def run(self, images: Tensor) -> list[Tensor]:
        """See Engine."""
        checked(images, self._size)
        results: dict[int, list[Tensor]] = {}
        for place, part in enumerate(parts(images, self.batch_size)):
            self.submit(part, functools.partial(_keep, results, place))
        self.wait()
        ordered = [results[place] for place in range(len(results))]
        return [torch.cat(same) for same in zip(*ordered, strict=True)]

    def submit(self, images: Tensor, done: Done) -> None:
        """See Engine."""
        self._raise_error()
        count = len(images)
        pictures = checked(images, self._size).permute(0, 2, 3, 1).contiguous()
        if count > self.batch_size:
            raise ValueError(f"{count} pictures were submitted, at most {self.batch_size} fit")
        if count < self.batch_size:  # the compiled net has one batch size: fill up with black
            pictures = torch.cat([pictures, pictures.new_zeros(self._missing(count))])
        # The array travels with the request, so that its memory outlives this call.
        array = pictures.numpy()
        self._queue.start_async([array], (count, done, array), share_inputs=True)

    def wait(self) -> None:
        """See Engine."""
        self._queue.wait_all()
        self._raise_error()

    def _missing(self, count: int) -> tuple[int, int, int, int]:
        width, height = self._size
        return (self.batch_size - count, height, width, 3)

    def _finish(self, request: Any, userdata: tuple[int, Done, object]) -> None:
        count, done, _ = userdata
        try:
            tensors = [request.get_output_tensor(k).data[:count] for k in range(self._outputs)]
            done([torch.from_numpy(array) for array in tensors])
        except BaseException as error:  # would end OpenVINO's thread, and the program with it
            self._errors.append(error)

    def _raise_error(self) -> None:
        if self._errors:
            error, self._errors = self._errors[0], []
            raise error


def _keep(results: dict[int, list[Tensor]], place: int, maps: list[Tensor]) -> None:
    # By NumPy: this runs in OpenVINO's threads, and torch would give each of them helpers, beside
    # which all that is computed later is slower (threads.py).
    results[place] = [torch.from_numpy(feature.numpy().copy()) for feature in maps]
