"""How a frozen backbone is executed: uint8 pictures in, float16 feature maps out.

Normalisation and the conversion to float16 are part of what is executed, so that a picture crosses
into the engine as bytes and comes out as what the cache stores; a whole detector is executed the
same way (pictures.py). Engines agree with the backbone in float32 eager PyTorch within `TOLERANCE`,
with bfloat16 inside within `BF16_TOLERANCE`; they differ in speed only. Extraction submits pictures
and is called back in the engine's time; prediction calls `run`. No photo is read here.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from frostbox.errors import BackboneError, SettingsError
from frostbox.features.pictures import FeaturePictures, Pictures, openvino_model
from frostbox.precision import PRECISIONS, uses_bf16

if TYPE_CHECKING:
    from frostbox.backbones import Backbone

KINDS = ("auto", "torch", "compile", "openvino")

# Against float32 eager, as |a - b| <= TOLERANCE * max(|b| over the map): float16 keeps 11 bits
# (5e-4 of the value), and sums in another order add some 1e-5.
TOLERANCE = 1e-3
# Of the difference's norm as a share of the map's. bfloat16 keeps 8 bits of every value in between;
# measured: 0.02 to 0.07.
BF16_TOLERANCE = 0.1

_TRIED = 8  # pictures by eager PyTorch, and one by one where latency counts
_CLEARLY = 1.2  # times as fast
_NAMES = {"32": "float32", "bf16": "bfloat16"}
Done = Callable[[list[Tensor]], None]


class Engine(Protocol):
    """A backbone made ready for pictures of one size. Not to be used from several threads at once.

    Attributes:
        kind: "torch", "compile" or "openvino".
        precision: "32" or "bf16", inside; what comes out is float16.
        batch_size: pictures that `submit` handles best at a time.
    """

    kind: str
    precision: str
    batch_size: int

    @property
    def name(self) -> str:
        """What executes the net: program, version, precision, device. The same in every run."""

    def describe(self) -> str:
        """The same, how it is tuned, and why it was chosen, in one line."""

    def run(self, images: Tensor) -> list[Tensor]:
        """Feature maps of any number of pictures, waiting for them.

        Args:
            images: uint8 (B, 3, H, W); channels-last in memory saves a copy.

        Returns:
            On the CPU, one float16 (B, C, h, w) map per stride, finest first; or what else the
            executed `Pictures` give.
        """

    def submit(self, images: Tensor, done: Done) -> None:
        """Start 1 to `batch_size` pictures, and call `done(maps)` when they are ready.

        `done` may run in another thread, one call at a time for each submission; its maps are
        valid during the call only, so it copies what it keeps. An exception that it raises comes
        out of a later `submit` or of `wait`.
        """

    def wait(self) -> None:
        """Return when every submitted picture is done."""


def create_engine(
    kind: str,
    net: Backbone | Pictures,
    size: tuple[int, int],
    device: str = "cpu",
    *,
    precision: str = "32",
    latency: bool = False,
    batch_size: int | None = None,
) -> Engine:
    """The engine for pictures of one size.

    Args:
        kind: "torch" (eager), "compile" (torch.compile, which needs a C++ compiler and most of a
            minute), "openvino", or "auto": on a CPU OpenVINO where it is installed and can convert
            the net, unless a few pictures show that eager PyTorch is faster there; else PyTorch.
        net: a backbone, or other `Pictures`; stays as it is, the engine works on a copy.
        size: (width, height) of the pictures, in pixels.
        device: "cpu", "cuda", "cuda:1" or "mps".
        precision: "32", "bf16", or "auto": bf16 where the device computes with it.
        latency: tune for one picture at a time instead of for many.
        batch_size: pictures a submission; None for what is fast on the device.

    Raises:
        SettingsError: unknown kind or precision, or OpenVINO asked for where it is not to be had.
        BackboneError: OpenVINO or torch.compile was asked for and cannot take this net.
    """
    if kind not in KINDS:
        raise SettingsError(f"engine {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    if precision not in PRECISIONS:
        raise SettingsError(
            f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}"
        )
    bf16 = uses_bf16(precision, device)
    pictures = net if isinstance(net, Pictures) else FeaturePictures(net)
    installed = importlib.util.find_spec("openvino") is not None
    if kind == "openvino" and not device.startswith("cpu"):
        raise SettingsError(f"engine openvino runs on the CPU, not on {device}; choose torch")
    if kind == "openvino" and not installed:
        raise SettingsError("engine openvino needs the package openvino; run pip install openvino")
    reason = "asked for"
    most = batch_size or (1 if kind == "compile" and latency else None)
    torch_engine = functools.partial(TorchEngine, pictures, size, most, device=device)
    if kind in ("auto", "openvino") and device.startswith("cpu"):
        if installed:
            try:
                engine = OpenVinoEngine(
                    pictures, size, batch_size, bf16=bf16, latency=latency, reason=reason
                )
                if kind == "openvino":
                    return engine
                return _faster(engine, torch_engine(bf16=bf16, reason=""), size, latency)
            except BackboneError as error:
                if kind == "openvino":
                    raise
                reason = f"auto: {error}"
        else:
            reason = "auto: openvino is not installed"
    elif kind == "auto":
        reason = f"auto: the device is {device}"
    return torch_engine(bf16=bf16, reason=reason, compiled=kind == "compile")


def _faster(
    engine: OpenVinoEngine, other: TorchEngine, size: tuple[int, int], latency: bool
) -> Engine:
    """The faster of the two as it will be used; the first unless the other is clearly so."""
    width, height = size
    most = _TRIED if latency else max(_TRIED, 2 * engine.at_once)
    rivals: list[tuple[Engine, int]] = [(engine, most), (other, _TRIED)]
    speeds = []
    for tried, count in rivals:
        together = 1 if latency else count
        pictures = torch.zeros(together, 3, height, width, dtype=torch.uint8)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        tried.run(pictures)  # the first run allocates
        started = time.perf_counter()
        for _ in range(count // together):
            tried.run(pictures)
        speeds.append(count / (time.perf_counter() - started))
    if speeds[1] > _CLEARLY * speeds[0]:
        other.reason = f"auto: {speeds[1]:.0f} pictures/s here, OpenVINO {speeds[0]:.0f}"
        return other
    engine.reason = f"auto: {speeds[0]:.0f} pictures/s here, PyTorch {speeds[1]:.0f}"
    return engine


class TorchEngine:
    """PyTorch, channels-last, on any device; eager or compiled."""

    def __init__(
        self,
        pictures: Pictures,
        size: tuple[int, int],
        batch_size: int | None,
        *,
        device: str,
        bf16: bool,
        reason: str,
        compiled: bool = False,
    ) -> None:
        self.kind = "compile" if compiled else "torch"
        self.precision = "bf16" if bf16 else "32"
        self.device = torch.device(device)
        self.batch_size = batch_size or (16 if self.device.type == "cpu" else 64)
        self._size = size
        self.reason = reason
        net = copy.deepcopy(pictures).to(self.device)
        self._net = net.to(memory_format=torch.channels_last)
        self._run = torch.compile(self._net, dynamic=False) if compiled else self._net
        if compiled:
            self._try(pictures.name)

    @property
    def name(self) -> str:
        """See Engine."""
        return (
            f"PyTorch {torch.__version__}, {'compiled' if self.kind == 'compile' else 'eager'}, "
            f"channels-last, {_NAMES[self.precision]} on {self.device}"
        )

    def describe(self) -> str:
        """See Engine."""
        return f"{self.name} ({self.reason})"

    def _try(self, name: str) -> None:
        """Compile now, and say what is missing."""
        width, height = self._size
        try:
            self.run(torch.zeros(1, 3, height, width, dtype=torch.uint8))
        except Exception as error:  # dynamo's, inductor's and the compiler's share no base
            raise BackboneError(
                f"torch.compile fails with {name} here ({failure_line(error)}); it needs a C++ "
                "compiler on a CPU and Triton on CUDA; choose engine openvino or torch"
            ) from error

    @torch.inference_mode()
    def run(self, images: Tensor) -> list[Tensor]:
        """See Engine."""
        pictures = _checked(images, self._size).permute(0, 2, 3, 1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            parts = [
                [feature.cpu() for feature in self._of(part.to(self.device))]
                for part in _parts(pictures, self.batch_size)
            ]
        return [torch.cat(same).contiguous() for same in zip(*parts, strict=True)]

    def _of(self, pictures: Tensor) -> tuple[Tensor, ...]:
        count = len(pictures)
        if self.kind == "compile" and count < self.batch_size:
            # One size of batches, so that nothing is compiled again.
            rest = pictures.new_zeros(self.batch_size - count, *pictures.shape[1:])
            return tuple(m[:count] for m in self._run(torch.cat((pictures, rest))))
        maps: tuple[Tensor, ...] = self._run(pictures)
        return maps

    def submit(self, images: Tensor, done: Done) -> None:
        """See Engine."""
        done(self.run(images))

    def wait(self) -> None:
        """Nothing is left to wait for: `submit` has run to the end."""


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
            compiled = openvino.Core().compile_model(model, "CPU", settings)
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
        return f"OpenVINO {self._version}, {_NAMES[self.precision]} on cpu"

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
        _checked(images, self._size)
        results: dict[int, list[Tensor]] = {}
        for place, part in enumerate(_parts(images, self.batch_size)):
            self.submit(part, functools.partial(_keep, results, place))
        self.wait()
        ordered = [results[place] for place in range(len(results))]
        return [torch.cat(same) for same in zip(*ordered, strict=True)]

    def submit(self, images: Tensor, done: Done) -> None:
        """See Engine."""
        self._raise_error()
        count = len(images)
        pictures = _checked(images, self._size).permute(0, 2, 3, 1).contiguous()
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


def failure_line(error: Exception) -> str:
    """The first line of what an error says, or the error itself."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def _checked(images: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    if images.dtype != torch.uint8 or images.shape[1:] != (3, height, width):
        raise ValueError(
            f"the engine takes uint8 (B, 3, {height}, {width}) pictures, not {images.dtype} "
            f"{tuple(images.shape)}"
        )
    return images


def _parts(images: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _keep(results: dict[int, list[Tensor]], place: int, maps: list[Tensor]) -> None:
    results[place] = [feature.clone() for feature in maps]
