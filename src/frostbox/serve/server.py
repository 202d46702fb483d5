"""What `frostbox serve` does: load, prepare, open the port, answer until it is stopped."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from frostbox.errors import SettingsError
from frostbox.serve.limits import Limits

if TYPE_CHECKING:
    import uvicorn

    from frostbox.detector import Detector
    from frostbox.serve.guard import Guard

_NEEDED = ("fastapi", "gradio", "prometheus_client", "uvicorn", "python_multipart")
_CONNECTIONS = 512
_STOPS = (signal.SIGINT, signal.SIGTERM)
_UPLOADS = "frostbox-uploads-"
_GRACE = 10  # seconds for what is under way when the server is stopped


@dataclass(frozen=True)
class ServeSettings:
    """How a detector is served.

    Attributes:
        host, port: where; port 0 takes a free one.
        threshold: lowest score unless a request says otherwise; None for the detector's own.
        examples: files, folders or patterns of pictures that the page offers.
        limits: what is taken at most.
        engine, precision: as in `Detector.prepare`.
        device: auto, cpu, cuda or mps.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    threshold: float | None = None
    examples: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    engine: str = "auto"
    precision: str = "32"
    device: str = "auto"


def serve(
    model: str | Path, settings: ServeSettings, say: Callable[[str], None] = lambda _: None
) -> None:
    """Serve a detector until Ctrl-C or SIGTERM; requests under way are answered first.

    Args:
        model: the detector's file, or the folder of its run.
        say: told in one line each where the server is, and what to beware of.

    Raises:
        SettingsError: a package is missing, the port is taken, the host is not of this machine, or
            a setting is out of range.
        NotFoundError, CheckpointError: no detector there, or an unreadable one.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"frostbox serve needs {', '.join(missing)}: run pip install 'frostbox[serve]'"
        )
    with (
        _ended_in_order(),
        open_port(settings.host, settings.port) as door,
        _room_for_uploads() as uploads,
    ):
        app = build(model, settings, uploads)
        host, port = door.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        say(f"{model} on http://{name}:{port} (Ctrl-C stops it)")
        if not ipaddress.ip_address(host).is_loopback:
            say(
                "warning: whoever reaches this machine can use it, without password or encryption; "
                "put a reverse proxy in front (docs/serve.md)"
            )
        try:
            http_server(app).run(sockets=[door])
        except KeyboardInterrupt:  # raised again by uvicorn when all is over
            say("stopped")


@contextmanager
def _room_for_uploads() -> Iterator[Path]:
    """An empty folder for people's pictures; those of servers that were killed are removed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_UPLOADS}*/lock"):
        # Nobody else may say what is to be opened and removed here.
        if lock.is_symlink() or lock.parent.is_symlink() or not _own(lock.parent):
            continue
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.parent)
        except Timeout:
            continue  # of a server that runs
    with tempfile.TemporaryDirectory(prefix=_UPLOADS) as room, FileLock(Path(room) / "lock"):
        uploads = Path(room) / "pictures"
        uploads.mkdir()
        yield uploads


def _own(folder: Path) -> bool:
    return not hasattr(os, "geteuid") or folder.stat().st_uid == os.geteuid()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM, by which systemd and docker stop a service, ends it as Ctrl-C does.

    uvicorn raises a signal again when it is done; by its default, SIGTERM would kill the process
    before the folder of uploads is removed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, signal.default_int_handler) for s in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def http_server(app: Guard) -> uvicorn.Server:
    """uvicorn around an application."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE, server_header=False, ws="none",
    )  # fmt: skip
    return uvicorn.Server(config)


def build(model: str | Path, settings: ServeSettings, uploads: Path) -> Guard:
    """The whole application: page, routes and what stands in front of them.

    Args:
        uploads: an empty folder for pictures that are uploaded on the page.
    """
    from frostbox.detector import Detector
    from frostbox.serve.api import create_api
    from frostbox.serve.examples import find_examples
    from frostbox.serve.guard import Guard
    from frostbox.serve.page import mount_page, quiet_gradio
    from frostbox.serve.service import Service
    from frostbox.training import resolve_device

    quiet_gradio(uploads)
    path, limits = Path(model), settings.limits
    detector = Detector.load(path, resolve_device(settings.device))
    detector.configured(threshold=settings.threshold)
    examples = find_examples(path, detector.settings.classes, settings.examples, limits)
    prepare(detector, settings)
    service = Service(detector, limits)
    app = create_api(service, _called(path), examples)
    mount_page(app, detector.settings.selection.threshold, limits)
    guard = Guard(app, limits, service.meter, uploads)
    service.meter.watch(lambda: service.inside, lambda: guard.held)
    return guard


def prepare(detector: Detector, settings: ServeSettings) -> None:
    """Compile the engine, where there is one size to compile for."""
    if detector.settings.resize != "none":
        # Tuned for many, eight pictures take a quarter less; one at a time is for a batch of one.
        latency = settings.limits.batch == 1
        detector.prepare(settings.engine, precision=settings.precision, latency=latency)


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SettingsError: the port is taken or not allowed, or the host is not of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
            door.listen(128)
        except OSError:
            door.close()
            raise
        return door
    except (OSError, OverflowError) as error:
        reason = {
            errno.EADDRINUSE: "is in use: stop the other program, or give another one with --port",
            errno.EACCES: "is not allowed to you: give one above 1023 with --port",
        }.get(getattr(error, "errno", 0) or 0)
        if reason is not None:
            raise SettingsError(f"port {port} of {host} {reason}") from error
        raise SettingsError(
            f"--host {host} --port {port} cannot be opened ({error}): give an address of this "
            "machine, such as 127.0.0.1, and a port up to 65535"
        ) from error


def _called(model: Path) -> str:
    """A detector's name for people: that of its run, not best.safetensors."""
    path = model.resolve()
    return path.parent.name if path.name == "best.safetensors" else path.stem
